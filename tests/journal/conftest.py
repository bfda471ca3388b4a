"""Places for journals, in memory where there is plenty: the disk's own pace is not what these tests are about."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes the name
ROOM = 1 << 28


@pytest.fixture
def spool() -> Iterator[Path]:
    """An empty directory."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    directory = Path(tempfile.mkdtemp(prefix="assay-journal-", dir=MEMORY if roomy else None))
    yield directory
    shutil.rmtree(directory)
