"""A directory for journals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.directories import fast_directory


@pytest.fixture
def spool() -> Iterator[Path]:
    """An empty directory."""
    with fast_directory("assay-journal-") as directory:
        yield directory
