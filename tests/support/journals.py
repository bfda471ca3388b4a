"""Journals for tests: a sink in memory, faults at the k-th operation, and invariants."""

from __future__ import annotations

import errno
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from itertools import count, pairwise
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from assay.journal.backoff import Backoff
from assay.journal.chain import Head, HeadSigner, chain_link, genesis_link, verify_head
from assay.journal.frame import Frame
from assay.journal.heads import ChainSigner, HeadFile
from assay.journal.layout import streams
from assay.journal.operating_system import REAL, FileOperations
from assay.journal.reader import StreamReader
from assay.journal.shipment import GracePeriod
from assay.journal.shipper import Shipper, ShippingPace
from assay.journal.sink import JournalRecord, PositionChanged, RecordBatch, Sink, StreamPosition

CHAINED, LOOSE = 1, 2
PATIENCE = 20.0

Fault = Literal["refused", "half done", "for good"]


def until(condition: Callable[[], object]) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)


def make_payload(thread: int, number: int, size: int = 40) -> bytes:
    return b"%d:%d:" % (thread, number) + b"x" * size


def thread_and_number(record: bytes) -> tuple[int, int]:
    thread, number, _ = record.split(b":", 2)
    return int(thread), int(number)


def read_frames(directory: Path, names: Sequence[str] | None = None) -> list[Frame]:
    """Return all frames of all streams, whose writers have ended."""
    frames: list[Frame] = []
    for name in streams(directory) if names is None else names:
        reader = StreamReader(directory / name, final=True)
        while found := reader.read(1000):
            frames += found
        assert reader.finished
    return frames


@dataclass
class MemorySink:
    """Stores records in lists; a fault may strike before or after a transaction."""

    rows: dict[str, list[JournalRecord]] = field(default_factory=lambda: defaultdict(list))
    positions: dict[str, StreamPosition] = field(default_factory=dict)
    heads: dict[str, Head] = field(default_factory=dict)

    def position(self, stream: str) -> StreamPosition | None:
        return self.positions.get(stream)

    def store(self, batch: RecordBatch) -> None:
        stream = batch.stream
        if self.positions.get(stream) != batch.begin:
            raise PositionChanged(stream)
        self.rows[stream] += batch.records
        self.positions[stream] = batch.end
        self.heads[stream] = batch.head

    @property
    def payloads(self) -> list[bytes]:
        return [record.payload for rows in self.rows.values() for record in rows]


class Faults:
    """Makes the k-th operation of a name fail, wholly or half done, or all from then on."""

    def __init__(self, name: str, k: int, kind: Fault = "refused", code: int = errno.EIO) -> None:
        self.struck = False
        self._name = name
        self._k = k
        self._kind = kind
        self._code = code
        self._numbers = count(1)
        self._lock = Lock()

    def operations(self) -> FileOperations:
        return FileOperations(
            **{
                each.name: self.faulty(each.name, getattr(REAL, each.name))
                for each in fields(FileOperations)
            }
        )

    def faulty(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with self._lock:
                strikes = name == self._name and next(self._numbers) == self._k
                strikes = strikes or (self.struck and self._kind == "for good")
                self.struck = self.struck or strikes
            if not strikes:
                return real(*arguments)
            if self._kind == "half done":
                if name == "write":
                    descriptor, data = arguments
                    return os.write(descriptor, data[: len(data) // 2])
                done = real(*arguments)
                if name == "open":
                    os.close(done)
            raise OSError(self._code, os.strerror(self._code))

        return call


class FaultySink:
    """A sink of which any call may fail."""

    def __init__(self, sink: Sink, faults: Faults) -> None:
        self._position = faults.faulty("position", sink.position)
        self._store = faults.faulty("store", sink.store)

    def position(self, stream: str) -> StreamPosition | None:
        position: StreamPosition | None = self._position(stream)
        return position

    def store(self, batch: RecordBatch) -> None:
        self._store(batch)


NO_GRACE = GracePeriod(seconds=0.0)


def fast_pace(batch: int = 7, grace: GracePeriod = NO_GRACE) -> ShippingPace:
    """A pace for tests."""
    return ShippingPace(batch, idle=0.001, backoff=Backoff(0.001, 0.004), grace=grace)


def make_shipper(
    spool: Path,
    sink: Sink,
    own: str | None = None,
    operations: FileOperations = REAL,
    batch: int = 7,
    grace: GracePeriod = NO_GRACE,
    steady: Callable[[], float] = time.monotonic,
) -> Shipper:
    """A shipper of the journals in a test's directory."""
    notary = ChainSigner(
        HeadSigner(spool / "key"), HeadFile(spool / "heads", operations), frozenset({CHAINED})
    )
    return Shipper(
        spool / "journal",
        sink,
        notary,
        own=own,
        pace=fast_pace(batch, grace),
        operations=operations,
        steady=steady,
    )


def assert_kept(sink: MemorySink, acknowledged: Sequence[bytes], spool: Path) -> None:
    """Check that acknowledged records are there once, in order, numbered and chained."""
    payloads = sink.payloads
    assert len(set(payloads)) == len(payloads)
    assert set(acknowledged) <= set(payloads)
    key = HeadSigner(spool / "key").public_key
    known = {head.stream: head for head in HeadFile(spool / "heads").read()}
    for stream, rows in sink.rows.items():
        assert_order([row.payload for row in rows])
        link = genesis_link(stream)
        numbers = [row.seq for row in rows if row.kind == CHAINED]
        assert numbers == list(range(1, len(numbers) + 1))
        for row in rows:
            if row.kind == CHAINED:
                link = chain_link(link, row.seq, row.kind, row.payload)
                assert row.chain == link
            else:
                assert (row.seq, row.chain) == (0, None)
        head = sink.heads[stream]
        assert (head.seq, head.chain) == (len(numbers), link)
        assert verify_head(head, key)
        assert not numbers or known[stream] == head


def assert_order(payloads: Sequence[bytes]) -> None:
    """Check that each thread's records are in the order in which it appended them."""
    threads: dict[int, list[int]] = defaultdict(list)
    for thread, number in map(thread_and_number, payloads):
        threads[thread].append(number)
    for numbers in threads.values():
        assert all(one < other for one, other in pairwise(numbers))
