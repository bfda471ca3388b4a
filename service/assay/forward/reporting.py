"""Outcomes on their way to EvidenceService: stored on disk at once, sent in batches.

How it works
------------
The spool is a directory with one file `BATCH_ID.outcomes` per batch. The file is the serialized
`ReportOutcomesRequest` itself: protobuf merges concatenated messages, so the first record sets
`source` and `batch_id`, and each outcome is appended with one `write` as a request that holds
nothing else. A crash of the process loses nothing, since written bytes are the kernel's; a record
that finds no room is cut off again, so that a file always ends with a whole record.

`OutcomeReporter` seals the open batch and sends the oldest until the service acknowledges it. Then
it deletes the file. The service counts a batch id once, so sending it again, also by the next
process, changes nothing. A batch that is rejected for good is renamed to `*.refused` for the
operator. File names are UUIDv7, so their order is the order of time.

INVARIANT: one process uses a spool at a time (`lock`), and only the first batch is removed.

Why not the segments of `assay.journal`: the journal serves many threads, is signed, and ships from
a position that its sink stores in the same transaction. EvidenceService knows batch ids instead, so
a second store would have to map positions to batches, each acknowledged or set aside as a whole.
The spool takes about 90 lines, `append` takes as long as the journal's (10 to 17 µs), and batches
that an earlier version left behind would need this reader in any case.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections import Counter, deque
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

import grpc
import structlog
from google.protobuf.message import DecodeError

from assay.engine.errors import OperatorError, quoted
from assay.journal.backoff import Backoff
from assay.journal.uuid7 import uuid7
from assay.v1 import evidence_pb2 as pb, evidence_pb2_grpc

MAX_BATCH: Final = 1000
_SOURCE: Final = "forward"
_LINGER_SECONDS: Final = 0.2
_TIMEOUT_SECONDS: Final = 10.0
_BACKOFF: Final = Backoff(first=0.1, longest=5.0)
_MAX_BYTES: Final = 1 << 30
_SUFFIX: Final = ".outcomes"
_CLOSED: Final = -1
_PERMANENT: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE})
log = structlog.get_logger("assay.forward")


class SpoolUnavailable(OperatorError):
    """The spool's directory cannot be used."""

    def __init__(self, directory: Path, why: str) -> None:
        super().__init__(f"spool: {quoted(str(directory))}: {why}")


class Spool:
    """A directory of batches in the order of time; the last one may be open."""

    def __init__(self, directory: Path, max_bytes: int = _MAX_BYTES) -> None:
        self.directory = directory
        self.lost = 0
        self._max_bytes = max_bytes
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpoolUnavailable(directory, "another process uses this spool") from None
        except OSError as error:
            raise SpoolUnavailable(directory, error.strerror or "cannot be written") from error
        self.waiting = deque(sorted(directory.glob(f"*{_SUFFIX}")))
        self.bytes = sum(path.stat().st_size for path in self.waiting)
        self._file = _CLOSED
        self._size = self._count = 0

    def append(self, outcome: pb.Outcome) -> bool:
        """Store an outcome and return whether its batch is full.

        An outcome that finds no room is counted in `lost`.
        """
        if self._file == _CLOSED or self._count == MAX_BATCH:
            self._open()
        if not self._write(pb.ReportOutcomesRequest(outcomes=(outcome,))):
            self.lost += 1
            log.error("outcome lost: the spool has no room", waiting_bytes=self.bytes)
        self._count += 1
        return self._count == MAX_BATCH

    def _open(self) -> None:
        self.seal()
        path = self.directory / f"{uuid7(time.time_ns() // 1_000_000)}{_SUFFIX}"
        with suppress(OSError):
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self.waiting.append(path)
            self._write(pb.ReportOutcomesRequest(source=_SOURCE, batch_id=path.stem))

    def _write(self, part: pb.ReportOutcomesRequest) -> bool:
        """Append a part of the open batch as a whole or not at all."""
        record = part.SerializeToString()
        if self._file == _CLOSED or self.bytes + len(record) > self._max_bytes:
            return False
        try:
            if os.write(self._file, record) < len(record):
                os.ftruncate(self._file, self._size)
                return False
        except OSError:
            return False
        self._size += len(record)
        self.bytes += len(record)
        return True

    def seal(self) -> None:
        """Close the open batch; the next outcome begins another."""
        if self._file != _CLOSED:
            os.close(self._file)
        self._file, self._size, self._count = _CLOSED, 0, 0

    def read_first(self) -> pb.ReportOutcomesRequest | None:
        """Return the oldest batch; one that cannot be read is set aside."""
        try:
            return pb.ReportOutcomesRequest.FromString(self.waiting[0].read_bytes())
        except (DecodeError, OSError):
            self.set_first_aside("cannot be read")
            return None

    def delete_first(self) -> None:
        """Delete the oldest batch."""
        self._remove_first().unlink()

    def set_first_aside(self, why: str) -> None:
        """Rename the oldest batch, for the operator to inspect."""
        path = self._remove_first()
        log.error("batch of outcomes rejected", batch=path.name, why=why)
        path.rename(path.with_suffix(".refused"))

    def _remove_first(self) -> Path:
        path = self.waiting.popleft()
        self.bytes -= path.stat().st_size
        return path

    def close(self) -> None:
        """Seal the open batch and release the directory."""
        self.seal()
        os.close(self._lock)


class OutcomeReporter:
    """Stores outcomes in the spool, and sends its batches while `run` runs."""

    def __init__(self, spool: Spool, channel: grpc.aio.Channel) -> None:
        self.spool = spool
        self.rejected: Counter[str] = Counter()
        self.sent = 0
        self._report = evidence_pb2_grpc.EvidenceServiceStub(channel).ReportOutcomes
        self._has_outcomes = asyncio.Event()
        if spool.waiting:
            self._has_outcomes.set()
        self._at_once = asyncio.Event()

    def report(self, outcome: pb.Outcome, *, at_once: bool) -> None:
        """Store an outcome; it survives the end of this process from now on."""
        if self.spool.append(outcome) or at_once:
            self._at_once.set()
        self._has_outcomes.set()

    async def run(self) -> None:
        """Send batches until cancelled, at the latest 0.2 seconds after an outcome."""
        while True:
            await self._has_outcomes.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._at_once.wait(), _LINGER_SECONDS)
            self._has_outcomes.clear()
            self._at_once.clear()
            try:
                await self.flush()
            except Exception as error:  # noqa: BLE001 - reporting continues with the next outcome
                log.error("reporting failed", error=type(error).__name__)  # noqa: TRY400 - short

    async def flush(self) -> None:
        """Send what waits now; retry while the service is not available."""
        self.spool.seal()
        for _ in range(len(self.spool.waiting)):
            if (batch := self.spool.read_first()) is not None:
                await self._send(batch)

    async def _send(self, batch: pb.ReportOutcomesRequest) -> None:
        for failures in count(1):
            try:
                answer = await self._report(batch, timeout=_TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code in _PERMANENT:
                    return self.spool.set_first_aside(error.details() or "")
                waiting = len(self.spool.waiting)
                log.warning("outcomes not sent yet", code=code.name, waiting=waiting)
                await asyncio.sleep(_BACKOFF.wait(failures))
            else:
                self.spool.delete_first()
                self.sent += answer.accepted
                self.rejected.update(each.reason for each in answer.refused)
                if answer.refused:
                    reasons = dict(self.rejected)
                    log.warning("outcomes rejected", batch=batch.batch_id, reasons=reasons)
                return None
        return None
