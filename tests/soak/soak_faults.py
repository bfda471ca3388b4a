"""Every fault and many seeds: all file faults, all lines to kill or stop at, simulated days."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.directories import fast_directory
from tests.support.faults.file_run import FileRun, enumerate_faults
from tests.support.faults.processes import attempt_targets
from tests.support.faults.undisturbed_day import UndisturbedDay, run_seed

HOURS = 24
SEEDS = int(os.environ.get("ASSAY_SOAK_SEEDS", "10000"))
FIRST_SEED = int(os.environ.get("ASSAY_SOAK_FIRST_SEED", "100000"))


Show = Callable[[str], None]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    """Print a figure of the run."""

    def write(words: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{words}\n")

    return write


@pytest.fixture
def place() -> Iterator[Path]:
    with fast_directory("assay-soak-") as directory:
        yield directory


def test_every_file_fault(show: Show, place: Path, sqlite_template: Path) -> None:
    calls = FileRun(place / "undisturbed").live_and_check(sqlite_template)
    count = 0
    for fault in enumerate_faults(calls):
        FileRun(place / "run", fault).live_and_check(sqlite_template)
        count += 1
    show(f"{count} faults at {len(calls)} file operations, no violation")


def test_every_seed(show: Show, place: Path, sqlite_template: Path) -> None:
    day = UndisturbedDay(sqlite_template, place / "day", HOURS)
    begin, faults = time.monotonic(), 0
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        faults += run_seed(day, place / "run", seed).faults
    minutes = (time.monotonic() - begin) / 60
    show(f"{SEEDS} seeds, {faults} faults, {minutes:.1f} minutes, no violation")


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGSTOP"])
def test_every_line_to_kill_or_stop_at(
    show: Show, place: Path, sqlite_template: Path, signal: str
) -> None:
    results = attempt_targets(place, sqlite_template, signal, sample=0, seed=1)
    show(f"{len(results)} times {signal}")
    assert [each for each in results if each["violations"]] == []
