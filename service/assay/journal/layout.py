"""Directories and files of streams: one directory per process run, locked while it lives."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from assay.journal.operating_system import REAL, FileOperations, is_named, lock
from assay.journal.uuid7 import uuid7

# A segment is complete once its successor has the ending SEALED. NEXT marks the segment reserved
# ahead; it may hold frames while the one before it is being sealed.
SEALED = ".seg"
NEXT = ".next"
LOCK = "lock"
PRIVATE = 0o600
_STREAM_NAME = re.compile("[0-9a-f]{32}")


def streams(directory: Path) -> list[str]:
    """Return the names of all streams, oldest first."""
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir())
    return sorted(name for name in names if _STREAM_NAME.fullmatch(name))


def segment_path(stream_path: Path, number: int, ending: str = SEALED) -> Path:
    """Return the file of a segment."""
    return stream_path / f"{number:08}{ending}"


def segments(stream_path: Path, ending: str = SEALED) -> list[int]:
    """Return the numbers of all segments with this ending, in order."""
    try:
        paths = list(stream_path.iterdir())
    except FileNotFoundError:
        return []
    return sorted(int(path.stem) for path in paths if path.suffix == ending)


def remove(path: Path, operations: FileOperations) -> None:
    """Delete a file; it may be gone, if an earlier attempt failed after deleting it."""
    with suppress(FileNotFoundError):
        operations.unlink(path)


@dataclass(frozen=True, slots=True)
class StreamClaim:
    """The exclusive right to a stream; the operating system releases it when the process dies."""

    path: Path
    descriptor: int

    @property
    def is_lost(self) -> bool:
        """Whether the lock's file was deleted or moved, probably with the whole directory."""
        return not is_named(self.descriptor, self.path / LOCK)

    def release(self) -> None:
        """Let other processes claim the stream."""
        os.close(self.descriptor)

    def remove(self, operations: FileOperations = REAL) -> None:
        """Delete the directory of a stream without segments."""
        with _alone(self.path.parent):
            remove(self.path / LOCK, operations)
            with suppress(FileNotFoundError):
                operations.rmdir(self.path)


def create_stream(
    directory: Path, operations: FileOperations = REAL, *, lost: str | None = None
) -> StreamClaim:
    """Create a stream for this process, or the one that it `lost` by deletion or a move."""
    operations.make_directories(directory)
    new = uuid7(time.time_ns() // 1_000_000).replace("-", "")  # names sort by age
    path = directory / (lost or new)
    with _alone(directory):
        path.mkdir(exist_ok=lost is not None)
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
    """Claim an abandoned stream; return None if its process lives or the stream is gone."""
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
    """Hold the directory's lock: no process sees a stream that is created but not claimed yet."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)
