"""Where streams lie: a directory for each life of a process, locked while it lasts, with numbered segments."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from assay.journal.operating_system import REAL, FileOperations

SEALED = ".seg"  # nobody appends to a segment any more once the one behind it has this ending
NEXT = ".next"  # reserved ahead; may hold frames already while the one before it is being sealed
LOCK = "lock"
PRIVATE = 0o600
ID_DIGITS = 32


def new_stream() -> str:
    """A name for a stream: a UUID (version 7), so that names sort by age."""
    random = int.from_bytes(secrets.token_bytes(10), "big")
    number = (time.time_ns() // 1_000_000) << 80 | random
    return UUID(int=number & ~(0xF << 76) & ~(0x3 << 62) | 7 << 76 | 2 << 62).hex


def streams(directory: Path) -> list[str]:
    """The streams there are, oldest first."""
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir())
    return sorted(
        name for name in names if len(name) == ID_DIGITS and not set(name) - set("0123456789abcdef")
    )


def segment_path(stream_path: Path, number: int, ending: str = SEALED) -> Path:
    """The file of a segment."""
    return stream_path / f"{number:08}{ending}"


def segments(stream_path: Path, ending: str = SEALED) -> list[int]:
    """The numbers of the segments there are, in order."""
    try:
        names = [path.name for path in stream_path.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(
        int(stem)
        for stem, dot, end in (name.partition(".") for name in names)
        if dot + end == ending
    )


def remove(path: Path, operations: FileOperations) -> None:
    """Delete a file, unless an earlier attempt did so in spite of what it said."""
    with suppress(FileNotFoundError):
        operations.unlink(path)


@dataclass(frozen=True, slots=True)
class StreamClaim:
    """The right to a stream, held by one process at a time and lost when it dies."""

    path: Path
    descriptor: int

    def release(self) -> None:
        """Let others have the stream."""
        os.close(self.descriptor)

    def remove(self, operations: FileOperations = REAL) -> None:
        """Delete the directory of a stream that holds no segments any more."""
        with _alone(self.path.parent):
            remove(self.path / LOCK, operations)
            with suppress(FileNotFoundError):
                operations.rmdir(self.path)


def create_stream(directory: Path, operations: FileOperations = REAL) -> StreamClaim:
    """Begin a stream of this process's own."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / new_stream()
    with _alone(directory):
        path.mkdir()
        claim = _claim(path, operations)
    if claim is None:
        raise FileExistsError(path)
    try:
        operations.sync_directory(directory)
    except OSError:
        claim.release()
        raise
    return claim


def claim_stream(path: Path, operations: FileOperations = REAL) -> StreamClaim | None:
    """Take over a stream whose process is gone; none when it lives or the stream no longer exists."""
    with _alone(path.parent):
        return _claim(path, operations)


def _claim(path: Path, operations: FileOperations) -> StreamClaim | None:
    try:
        descriptor = operations.open(path / LOCK, os.O_RDWR | os.O_CREAT, PRIVATE)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return StreamClaim(path, descriptor)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the directory's own lock, so that a stream is never seen between its creation and its first lock."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
