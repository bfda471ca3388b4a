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


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """A record to store; outside the chain it has number 0 and no link."""

    seq: int
    kind: int
    payload: bytes
    chain: bytes | None


class Sink(Protocol):
    """Stores records; after an exception it is unknown whether they were stored."""

    def position(self, stream: str) -> StreamPosition | None:
        """Return how far this stream is stored, as of the last commit."""

    def store(
        self, stream: str, records: Sequence[JournalRecord], position: StreamPosition, head: Head
    ) -> None:
        """Store records, position and head of one stream in one transaction."""
