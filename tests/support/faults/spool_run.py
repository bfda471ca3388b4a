"""A spool's whole life with file faults: append, send, restart, send, then count what arrived."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.faults.file_faults import GOOD, FaultyFiles, FileFault
from tests.support.faults.invariants import require_none

from assay.forward.spool import Spool, SpoolUnavailable
from assay.journal.operating_system import REAL, FileOperations
from assay.v1 import evidence_pb2 as pb

OUTCOMES = 12
STARTS = 3
ROUNDS = 40
ROUND_SECONDS = 10.0


@dataclass
class SpoolRun:
    """One run in a directory of its own, with at most one fault."""

    place: Path
    fault: FileFault | None = None
    appended: list[str] = field(default_factory=list)
    batches: dict[str, list[str]] = field(default_factory=dict)
    lost: int = 0
    now: float = 0.0
    story: list[str] = field(default_factory=list)

    def live_and_check(self) -> list[str]:
        """Run to the end, check, and return the file operations of the part that may fail."""
        files = FaultyFiles(self.place)
        files.arm(self.fault)
        with files.watching():
            for _ in range(2):
                spool = self._start(files.operations)
                if spool is not None:
                    self._live(spool)
        calls = list(files.calls)
        files.arm(None)
        spool = self._start(REAL)
        assert spool is not None
        self._send_all(spool)
        self._end(spool)
        self._check(spool)
        shutil.rmtree(self.place)
        return calls

    def _start(self, operations: FileOperations) -> Spool | None:
        """Start as a supervisor does: again, if it fails."""
        for _ in range(STARTS):
            try:
                return Spool(self.place, operations=operations, steady=lambda: self.now)
            except SpoolUnavailable as error:
                self.story.append(str(error))
        return None

    def _live(self, spool: Spool) -> None:
        for number in range(OUTCOMES):
            decision_id = f"decision-{len(self.appended)}"
            spool.append(pb.Outcome(decision_id=decision_id))
            self.appended.append(decision_id)
            if number % 4 == 3:
                spool.seal()
                self._send(spool)
        self._end(spool)

    def _end(self, spool: Spool) -> None:
        spool.close()
        self.lost += spool.lost

    def _send_all(self, spool: Spool) -> None:
        for _ in range(ROUNDS):
            if not spool.waiting:
                return
            self._send(spool)

    def _send(self, spool: Spool) -> None:
        """Send what is due to a service that counts each batch id once."""
        spool.seal()
        spool.repeat_failed()
        while (batch := spool.next_batch()) is not None:
            request = spool.read(batch)
            if request is not None:
                ids = [each.decision_id for each in request.outcomes]
                self.batches.setdefault(request.batch_id, ids)
                spool.remove(batch)
        self.now += ROUND_SECONDS

    def _check(self, spool: Spool) -> None:
        arrived = Counter(each for ids in self.batches.values() for each in ids)
        missing = [each for each in self.appended if each not in arrived]
        violations = [f"{each} arrived {n} times" for each, n in arrived.items() if n > 1]
        if len(missing) > self.lost:
            violations.append(f"{missing} are missing, {self.lost} are counted as lost")
        if self.lost and (self.fault is None or self.fault.calls != GOOD):
            violations.append(f"{self.lost} outcomes are lost by a fault that passed")
        violations += [f"{path.name} is left" for path in spool.waiting]
        require_none(violations, f"fault: {self.fault}", *self.story)
