"""Moving records from the journal to a sink: every one once, in the order of its stream, for as long as it takes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

from assay.journal.chain_signer import ChainSigner
from assay.journal.layout import streams
from assay.journal.operating_system import REAL, FileOperations
from assay.journal.sink import Sink
from assay.journal.stream_shipment import StreamShipment

SHORT = 0.01


@dataclass(frozen=True, slots=True)
class ShippingPace:
    """How much at a time, how often to look for more, and how long to wait after failures (full jitter), in seconds."""

    batch: int = 500
    idle: float = 0.1
    first_wait: float = 0.1
    longest_wait: float = 5.0
    draw: Callable[[], float] = random.random

    def wait(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        return self.draw() * min(self.longest_wait, self.first_wait * 2.0 ** min(failures - 1, 60))


class Shipper:
    """Ships the own stream and those whose process is gone; each stream waits for itself when it fails."""

    def __init__(  # noqa: PLR0913 - the last three have defaults
        self,
        directory: Path,
        sink: Sink,
        notary: ChainSigner,
        *,
        own: str | None = None,
        pace: ShippingPace = ShippingPace(),
        operations: FileOperations = REAL,
    ) -> None:
        self.shipped = 0
        self.failures = 0
        self.trouble: Exception | None = None  # of the last failure, until all is well again
        self._directory = directory
        self._sink = sink
        self._notary = notary
        self._own = own
        self._pace = pace
        self._operations = operations
        self._consignments: dict[str, StreamShipment] = {}
        self._torn = 0  # of streams that are done
        self._turn = Lock()
        self._stop = Event()

    def run(self) -> None:
        """Ship until told to stop."""
        try:
            while not self._stop.is_set():
                if not self._round():
                    self._stop.wait(self._pace.idle)
        finally:
            self._release()

    def stop(self) -> None:
        """End `run` after the batch in hand."""
        self._stop.set()

    def drain(self, timeout: float) -> bool:
        """Ship everything there is; says whether that was possible in time."""
        deadline = time.monotonic() + timeout
        try:
            while (shipped := self._round()) or self.behind or self.trouble:
                if time.monotonic() >= deadline:
                    return False
                if not shipped:
                    time.sleep(min(self._pace.idle, SHORT))
            return True
        finally:
            if self._stop.is_set():
                self._release()

    @property
    def behind(self) -> int:
        """Bytes in the journal that are not in the sink yet."""
        return sum(each.behind for each in tuple(self._consignments.values()))

    @property
    def torn(self) -> int:
        """How many places in the journal were damaged and skipped."""
        return self._torn + sum(each.torn for each in tuple(self._consignments.values()))

    def _round(self) -> int:
        """One batch of each stream."""
        with self._turn:
            for stream in streams(self._directory):
                if stream not in self._consignments:
                    path, own = self._directory / stream, stream == self._own
                    self._consignments[stream] = StreamShipment(
                        path, self._notary, self._operations, own=own
                    )
            shipped = sum(self._ship(each) for each in list(self._consignments.values()))
            if not any(each.failures for each in self._consignments.values()):
                self.trouble = None
            self.shipped += shipped
            return shipped

    def _ship(self, consignment: StreamShipment) -> int:
        if time.monotonic() < consignment.not_before:
            return 0
        try:
            shipped = consignment.ship(self._sink, self._pace.batch)
        except Exception as error:  # noqa: BLE001 - the sink may raise anything; told in `trouble`, and tried again
            self.trouble = error
            self.failures += 1
            consignment.failures += 1
            consignment.not_before = time.monotonic() + self._pace.wait(consignment.failures)
            return 0
        consignment.failures = 0
        if consignment.done:
            self._torn += consignment.torn
            del self._consignments[consignment.stream]
        return shipped

    def _release(self) -> None:
        with self._turn:
            for consignment in self._consignments.values():
                consignment.release()
            self._consignments.clear()
