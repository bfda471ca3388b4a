"""Chaining records, signing heads, and publishing heads outside the database."""

from __future__ import annotations

import time
from collections.abc import Iterable

from assay.journal.chain import Head, HeadSigner, chain_link
from assay.journal.frame import Frame
from assay.journal.heads import HeadFile
from assay.journal.sink import JournalRecord, StreamPosition

INTERVAL = 10.0  # seconds


class ChainSigner:
    """Chains the records of some kinds, and publishes signed heads at intervals.

    A head is always published before segments it covers are deleted.
    """

    def __init__(
        self,
        signer: HeadSigner,
        heads: HeadFile,
        chained_kinds: frozenset[int],
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._signer = signer
        self._heads = heads
        self._chained_kinds = chained_kinds
        self._interval = interval
        self._published = {head.stream: head for head in heads.read()}
        self._due: dict[str, float] = {}

    def chain_frames(
        self, frames: Iterable[Frame], seq: int, link: bytes
    ) -> tuple[list[JournalRecord], int, bytes]:
        """Return the frames as records, with the number and link of the last chained one."""
        records: list[JournalRecord] = []
        for frame in frames:
            if frame.kind in self._chained_kinds:
                seq += 1
                link = chain_link(link, seq, frame.kind, frame.payload)
                records.append(JournalRecord(seq, frame.kind, frame.payload, link))
            else:
                records.append(JournalRecord(0, frame.kind, frame.payload, None))
        return records, seq, link

    def sign(self, stream: str, position: StreamPosition) -> Head:
        """Return the signed head of a stream at this position."""
        return self._signer.sign(stream, position.seq, position.chain)

    def newest_head(self, stream: str) -> Head | None:
        """Return the newest published head of a stream."""
        return self._published.get(stream)

    def publish(self, stream: str, position: StreamPosition, *, now: bool = False) -> None:
        """Publish a head, unless it is known, or the last one is recent and not `now`."""
        newest = self._published.get(stream)
        at = time.monotonic()
        if position.seq <= (newest.seq if newest else 0):
            return
        if not now and at < self._due.get(stream, at):
            return
        head = self.sign(stream, position)
        self._heads.append(head)
        self._published[stream] = head
        self._due[stream] = at + self._interval

    def forget(self, stream: str) -> None:
        """Drop the state of a stream that has ended."""
        self._published.pop(stream, None)
        self._due.pop(stream, None)
