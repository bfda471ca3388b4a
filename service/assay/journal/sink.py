"""What the shipper hands over, and what it asks of a place that keeps it."""

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
    """How far a stream was stored: the place behind the last frame, number and link of the last chained record."""

    segment: int
    offset: int
    seq: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """A frame on its way; a kind that takes no part in the chain has number 0 and no link."""

    seq: int
    kind: int
    payload: bytes
    chain: bytes | None


class Sink(Protocol):
    """Keeps records; any exception means that it is not known whether they were kept."""

    def position(self, stream: str) -> StreamPosition | None:
        """How far this stream was stored, as of the last transaction that was committed."""

    def store(
        self, stream: str, records: Sequence[JournalRecord], position: StreamPosition, head: Head
    ) -> None:
        """Keep records, position and head of one stream in one transaction."""
