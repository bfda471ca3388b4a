"""The file of signed heads: outside the database, out of reach of those who may edit it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from assay.journal.chain import Head
from assay.journal.errors import HeadFileDamaged
from assay.journal.operating_system import REAL, FileOperations

FLAGS = os.O_CREAT | os.O_RDWR | os.O_APPEND


class HeadFile:
    """A file of JSON lines, one head each; any number of processes may append."""

    def __init__(self, path: Path, operations: FileOperations = REAL) -> None:
        self.path = path
        self._operations = operations

    def append(self, head: Head) -> None:
        """Append a head and sync it to the disk."""
        fields = {
            "stream": head.stream,
            "seq": head.seq,
            "chain": head.chain.hex(),
            "signature": head.signature.hex(),
            "key_id": head.key_id,
        }
        line = json.dumps(fields, separators=(",", ":")).encode() + b"\n"
        descriptor = self._operations.open(self.path, FLAGS, 0o644)
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
