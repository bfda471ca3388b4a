"""The operating system calls of journal and spool, so that a test can make each of them fail."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE: reserve space without changing the size of the file
UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
LOCK_SECONDS = 5.0  # a process that was stopped while it holds a lock must not stop the others
_LOCK_PAUSE = 0.002


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def reserve(descriptor: int, size: int) -> None:
    """Reserve `size` bytes for a file, keeping its length; check free space where unsupported."""
    code = errno.ENOSYS
    if sys.platform == "linux":
        offset, length = ctypes.c_long(0), ctypes.c_long(size)  # off_t is a long
        if _libc().fallocate(descriptor, KEEP_SIZE, offset, length) == 0:
            return
        code = ctypes.get_errno()
    if code in UNSUPPORTED:
        room = os.fstatvfs(descriptor)
        if room.f_bavail * room.f_frsize >= size:
            return
        code = errno.ENOSPC
    raise OSError(code, os.strerror(code))


def sync_data(descriptor: int) -> None:
    """Sync a file's bytes and length to the disk."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Sync the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_named(descriptor: int, path: Path) -> bool:
    """Return whether the path names this open file, and neither another one nor nothing."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def lock(descriptor: int, seconds: float = LOCK_SECONDS) -> None:
    """Lock a file against other processes; raise TimeoutError if it stays locked."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                reason = f"another process has held a lock for {seconds:.0f} s"
                raise TimeoutError(errno.ETIMEDOUT, reason) from None
            time.sleep(_LOCK_PAUSE)
        else:
            return


def make_directories(path: str | os.PathLike[str]) -> None:
    """Create a directory and its parents, unless they exist."""
    os.makedirs(path, exist_ok=True)  # noqa: PTH103 - as the other calls


@dataclass(frozen=True, slots=True)
class FileOperations:
    """The calls by which journal and spool change and read files."""

    open: Callable[[str | os.PathLike[str], int, int], int] = os.open
    write: Callable[[int, bytes], int] = os.write
    reserve: Callable[[int, int], None] = reserve
    sync_data: Callable[[int], None] = sync_data
    sync_directory: Callable[[str | os.PathLike[str]], None] = sync_directory
    truncate: Callable[[int, int], None] = os.ftruncate
    rename: Callable[[str | os.PathLike[str], str | os.PathLike[str]], None] = os.rename
    unlink: Callable[[str | os.PathLike[str]], None] = os.unlink
    rmdir: Callable[[str | os.PathLike[str]], None] = os.rmdir
    make_directories: Callable[[str | os.PathLike[str]], None] = make_directories
    read: Callable[[int, int, int], bytes] = os.pread  # descriptor, size, offset


REAL = FileOperations()
