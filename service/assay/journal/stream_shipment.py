"""One stream on its way to the sink, and how often that failed."""

from __future__ import annotations

from pathlib import Path

from assay.journal.chain import genesis_link
from assay.journal.chain_signer import ChainSigner
from assay.journal.layout import StreamClaim, claim_stream, segments
from assay.journal.operating_system import FileOperations
from assay.journal.reader import StreamReader
from assay.journal.recovery import recover_stream
from assay.journal.sink import Sink, StreamPosition


class StreamShipment:
    """Ships a stream batch by batch: the own one while it is written, others once their process is gone."""

    def __init__(
        self, path: Path, notary: ChainSigner, operations: FileOperations, *, own: bool
    ) -> None:
        self.path = path
        self.stream = path.name
        self.failures = 0  # in a row
        self.not_before = 0.0
        self.done = False
        self.torn = 0
        self._own = own
        self._notary = notary
        self._operations = operations
        self._claim: StreamClaim | None = None
        self._recovered = False
        self._reader: StreamReader | None = None
        self._position = StreamPosition(1, 0, 0, genesis_link(self.stream))

    def ship(self, sink: Sink, limit: int) -> int:
        """Hand over the next batch and delete what is no longer needed; says how many records there were."""
        if not self._ready():
            return 0
        reader = self._reader or self._begin(sink)
        self._reader = (
            None  # INVARIANT: after any failure in here the sink is asked again how far it got
        )
        count = self._hand_over(reader, sink, limit)
        if reader.finished or any(number < reader.segment for number in segments(self.path)):
            self._notary.publish(self.stream, self._position, now=True)
            reader.remove_before(reader.segment + reader.finished)
        if reader.finished and self._claim is not None:
            self._claim.remove(self._operations)
            self._notary.forget(self.stream)
            self.release()
            self.done = True
        self._reader = reader
        return count

    def _ready(self) -> bool:
        """Whether the stream is ours to ship; one that was left behind is put in order first."""
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
        known = self._notary.known(self.stream)
        if known and known.seq > at.seq and at.segment not in segments(self.path):
            # The sink was set back and what it lost is deleted here: leave a gap for all to see, as the numbers go on.
            at = StreamPosition(at.segment, at.offset, known.seq, known.chain)
        self._position = at
        final = self._claim is not None
        return StreamReader(
            self.path, at.segment, at.offset, final=final, operations=self._operations
        )

    def _hand_over(self, reader: StreamReader, sink: Sink, limit: int) -> int:
        torn = reader.torn
        frames = reader.read(limit)
        self.torn += reader.torn - torn
        if frames:
            records, seq, link = self._notary.link(frames, self._position.seq, self._position.chain)
            position = StreamPosition(reader.segment, reader.offset, seq, link)
            sink.store(self.stream, records, position, self._notary.head(self.stream, position))
            self._position = position
            self._notary.publish(self.stream, position)
        return len(frames)

    @property
    def behind(self) -> int:
        """Bytes that are not stored yet."""
        if self.done or (self._claim is None and not self._own):
            return 0
        if self._reader is not None:
            return self._reader.behind
        return max(StreamReader(self.path, self._position.segment, self._position.offset).behind, 1)

    def release(self) -> None:
        """Let others ship this stream."""
        if self._claim is not None:
            self._claim.release()
        self._claim = self._reader = None
        self._recovered = False
