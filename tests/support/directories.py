"""Temporary directories in memory where there is room: the pace of a disk is not under test."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes the name
ROOM_BYTES = 1 << 30


@contextmanager
def fast_directory(prefix: str) -> Iterator[Path]:
    """Make an empty directory and delete it at the end."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if roomy else None))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def delete_at_once(directory: Path) -> None:
    """Delete a directory that its user would fill again while its files are deleted."""
    gone = directory.with_name(f"{directory.name}-gone")
    directory.rename(gone)
    shutil.rmtree(gone)


def exchange(one: Path, other: Path) -> None:
    """Exchange two names at one instant, so that neither is missing in between."""
    at_working_directory, names_exchanged = -100, 2
    libc = ctypes.CDLL(None, use_errno=True)
    one_name, other_name = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(
        at_working_directory, one_name, at_working_directory, other_name, names_exchanged
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(one))
