"""A journal's whole life with file faults: append, rotate, ship, restart, ship, then check."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine
from tests.support.faults.file_faults import GOOD, FaultyFiles, FileFault, Kind
from tests.support.faults.invariants import (
    Promises,
    Witnesses,
    count_violations,
    log_violations,
    require_none,
)
from tests.support.faults.lives import LogLife, ship_the_rest
from tests.support.faults.workload import (
    encode_decision,
    make_batch,
    make_decision_id,
    traffic_of_hour,
)

from assay.journal.errors import JournalError
from assay.journal.sink import RecordKind
from assay.outcomes.checks import HOUR_US
from assay.outcomes.outcome import encode_outcomes
from assay.store.database import open_database

HOUR = 495_312
AT_US = HOUR * HOUR_US
RECORDS = 18
STARTS = 3
CODES = (errno.ENOSPC, errno.EIO, errno.EMFILE)
KINDS: tuple[Kind, ...] = ("refused", "short", "torn", "done")
LASTING = (1, 6, GOOD)


@dataclass
class FileRun:
    """One run in a directory of its own, with at most one fault."""

    place: Path
    fault: FileFault | None = None
    promises: Promises = field(default_factory=Promises)
    story: list[str] = field(default_factory=list)
    number: int = 0

    def __post_init__(self) -> None:
        self.directory = self.place / "journal"
        self.files = FaultyFiles(self.directory)
        self.files.arm(self.fault)

    def live_and_check(self, template: Path) -> list[str]:
        """Run to the end, check, and return the file operations of the part that may fail."""
        self.place.mkdir()
        shutil.copyfile(template, self.place / "assay.db")
        database = open_database(f"sqlite:///{self.place / 'assay.db'}")
        try:
            with self.files.watching():
                self._live(database, close=True)
                self._live(database, close=False)
            calls = list(self.files.calls)
            self.files.arm(None)
            self._check(database)
        finally:
            database.dispose()
            shutil.rmtree(self.place)
        return calls

    def _live(self, database: Engine, *, close: bool) -> None:
        life = self._start(database)
        if life is None:
            return
        for number in range(RECORDS):
            self._append(life)
            if number % 5 == 4:
                life.ship()
        if close:
            try:
                life.close()
            except (JournalError, OSError) as error:
                self.story.append(f"close: {error!r}")
        else:
            life.drop()

    def _start(self, database: Engine) -> LogLife | None:
        """Start as a supervisor does: again, if it fails."""
        for _ in range(STARTS):
            try:
                return LogLife(self.directory, database, self.files.operations)
            except (JournalError, OSError) as error:
                self.story.append(f"start: {error!r}")
        return None

    def _append(self, life: LogLife) -> None:
        """Append a decision, or every sixth time a batch of outcomes."""
        self.number += 1
        batch_name, decision_id = None, ""
        if self.number % 6 == 0:
            parts = traffic_of_hour(HOUR, 0, 60)
            batch = make_batch(f"batch-{self.number}", AT_US, parts, self.promises.answered[-2:])
            batch_name = self.promises.send(batch)
            kind, payload = RecordKind.OUTCOMES, encode_outcomes(batch)
        else:
            decision_id = make_decision_id(self.number)
            self.promises.attempted.add(decision_id)
            kind, payload = RecordKind.DECISION, encode_decision(decision_id, AT_US)
        try:
            life.append(kind, payload)
        except JournalError as error:
            self.story.append(f"append {self.number}: {error!r}")
            return
        if batch_name:
            self.promises.acknowledged.add(batch_name)
        else:
            self.promises.answered.append(decision_id)

    def _check(self, database: Engine) -> None:
        life = ship_the_rest(self.directory, database)
        known = Witnesses({life.signer.key_id: life.signer.public_key}, life.heads.read())
        require_none(
            [
                *log_violations(database, self.promises, known),
                *count_violations(database, self.promises),
            ],
            f"fault: {self.fault}",
            *self.story,
        )


def enumerate_faults(calls: list[str]) -> Iterator[FileFault]:
    """Yield every fault of every call of an undisturbed run."""
    for number, name in enumerate(calls):
        for kind in KINDS if name == "write" else ("refused", "done"):
            for code in CODES:
                for lasting in LASTING:
                    yield FileFault(number, kind, code, lasting)
