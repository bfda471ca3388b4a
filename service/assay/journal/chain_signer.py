"""Who chains records, signs heads and sees to it that they are known outside the database."""

from __future__ import annotations

import time
from collections.abc import Iterable

from assay.journal.chain import Head, HeadSigner, chain_link
from assay.journal.frame import Frame
from assay.journal.heads import HeadFile
from assay.journal.sink import JournalRecord, StreamPosition

INTERVAL = 10.0  # seconds


class ChainSigner:
    """Chains the records of some kinds; publishes heads now and then, and always before segments are deleted."""

    def __init__(
        self,
        signer: HeadSigner,
        heads: HeadFile,
        chained: frozenset[int],
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._signer = signer
        self._heads = heads
        self._chained = chained
        self._interval = interval
        self._published = {head.stream: head for head in heads.read()}
        self._due: dict[str, float] = {}

    def link(
        self, frames: Iterable[Frame], seq: int, link: bytes
    ) -> tuple[list[JournalRecord], int, bytes]:
        """The frames as records, and the number and link of the last one chained."""
        records: list[JournalRecord] = []
        for frame in frames:
            if frame.kind in self._chained:
                seq += 1
                link = chain_link(link, seq, frame.kind, frame.payload)
                records.append(JournalRecord(seq, frame.kind, frame.payload, link))
            else:
                records.append(JournalRecord(0, frame.kind, frame.payload, None))
        return records, seq, link

    def head(self, stream: str, position: StreamPosition) -> Head:
        """The signed head of a stream at this position."""
        return self._signer.sign(stream, position.seq, position.chain)

    def known(self, stream: str) -> Head | None:
        """The newest head of a stream outside the database."""
        return self._published.get(stream)

    def publish(self, stream: str, position: StreamPosition, *, now: bool = False) -> None:
        """Make a head known outside the database, unless it is or was a moment ago and may wait."""
        known = self._published.get(stream)
        at = time.monotonic()
        if position.seq <= (known.seq if known else 0) or not (
            now or at >= self._due.get(stream, at)
        ):
            return
        head = self.head(stream, position)
        self._heads.append(head)
        self._published[stream] = head
        self._due[stream] = at + self._interval

    def forget(self, stream: str) -> None:
        """There will be no more of this stream."""
        self._published.pop(stream, None)
        self._due.pop(stream, None)
