"""Moving records from the journal to a sink: each once, in the order of its stream.

How it works
------------
Each process writes one stream. Its shipper ships that stream while it is written, and the streams
of processes that have died, one `StreamShipment` each. A stream's writer holds a file lock on it;
only the holder of the lock may ship the stream.

A stream that fails waits by itself, so that one stream never blocks the others. A directory that
cannot be listed is such a failure, too. What is stored is kept for a grace period, within bounds
over all streams.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

from assay.journal.backoff import Backoff
from assay.journal.heads import ChainSigner
from assay.journal.layout import streams
from assay.journal.operating_system import REAL, FileOperations
from assay.journal.reader import StreamReader
from assay.journal.shipment import GracePeriod, ShippingCounts, StoredSegment, StreamShipment
from assay.journal.sink import PositionChanged, Sink

_DRAIN_PAUSE = 0.01  # seconds


@dataclass(frozen=True, slots=True)
class ShippingPace:
    """Records per batch, seconds between looks for more, the waits after failures, the grace."""

    batch: int = 500
    idle: float = 0.1
    backoff: Backoff = field(default_factory=Backoff)
    grace: GracePeriod = field(default_factory=GracePeriod)


DEFAULT_PACE = ShippingPace()


class Shipper:
    """Ships the own stream and those of dead processes."""

    def __init__(  # noqa: PLR0913 - the last five have defaults
        self,
        directory: Path,
        sink: Sink,
        signer: ChainSigner,
        *,
        own: str | None = None,
        pace: ShippingPace = DEFAULT_PACE,
        operations: FileOperations = REAL,
        needs_space: Callable[[], bool] = lambda: False,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shipped = 0
        self.failures = 0
        self.trouble: Exception | None = None  # the last failure, until every stream ships again
        self._directory = directory
        self._sink = sink
        self._signer = signer
        self._own = own
        self._pace = pace
        self._operations = operations
        self._needs_space = needs_space
        self._steady = steady
        self._shipments: dict[str, StreamShipment] = {}
        self._in_done_streams = ShippingCounts()
        self._turn = Lock()
        self._stop, self._wake = Event(), Event()

    def run_round(self) -> bool:
        """Ship a batch of each stream, or wait; return whether there are more rounds."""
        if not self._ship_batches():
            self._wake.wait(self._pace.idle)
            self._wake.clear()
        if not self._stop.is_set():
            return True
        self._ship_batches()  # publishes the last head of a stream that has ended
        self._release()
        return False

    def stop(self) -> None:
        """End the rounds after the current batch and one more."""
        self._stop.set()
        self._wake.set()

    def wake(self) -> None:
        """Look for more at once."""
        self._wake.set()

    def drain(self, timeout: float) -> bool:
        """Ship everything; return whether that was possible within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        try:
            while (shipped := self._ship_batches()) or not self.is_done:
                if time.monotonic() >= deadline:
                    return False
                if not shipped:
                    time.sleep(min(self._pace.idle, _DRAIN_PAUSE))
            return True
        finally:
            if self._stop.is_set():
                self._release()

    @property
    def is_done(self) -> bool:
        """Whether everything in the journal is stored, as far as is known."""
        return self.trouble is None and self.behind == 0

    @property
    def behind(self) -> int | None:
        """Bytes in the journal that are not stored yet; None if the journal cannot be read."""
        shipments = dict(self._shipments)
        try:
            others = [name for name in self._names() if name not in shipments]
            unread = [max(StreamReader(self._directory / name).behind, 1) for name in others]
            return sum(each.behind for each in shipments.values()) + sum(unread)
        except OSError:
            return None

    @property
    def kept(self) -> int:
        """Bytes in the journal that are stored and not deleted yet."""
        return sum(each.size for each in self._kept_segments())

    @property
    def counts(self) -> ShippingCounts:
        """What shipping met so far, in all streams."""
        counts = ShippingCounts()
        for each in (self._in_done_streams, *(s.counts for s in tuple(self._shipments.values()))):
            counts.add(each)
        return counts

    def _kept_segments(self) -> list[StoredSegment]:
        shipments = tuple(self._shipments.values())
        return [kept for each in shipments for kept in tuple(each.kept.values())]

    def _ship_batches(self) -> int:
        """Ship one batch of each stream; return the number of records."""
        with self._turn:
            is_listed = self._list_streams()
            forced = self._forced_deletion()
            surplus = self._surplus_streams()
            shipped = 0
            for each in list(self._shipments.values()):
                shipped += self._ship(each, math.inf if each.stream in surplus else forced)
            if is_listed and not any(each.failures for each in self._shipments.values()):
                self.trouble = None
            self.shipped += shipped
            return shipped

    def _list_streams(self) -> bool:
        """Find new streams; return whether the directory could be read."""
        try:
            found = self._names()
        except OSError as error:
            self.trouble = error
            self.failures += 1
            return False
        for stream in found:
            if stream not in self._shipments:
                self._shipments[stream] = StreamShipment(
                    self._directory / stream,
                    self._signer,
                    self._operations,
                    self._pace.grace,
                    own=stream == self._own,
                )
        return True

    def _names(self) -> list[str]:
        """Return the streams on disk; a process that writes one needs the directory."""
        if self._own is not None and not self._directory.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(self._directory))
        return streams(self._directory)

    def _forced_deletion(self) -> float:
        """Return the time up to which stored segments are deleted whatever the grace period."""
        grace = self._pace.grace
        if self._needs_space() or _free_bytes(self._directory) < grace.spare_bytes:
            return math.inf
        kept = self._kept_segments()
        if sum(each.size for each in kept) > grace.most_bytes:
            size = 0
            for each in sorted(kept, reverse=True):
                size += each.size
                if size > grace.most_bytes:
                    return each.stored_at
        return -math.inf

    def _surplus_streams(self) -> set[str]:
        """Return the finished streams beyond the bound, those first that were stored first."""
        finished = [each for each in self._shipments.values() if each.is_finished]
        surplus = len(finished) - self._pace.grace.most_streams
        if surplus <= 0:
            return set()
        finished.sort(key=lambda each: (max(each.kept.values(), default=()), each.stream))
        return {each.stream for each in finished[:surplus]}

    def _ship(self, shipment: StreamShipment, forced: float) -> int:
        now = self._steady()
        if not shipment.is_due(now, forced):
            return 0
        try:
            shipped = shipment.ship(self._sink, self._pace.batch, now, forced)
        except PositionChanged:
            return 0  # its next round reads the position again
        except Exception as error:  # noqa: BLE001 - any sink; retried
            self.trouble = error
            self.failures += 1
            shipment.failures += 1
            shipment.not_before = now + self._pace.backoff.wait(shipment.failures)
            return 0
        shipment.failures = 0
        if shipment.is_done:
            self._in_done_streams.add(shipment.counts)
            del self._shipments[shipment.stream]
        return shipped

    def _release(self) -> None:
        with self._turn:
            for shipment in self._shipments.values():
                shipment.release()
            self._shipments.clear()


def _free_bytes(directory: Path) -> float:
    """Return how many bytes the disk has left, or infinity if that is unknown."""
    try:
        room = os.statvfs(directory)
    except OSError:
        return math.inf
    return room.f_bavail * room.f_frsize
