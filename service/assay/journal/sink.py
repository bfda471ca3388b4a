"""What the shipper sends, and what it requires of the place that stores it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from assay.journal.chain import Head


class RecordKind(IntEnum):
    """What a record holds; the numbers are stored."""

    DECISION = 1
    TENANT = 2
    OUTCOMES = 3


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """How far a stream is stored.

    `segment` and `offset` are the end of the last frame, `seq` and `chain` are number and link of
    the last chained record.
    """

    segment: int
    offset: int
    seq: int
    chain: bytes

    @property
    def place(self) -> tuple[int, int]:
        """Segment and offset, by which positions are compared."""
        return self.segment, self.offset


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """A record to store; outside the chain it has number 0 and no link."""

    seq: int
    kind: int
    payload: bytes
    chain: bytes | None


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of one stream with the positions before and after them, and the head at the end.

    `begin` is the position that the sink returned or stored last; None if it had none.
    """

    begin: StreamPosition | None
    end: StreamPosition
    records: Sequence[JournalRecord]
    head: Head

    @property
    def stream(self) -> str:
        """The name of the stream."""
        return self.head.stream

    def may_follow(self, stored: StreamPosition | None) -> bool:
        """Return whether the batch leaves no gap after what is stored."""
        if self.begin is None or self.begin == stored:
            return True
        return stored is not None and stored.place > self.begin.place


class PositionChanged(Exception):
    """The stored position is before the begin of a batch: the database lost its newest commits."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"stream {stream}: the stored position is before the records to store")


class Sink(Protocol):
    """Stores records; after an exception it is unknown whether they were stored."""

    def position(self, stream: str) -> StreamPosition | None:
        """Return how far this stream is stored, as of the last commit."""

    def store(self, batch: RecordBatch) -> None:
        """Store records, position and head of one stream in one transaction.

        Records that the stored position covers are left out. If it is before the batch's begin,
        raise PositionChanged and store nothing.
        """
