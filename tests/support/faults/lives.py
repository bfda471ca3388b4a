"""One life of a process that journals and ships: the real parts, stepped by hand, without threads.

`LogLife` opens a journal and its shipper as `DecisionLogWriter` does. The journal's janitor runs
before records and batches instead of every ten milliseconds: the same steps make the same calls.
`drop` is a death: nothing is finished or flushed; the operating system closes the files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine

from assay.decision_log.sink import LogSink
from assay.decision_log.writer import HEADS, KEY
from assay.journal.backoff import Backoff
from assay.journal.chain import HeadSigner
from assay.journal.errors import JournalError
from assay.journal.heads import ChainSigner, HeadFile
from assay.journal.operating_system import REAL, FileOperations
from assay.journal.recovery import recover
from assay.journal.shipment import GracePeriod
from assay.journal.shipper import Shipper, ShippingPace
from assay.journal.sink import RecordKind
from assay.journal.writer import Journal

SEGMENT_BYTES = 16 << 10
SELDOM = 1e6  # seconds between rounds of the syncer: it works only when it is asked to
AT_ONCE = Backoff(0.0, 0.0)


class LogLife:
    """A journal and its shipper from recovery to `close` or `drop`."""

    def __init__(
        self,
        directory: Path,
        database: Engine,
        operations: FileOperations = REAL,
        *,
        mode: Literal["write", "sync"] = "write",
        batch: int = 5,
        head_interval: float = 0.0,
        tick: float = SELDOM,
        grace: float = 0.0,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        recover(directory, operations)
        self.signer = HeadSigner(directory / KEY, operations)
        self.heads = HeadFile(directory / HEADS, operations)
        chain_signer = ChainSigner(
            self.signer,
            self.heads,
            frozenset({RecordKind.DECISION}),
            interval=head_interval,
            steady=steady,
        )
        self.journal = Journal(
            directory,
            mode=mode,
            segment_bytes=SEGMENT_BYTES,
            tick=tick,
            operations=operations,
            steady=steady,
        )
        self._is_stepped = tick == SELDOM
        if self._is_stepped:
            self._end_janitor()
        self.sink = LogSink(database)
        kept = GracePeriod(seconds=grace)
        pace = ShippingPace(batch=batch, idle=0.0, backoff=AT_ONCE, grace=kept)
        self.shipper = Shipper(
            directory,
            self.sink,
            chain_signer,
            own=self.journal.stream,
            pace=pace,
            operations=operations,
            needs_space=lambda: self.journal.is_full,
            steady=steady,
        )

    def _end_janitor(self) -> None:
        self.journal._stop.set()
        self.journal._janitor.join()

    def tidy(self) -> None:
        """Run one round of the janitor."""
        self.journal._rotation._retry_at = 0.0
        self.journal._tidy()

    def append(self, kind: int, payload: bytes) -> None:
        """Append a record; raises JournalError."""
        if self._is_stepped and not self.journal._rotation.current.has_room:
            self.tidy()
        self.journal.append(kind, payload)

    def ship(self) -> bool:
        """Ship one batch of each stream; return whether everything is stored."""
        if self._is_stepped:
            self.tidy()  # a damaged segment is shipped once it is sealed
        return self.shipper.drain(0.0)

    def close(self) -> None:
        """End as a server does: reject further records, ship what is possible, release the files.

        Raises JournalError if the journal cannot be closed; its files are released all the same.
        """
        try:
            self.journal.close()
        finally:
            self.shipper.stop()
            self.shipper.drain(0.0)

    def drop(self) -> None:
        """Die: only the descriptors are closed, as the operating system does."""
        self.journal.closed = True
        with suppress(JournalError, OSError):
            self.journal._syncer.stop()
        for segment in self.journal._rotation.unsealed:
            if not segment._closed:
                segment._closed = True
                os.close(segment.descriptor)
        self.journal._claim.release()
        self.shipper.stop()
        self.shipper._release()


def ship_the_rest(directory: Path, database: Engine, rounds: int = 200) -> LogLife:
    """Recover and ship everything without faults, as the next process would; return its life."""
    life = LogLife(directory, database, batch=500)
    life.journal.close()
    ship_until_done(life.ship, rounds)
    life.shipper.stop()
    life.shipper.drain(0.0)
    return life


def ship_until_done(ship: Callable[[], bool], rounds: int) -> None:
    """Ship round by round until everything is stored."""
    for _ in range(rounds):
        if ship():
            return
    raise AssertionError(f"not everything is stored after {rounds} rounds")
