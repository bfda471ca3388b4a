"""Signed heads: when they are signed and published, and their file outside the database.

The file is out of reach of those who may edit the database.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from assay.journal.chain import Head, HeadSigner, chain_link
from assay.journal.errors import HeadFileDamaged
from assay.journal.frame import Frame
from assay.journal.operating_system import REAL, FileOperations
from assay.journal.sink import JournalRecord, StreamPosition

_FLAGS = os.O_CREAT | os.O_RDWR | os.O_APPEND
_INTERVAL = 10.0  # seconds


class HeadFile:
    """A file of JSON lines, one head each; any number of processes may append."""

    def __init__(self, path: Path, operations: FileOperations = REAL) -> None:
        self.path = path
        self._operations = operations

    def append(self, head: Head) -> None:
        """Append a head and sync it to the disk, with the name of a new file."""
        fields = {
            "stream": head.stream,
            "seq": head.seq,
            "chain": head.chain.hex(),
            "signature": head.signature.hex(),
            "key_id": head.key_id,
        }
        line = json.dumps(fields, separators=(",", ":")).encode() + b"\n"
        descriptor = self._operations.open(self.path, _FLAGS, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                # Cut off an incomplete line, whose append never returned.
                content = self.path.read_bytes()
                self._operations.truncate(descriptor, content.rfind(b"\n") + 1)
            if (written := self._operations.write(descriptor, line)) != len(line):
                raise OSError(f"only {written} bytes of a head fit into '{self.path}'")
            self._operations.sync_data(descriptor)
            if not size:
                self._operations.sync_directory(self.path.parent)
        finally:
            os.close(descriptor)

    def read(self) -> list[Head]:
        """Return all heads in order; an incomplete last line is ignored."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        lines = content.split(b"\n")[:-1]
        return [self._head(number, line) for number, line in enumerate(lines, start=1)]

    def last(self, stream: str) -> Head | None:
        """Return the newest head of a stream."""
        return next((head for head in reversed(self.read()) if head.stream == stream), None)

    def _head(self, number: int, line: bytes) -> Head:
        try:
            fields = json.loads(line)
            return Head(
                stream=str(fields["stream"]),
                seq=int(fields["seq"]),
                chain=bytes.fromhex(fields["chain"]),
                signature=bytes.fromhex(fields["signature"]),
                key_id=str(fields["key_id"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise HeadFileDamaged(self.path, number) from error


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
        interval: float = _INTERVAL,
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
