"""No failing file operation loses or duplicates what was acknowledged, whichever call it is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.directories import fast_directory
from tests.support.faults.file_run import FileRun, enumerate_faults

PARTS = 8
SAMPLE = 560  # `make soak` injects all


@pytest.fixture
def place() -> Iterator[Path]:
    with fast_directory("assay-faults-") as directory:
        yield directory


def test_the_same_run_makes_the_same_calls(place: Path, sqlite_template: Path) -> None:
    first = FileRun(place / "1").live_and_check(sqlite_template)
    assert FileRun(place / "2").live_and_check(sqlite_template) == first
    assert set(first) >= {
        *("open", "write", "reserve", "sync_data", "sync_directory", "truncate", "rename"),
        *("unlink", "rmdir", "other open", "other list", "lock"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_no_failing_file_operation_loses_or_duplicates_anything(
    place: Path, sqlite_template: Path, part: int
) -> None:
    calls = FileRun(place / "undisturbed").live_and_check(sqlite_template)
    faults = random.Random(0).sample(list(enumerate_faults(calls)), SAMPLE)[part::PARTS]
    for number, fault in enumerate(faults):
        FileRun(place / str(number), fault).live_and_check(sqlite_template)
