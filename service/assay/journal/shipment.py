"""The shipping of one stream: batch by batch from its position, then a grace period.

How it works
------------
The sink stores a batch together with its position in one transaction, and only if the position
before the batch is stored. After any failure it is unknown whether the batch was stored, so the
shipment asks the sink for its position again and continues there: nothing is lost and nothing is
stored twice.

A database may lose its newest commits, by a failover to a replica that lags or by a restored
backup. The sink then rejects the next batch, or an idle shipment notices it within `check` seconds.
In both cases the shipment continues from the older position. So stored segments are kept for a
while, see `GracePeriod`, and so are the streams of dead processes, whose locks are released.

A segment is deleted only when its records are stored and a signed head that covers them is on disk
outside the database. Otherwise records could disappear from the database without a trace.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from assay.journal.chain import genesis_link
from assay.journal.frame import Frame
from assay.journal.heads import ChainSigner
from assay.journal.layout import StreamClaim, claim_stream, remove, segment_path, segments
from assay.journal.operating_system import FileOperations
from assay.journal.reader import StreamReader
from assay.journal.recovery import recover_stream
from assay.journal.sink import RecordBatch, Sink, StreamPosition

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class GracePeriod:
    """How long segments are kept after they are stored, and within which bounds.

    They are deleted at once beyond `most_bytes` or `most_streams` of dead processes, oldest first,
    and if the disk has less than `spare_bytes` left. The sink's position is read again after
    `check` seconds.
    """

    seconds: float = 600.0
    most_bytes: int = _GIB
    most_streams: int = 30
    spare_bytes: int = _GIB // 8
    check: float = 5.0


@dataclass(slots=True)
class ShippingCounts:
    """Damaged places, how often the sink had lost commits, and decisions that it lost for good."""

    torn: int = 0
    rewinds: int = 0
    lost: int = 0

    def add(self, other: ShippingCounts) -> None:
        """Add the counts of a stream."""
        self.torn += other.torn
        self.rewinds += other.rewinds
        self.lost += other.lost


class StoredSegment(NamedTuple):
    """When a segment was seen to be stored as a whole, and its length."""

    stored_at: float
    size: int


class StreamShipment:
    """Ships one stream batch by batch: the own one while it is written, others once abandoned."""

    def __init__(
        self,
        path: Path,
        signer: ChainSigner,
        operations: FileOperations,
        grace: GracePeriod,
        *,
        own: bool,
    ) -> None:
        self.path = path
        self.stream = path.name
        self.failures = 0  # in a row
        self.not_before = 0.0
        self.is_finished = False  # the stream ended and is stored; what is kept has its grace
        self.is_done = False  # nothing is left on disk
        self.kept: dict[int, StoredSegment] = {}
        self.counts = ShippingCounts()
        self._own = own
        self._signer = signer
        self._operations = operations
        self._grace = grace
        self._claim: StreamClaim | None = None
        self._is_held_elsewhere = False
        self._recovered = False
        self._reader: StreamReader | None = None
        self._stored: StreamPosition | None = None  # what the sink returned or stored last
        self._position = StreamPosition(1, 0, 0, genesis_link(self.stream))
        self._gap = (0, 0)  # the numbers around decisions that are lost for good
        self._check_at = -math.inf

    def is_due(self, now: float, forced: float) -> bool:
        """Return whether there may be something to ship, to check or to delete."""
        if now < self.not_before:
            return False
        is_waiting = self.is_finished and self.kept and now < self._check_at
        return not is_waiting or any(each.stored_at <= forced for each in self.kept.values())

    def ship(self, sink: Sink, limit: int, now: float, forced: float) -> int:
        """Ship one batch and delete segments no longer needed; return the number of records.

        Stored segments are deleted after the grace period, and up to the time `forced` also while
        the sink is away.
        """
        if not self._is_ready():
            return 0
        self._delete(forced)
        reader = self._reader or self._begin(sink, now)
        # INVARIANT: after a failure below, `_reader` is None: the sink's position is read again.
        self._reader = None
        torn = reader.torn
        frames = reader.read(limit)
        self.counts.torn += reader.torn - torn
        if frames:
            self._store(sink, frames, reader)
            self._check_at = now + self._grace.check
        elif now >= self._check_at:
            if sink.position(self.stream) != self._stored:
                return 0
            self._check_at = now + self._grace.check
        self._keep(reader, now)
        self._delete(max(forced, now - self._grace.seconds))
        self._reader = reader
        if reader.finished and self._claim is not None:
            self._finish(self._claim)
        return len(frames)

    def _store(self, sink: Sink, frames: Iterable[Frame], reader: StreamReader) -> None:
        before = self._position
        records, seq, link = self._signer.chain_frames(frames, before.seq, before.chain)
        end = StreamPosition(reader.segment, reader.offset, seq, link)
        sink.store(RecordBatch(self._stored, end, records, self._signer.sign(self.stream, end)))
        self._stored = self._position = end
        self._signer.publish(self.stream, end)

    def _keep(self, reader: StreamReader, now: float) -> None:
        """Note which segments are stored as a whole, once a head that covers them is on disk."""
        new = [number for number in reader.read_segments if number not in self.kept]
        if new or reader.finished:
            self._signer.publish(self.stream, self._position, now=True)
        for number in new:
            size = segment_path(self.path, number).stat().st_size
            self.kept[number] = StoredSegment(now, size)

    def _delete(self, until: float) -> None:
        """Delete the kept segments that were stored up to this time."""
        for number, kept in sorted(self.kept.items()):
            if kept.stored_at <= until:
                remove(segment_path(self.path, number), self._operations)
                del self.kept[number]

    def _finish(self, claim: StreamClaim) -> None:
        """Release the stream of a dead process, and delete it if nothing of it is left."""
        self.is_finished = True
        if not self.kept:
            claim.remove(self._operations)
            self._signer.forget(self.stream)
            self.is_done = True
        self.release()

    def _is_ready(self) -> bool:
        """Return whether this process may ship the stream; recover an abandoned one first."""
        if self._claim is None:
            self._claim = claim_stream(self.path, self._operations)
        if self._claim is None:
            self.is_done = not self.path.is_dir()
            self._is_held_elsewhere = not self._own
            return self._own and not self.is_done
        self._is_held_elsewhere = False
        if not self._recovered:
            recover_stream(self._claim, self._operations)
            self._recovered = True
            if self._reader is not None:
                self._reader.final = True
        return True

    def _begin(self, sink: Sink, now: float) -> StreamReader:
        """Return a reader at the sink's position, which may be before the last known one."""
        stored = sink.position(self.stream)
        at = stored or StreamPosition(1, 0, 0, genesis_link(self.stream))
        if at.place < self._position.place:
            self.counts.rewinds += 1
            self.is_finished = False
            self.kept = {n: kept for n, kept in self.kept.items() if n < at.segment}
        self._stored = stored
        if at.segment not in segments(self.path):
            known = self._signer.newest_head(self.stream)
            if known and known.seq > at.seq:
                # The sink was restored to an older state, and the records it lost are deleted
                # here: continue the numbers, so that the gap is visible.
                if self._gap != (gap := (at.seq, known.seq)):
                    self.counts.lost += known.seq - at.seq
                self._gap = gap
                at = StreamPosition(at.segment, at.offset, known.seq, known.chain)
        self._position = at
        self._check_at = now + self._grace.check
        return StreamReader(
            self.path,
            at.segment,
            at.offset,
            final=self._claim is not None,
            operations=self._operations,
        )

    @property
    def behind(self) -> int:
        """Bytes that are not stored yet."""
        if self.is_done or self._is_held_elsewhere:
            return 0
        if (reader := self._reader) is not None:
            return reader.behind
        position = self._position
        left = StreamReader(self.path, position.segment, position.offset).behind
        return left if self.is_finished else max(left, 1)

    def release(self) -> None:
        """Let other processes ship this stream."""
        if self._claim is not None:
            self._claim.release()
        self._claim = self._reader = None
