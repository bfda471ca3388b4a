"""Signed heads: when they are signed and published, and their file outside the database.

How it works
------------
The file is out of reach of those who may edit the database. A head covers all earlier records of
its stream, so that only the newest one of each stream proves anything: once the file has grown, it
is replaced by one with the newest head of each stream.

Any number of processes append. Each locks the file, and then looks whether its path still names the
file that it locked: otherwise another process has replaced it, and it opens the new one.

A head must be written before segments are deleted, also on a full disk. So space for more heads is
reserved ahead of the end of the file, where the file system can do that.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from assay.journal.chain import Head, HeadSigner, chain_link
from assay.journal.errors import HeadFileDamaged
from assay.journal.frame import Frame
from assay.journal.layout import remove
from assay.journal.operating_system import REAL, FileOperations, is_named, lock
from assay.journal.sink import JournalRecord, StreamPosition

_FLAGS = os.O_CREAT | os.O_RDWR | os.O_APPEND
_MODE = 0o644
_INTERVAL = 10.0  # seconds
_LARGE = 1 << 20  # bytes: a file is replaced once it is at least as large and has doubled
_AHEAD = 64 << 10  # bytes reserved for further heads
_CHUNK = 1 << 12


class HeadFile:
    """A file of JSON lines, one head each; any number of processes may append."""

    def __init__(
        self, path: Path, operations: FileOperations = REAL, *, large: int = _LARGE
    ) -> None:
        self.path = path
        self._operations = operations
        self._large = self._replace_at = large
        self._named = -1  # the inode whose name is on the disk
        self._reserved = (-1, 0)  # the inode and the bytes that are reserved for it

    def prepare(self) -> None:
        """Replace a file that has grown, and reserve space; a failure is no fault yet."""
        self._replace_if_large()
        with suppress(OSError), self._locked() as descriptor:
            self._reserve(descriptor, os.fstat(descriptor).st_size)

    def append(self, head: Head) -> None:
        """Append a head and sync it to the disk, with the name of a new file."""
        line = _line_of(head)
        self._replace_if_large()
        with self._locked() as descriptor:
            size = os.fstat(descriptor).st_size
            if size and self._operations.read(descriptor, 1, size - 1) != b"\n":
                # Cut off an incomplete line, whose append never returned.
                size = self._end_of_lines(descriptor, size)
                self._operations.truncate(descriptor, size)
                self._reserved = (-1, 0)
            self._write(descriptor, line)
            inode = os.fstat(descriptor).st_ino
            if inode != self._named:
                self._operations.sync_directory(self.path.parent)
                self._named = inode
            with suppress(OSError):  # the next head may fit all the same
                self._reserve(descriptor, size + len(line))

    def read(self) -> list[Head]:
        """Return all heads in order; an incomplete last line is ignored."""
        return list(self._heads())

    def newest(self) -> dict[str, Head]:
        """Return the newest head of each stream."""
        newest: dict[str, Head] = {}
        for head in self._heads():
            known = newest.get(head.stream)
            if known is None or head.seq >= known.seq:
                newest[head.stream] = head
        return newest

    @property
    def size(self) -> int:
        """The length of the file in bytes."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Open and lock the file that the path names."""
        while True:
            descriptor = self._operations.open(self.path, _FLAGS, _MODE)
            try:
                lock(descriptor)
                if is_named(descriptor, self.path):
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _write(self, descriptor: int, lines: bytes) -> None:
        if (written := self._operations.write(descriptor, lines)) != len(lines):
            reason = f"only {written} of {len(lines)} bytes of heads fit"
            raise OSError(errno.ENOSPC, reason, str(self.path))
        self._operations.sync_data(descriptor)

    def _reserve(self, descriptor: int, size: int) -> None:
        inode = os.fstat(descriptor).st_ino
        known, reserved = self._reserved
        if inode != known or size > reserved - _AHEAD // 2:
            self._operations.reserve(descriptor, size + _AHEAD)
            self._reserved = (inode, size + _AHEAD)

    def _replace_if_large(self) -> None:
        """Keep only the newest heads of a file that has grown; after a failure, try again later."""
        if (size := self.size) < self._replace_at:
            return
        try:
            with self._locked() as descriptor:
                if os.fstat(descriptor).st_size >= self._replace_at:
                    self._replace()
            self._replace_at = max(self._large, 2 * self.size)
        except (OSError, HeadFileDamaged):
            self._replace_at = size + self._large

    def _replace(self) -> None:
        # INVARIANT: the file is locked, so that there is one draft at a time and no append.
        lines = b"".join(map(_line_of, self.newest().values()))
        draft = self.path.with_name(f".{self.path.name}.new")
        try:
            descriptor = self._operations.open(draft, os.O_TRUNC | _FLAGS, _MODE)
            try:
                self._write(descriptor, lines)
            finally:
                os.close(descriptor)
            self._operations.rename(draft, self.path)
        except OSError:
            with suppress(OSError):
                remove(draft, self._operations)
            raise

    def _end_of_lines(self, descriptor: int, size: int) -> int:
        """Return where the last complete line ends."""
        while size:
            start = max(size - _CHUNK, 0)
            found = self._operations.read(descriptor, size - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            size = start
        return 0

    def _heads(self) -> Iterator[Head]:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield self._head(number, line)

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


def _line_of(head: Head) -> bytes:
    fields = {
        "stream": head.stream,
        "seq": head.seq,
        "chain": head.chain.hex(),
        "signature": head.signature.hex(),
        "key_id": head.key_id,
    }
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


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
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        heads.prepare()
        self._signer = signer
        self._heads = heads
        self._chained_kinds = chained_kinds
        self._interval = interval
        self._steady = steady
        self._published = heads.newest()
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
        """Return the newest head of a stream that any process has published."""
        return self._heads.newest().get(stream)

    @property
    def bytes_of_heads(self) -> int:
        """The length of the file of heads."""
        return self._heads.size

    def restore(self) -> list[str]:
        """Create the signing key and the file of heads again; return those that were missing."""
        missing = [self._signer.path.name] if self._signer.restore() else []
        published = tuple(self._published.values())
        if published and not self._heads.size:
            missing.append(self._heads.path.name)
            for head in published:
                self._heads.append(head)
        return missing

    def publish(self, stream: str, position: StreamPosition, *, now: bool = False) -> None:
        """Publish a head, unless it is known, or the last one is recent and not `now`."""
        newest = self._published.get(stream)
        at = self._steady()
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
