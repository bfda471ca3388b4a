"""Outcomes on their way to EvidenceService: kept on disk from the answer on, sent in batches, let go once acknowledged.

A file is one batch under its id and is itself the request as bytes: protobuf joins messages that stand one after
another. A batch is sent until it is acknowledged, also by the next process, and counts once.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
import uuid
from collections import Counter, deque
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Final

import grpc
import structlog
from google.protobuf.message import DecodeError

from assay.engine.errors import OperatorError, quoted
from assay.v1 import evidence_pb2 as pb, evidence_pb2_grpc

SOURCE: Final = "forward"
MOST: Final = 1000
LINGER_SECONDS: Final = 0.2
TIMEOUT_SECONDS: Final = 10.0
BACKOFF_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
ROOM_BYTES: Final = 1 << 30
SUFFIX: Final = ".outcomes"
CLOSED: Final = -1
FOR_GOOD: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE})
log = structlog.get_logger("assay.forward")


class SpoolUnavailable(OperatorError):
    """Outcomes cannot be kept where they are told to be."""

    def __init__(self, directory: Path, why: str) -> None:
        super().__init__(f"spool: {quoted(str(directory))}: {why}")


class Spool:
    """A directory of batches, one of them open; of one process at a time."""

    def __init__(self, directory: Path, room: int = ROOM_BYTES) -> None:
        self.directory = directory
        self.lost = 0
        self._room = room
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpoolUnavailable(directory, "another process keeps its outcomes there") from None
        except OSError as error:
            raise SpoolUnavailable(directory, error.strerror or "cannot be written") from error
        self.waiting = deque(sorted(directory.glob(f"*{SUFFIX}")))
        self.bytes = sum(path.stat().st_size for path in self.waiting)
        self._file = CLOSED
        self._size = self._count = 0

    def append(self, outcome: pb.Outcome) -> bool:
        """Keep an outcome; whether its batch is full. What finds no room is counted as lost."""
        if self._file == CLOSED or self._count == MOST:
            self._open()
        if not self._write(pb.ReportOutcomesRequest(outcomes=(outcome,))):
            self.lost += 1
            log.error("outcome lost: the spool takes no more", waiting_bytes=self.bytes)
        self._count += 1
        return self._count == MOST

    def _open(self) -> None:
        self.seal()
        path = self.directory / f"{new_batch_id()}{SUFFIX}"
        with suppress(OSError):
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self.waiting.append(path)
            self._write(pb.ReportOutcomesRequest(source=SOURCE, batch_id=path.stem))

    def _write(self, part: pb.ReportOutcomesRequest) -> bool:
        """Append a part of a batch whole or not at all."""
        record = part.SerializeToString()
        if self._file == CLOSED or self.bytes + len(record) > self._room:
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
        """Begin another batch with the next outcome."""
        if self._file != CLOSED:
            os.close(self._file)
        self._file, self._size, self._count = CLOSED, 0, 0

    def first(self) -> pb.ReportOutcomesRequest | None:
        """The batch that has waited longest, if it can be read; one that cannot is put aside."""
        try:
            return pb.ReportOutcomesRequest.FromString(self.waiting[0].read_bytes())
        except (DecodeError, OSError):
            self.refuse("cannot be read")
            return None

    def done(self) -> None:
        """Let go of the first batch."""
        path = self._let_go()
        path.unlink()

    def refuse(self, why: str) -> None:
        """Put the first batch aside for people to look at."""
        path = self._let_go()
        log.error("batch of outcomes refused for good", batch=path.name, why=why)
        path.rename(path.with_suffix(".refused"))

    def _let_go(self) -> Path:
        path = self.waiting.popleft()
        self.bytes -= path.stat().st_size
        return path

    def close(self) -> None:
        """Leave the directory to the next process."""
        self.seal()
        os.close(self._lock)


def new_batch_id() -> uuid.UUID:
    """A UUIDv7: names of files are in the order of time."""
    chance = uuid.uuid4().int & ~(0xFFFF_FFFF_FFFF << 80 | 0xF << 76)
    return uuid.UUID(int=time.time_ns() // 1_000_000 << 80 | 7 << 76 | chance)


class OutcomeReporter:
    """Sends what the spool holds while its task runs."""

    def __init__(self, spool: Spool, channel: grpc.aio.Channel) -> None:
        self.spool = spool
        self.refused: Counter[str] = Counter()
        self.sent = 0
        self._report = evidence_pb2_grpc.EvidenceServiceStub(channel).ReportOutcomes
        self._some = asyncio.Event()
        if spool.waiting:
            self._some.set()
        self._at_once = asyncio.Event()

    def report(self, outcome: pb.Outcome, *, at_once: bool) -> None:
        """Take an outcome: kept on return, whatever becomes of this process."""
        if self.spool.append(outcome) or at_once:
            self._at_once.set()
        self._some.set()

    async def run(self) -> None:
        """Send batches until cancelled."""
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._at_once.wait(), LINGER_SECONDS)
            self._some.clear()
            self._at_once.clear()
            try:
                await self.flush()
            except Exception as error:  # noqa: BLE001 - whatever it is, reporting goes on with the next outcome
                log.error("reporting failed", error=type(error).__name__)  # noqa: TRY400 - a traceback says no more

    async def flush(self) -> None:
        """Send what waits by now, again and again where the service is away."""
        self.spool.seal()
        for _ in range(len(self.spool.waiting)):
            if (batch := self.spool.first()) is not None:
                await self._send(batch)

    async def _send(self, batch: pb.ReportOutcomesRequest) -> None:
        for wait in chain(BACKOFF_SECONDS, repeat(BACKOFF_SECONDS[-1])):
            try:
                answer = await self._report(batch, timeout=TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() in FOR_GOOD:
                    return self.spool.refuse(error.details() or "")
                log.warning(
                    "outcomes wait for the service",
                    code=error.code().name,
                    waiting=len(self.spool.waiting),
                )
                await asyncio.sleep(wait)
            else:
                self.spool.done()
                self.sent += answer.accepted
                self.refused.update(each.reason for each in answer.refused)
                if answer.refused:
                    log.warning(
                        "outcomes refused", batch=batch.batch_id, reasons=dict(self.refused)
                    )
                return None
        return None
