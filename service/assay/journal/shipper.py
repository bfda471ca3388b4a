"""Moving records from the journal to a sink: each once, in the order of its stream.

How it works
------------
Each process writes one stream. Its shipper ships that stream while it is written, and the streams
of processes that have died, one `StreamShipment` each. A stream's writer holds a file lock on it;
only the holder of the lock may ship the stream.

The sink stores a batch together with its position in one transaction. After any failure it is
unknown whether the batch was stored, so the shipment asks the sink for its position again and
continues there: nothing is lost and nothing is stored twice.

A segment is deleted only when its records are stored and a signed head that covers them is on disk
outside the database. Otherwise records could disappear from the database without a trace. A stream
that fails waits by itself, so that one stream never blocks the others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

from assay.journal.backoff import Backoff
from assay.journal.chain import genesis_link
from assay.journal.heads import ChainSigner
from assay.journal.layout import StreamClaim, claim_stream, segments, streams
from assay.journal.operating_system import REAL, FileOperations
from assay.journal.reader import StreamReader
from assay.journal.recovery import recover_stream
from assay.journal.sink import Sink, StreamPosition

_DRAIN_PAUSE = 0.01  # seconds


@dataclass(frozen=True, slots=True)
class ShippingPace:
    """Records per batch, seconds between looks for more, and the waits after failures."""

    batch: int = 500
    idle: float = 0.1
    backoff: Backoff = field(default_factory=Backoff)


_DEFAULT_PACE = ShippingPace()


class Shipper:
    """Ships the own stream and those of dead processes."""

    def __init__(  # noqa: PLR0913 - the last three have defaults
        self,
        directory: Path,
        sink: Sink,
        signer: ChainSigner,
        *,
        own: str | None = None,
        pace: ShippingPace = _DEFAULT_PACE,
        operations: FileOperations = REAL,
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
        self._shipments: dict[str, StreamShipment] = {}
        self._torn_in_done_streams = 0
        self._turn = Lock()
        self._stop = Event()

    def run(self) -> None:
        """Ship until `stop` is called."""
        try:
            while not self._stop.is_set():
                if not self._ship_batches():
                    self._stop.wait(self._pace.idle)
        finally:
            self._release()

    def stop(self) -> None:
        """End `run` after the current batch."""
        self._stop.set()

    def drain(self, timeout: float) -> bool:
        """Ship everything; return whether that was possible within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        try:
            while (shipped := self._ship_batches()) or self.behind or self.trouble:
                if time.monotonic() >= deadline:
                    return False
                if not shipped:
                    time.sleep(min(self._pace.idle, _DRAIN_PAUSE))
            return True
        finally:
            if self._stop.is_set():
                self._release()

    @property
    def behind(self) -> int:
        """Bytes in the journal that are not stored yet."""
        return sum(each.behind for each in tuple(self._shipments.values()))

    @property
    def torn(self) -> int:
        """Damaged places in the journal that were skipped."""
        torn = sum(each.torn for each in tuple(self._shipments.values()))
        return self._torn_in_done_streams + torn

    def _ship_batches(self) -> int:
        """Ship one batch of each stream; return the number of records."""
        with self._turn:
            for stream in streams(self._directory):
                if stream not in self._shipments:
                    path, own = self._directory / stream, stream == self._own
                    shipment = StreamShipment(path, self._signer, self._operations, own=own)
                    self._shipments[stream] = shipment
            shipped = sum(self._ship(each) for each in list(self._shipments.values()))
            if not any(each.failures for each in self._shipments.values()):
                self.trouble = None
            self.shipped += shipped
            return shipped

    def _ship(self, shipment: StreamShipment) -> int:
        if time.monotonic() < shipment.not_before:
            return 0
        try:
            shipped = shipment.ship(self._sink, self._pace.batch)
        except Exception as error:  # noqa: BLE001 - any sink; retried
            self.trouble = error
            self.failures += 1
            shipment.failures += 1
            shipment.not_before = time.monotonic() + self._pace.backoff.wait(shipment.failures)
            return 0
        shipment.failures = 0
        if shipment.done:
            self._torn_in_done_streams += shipment.torn
            del self._shipments[shipment.stream]
        return shipped

    def _release(self) -> None:
        with self._turn:
            for shipment in self._shipments.values():
                shipment.release()
            self._shipments.clear()


class StreamShipment:
    """Ships one stream batch by batch: the own one while it is written, others once abandoned."""

    def __init__(
        self, path: Path, signer: ChainSigner, operations: FileOperations, *, own: bool
    ) -> None:
        self.path = path
        self.stream = path.name
        self.failures = 0  # in a row
        self.not_before = 0.0
        self.done = False
        self.torn = 0
        self._own = own
        self._signer = signer
        self._operations = operations
        self._claim: StreamClaim | None = None
        self._recovered = False
        self._reader: StreamReader | None = None
        self._position = StreamPosition(1, 0, 0, genesis_link(self.stream))

    def ship(self, sink: Sink, limit: int) -> int:
        """Ship one batch and delete segments no longer needed; return the number of records."""
        if not self._is_ready():
            return 0
        reader = self._reader or self._begin(sink)
        # INVARIANT: after a failure below, `_reader` is None: the sink's position is read again.
        self._reader = None
        torn = reader.torn
        frames = reader.read(limit)
        self.torn += reader.torn - torn
        if frames:
            before = self._position
            records, seq, link = self._signer.chain_frames(frames, before.seq, before.chain)
            position = StreamPosition(reader.segment, reader.offset, seq, link)
            sink.store(self.stream, records, position, self._signer.sign(self.stream, position))
            self._position = position
            self._signer.publish(self.stream, position)
        if reader.finished or any(number < reader.segment for number in segments(self.path)):
            self._signer.publish(self.stream, self._position, now=True)
            reader.remove_before(reader.segment + reader.finished)
        if reader.finished and self._claim is not None:
            self._claim.remove(self._operations)
            self._signer.forget(self.stream)
            self.release()
            self.done = True
        self._reader = reader
        return len(frames)

    def _is_ready(self) -> bool:
        """Return whether this process may ship the stream; recover an abandoned one first."""
        if self._claim is None:
            self._claim = claim_stream(self.path, self._operations)
        if self._claim is None:
            self.done = not self.path.is_dir()
            return self._own and not self.done
        if not self._recovered:
            recover_stream(self._claim, self._operations)
            self._recovered = True
            if self._reader is not None:
                self._reader.final = True
        return True

    def _begin(self, sink: Sink) -> StreamReader:
        at = sink.position(self.stream) or StreamPosition(1, 0, 0, genesis_link(self.stream))
        known = self._signer.newest_head(self.stream)
        if known and known.seq > at.seq and at.segment not in segments(self.path):
            # The sink was restored to an older state, and the records it lost are deleted here:
            # continue the numbers, so that the gap is visible.
            at = StreamPosition(at.segment, at.offset, known.seq, known.chain)
        self._position = at
        final = self._claim is not None
        return StreamReader(
            self.path, at.segment, at.offset, final=final, operations=self._operations
        )

    @property
    def behind(self) -> int:
        """Bytes that are not stored yet."""
        if self.done or (self._claim is None and not self._own):
            return 0
        if self._reader is not None:
            return self._reader.behind
        return max(StreamReader(self.path, self._position.segment, self._position.offset).behind, 1)

    def release(self) -> None:
        """Let other processes ship this stream."""
        if self._claim is not None:
            self._claim.release()
        self._claim = self._reader = None
        self._recovered = False
