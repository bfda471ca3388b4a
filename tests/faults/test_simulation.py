"""Simulated servers keep every promise under faults drawn from a seed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from tests.support.directories import fast_directory
from tests.support.faults.simulation import PARTS
from tests.support.faults.undisturbed_day import UndisturbedDay, run_seed

HOURS = 25
CHUNK = 10
CHUNKS = 10  # `make soak`: 10,000 seeds


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with fast_directory("assay-simulation-") as directory:
        yield directory


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log nothing: a failure prints its own steps."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def day(sqlite_template: Path, place: Path) -> UndisturbedDay:
    return UndisturbedDay(sqlite_template, place / "day", HOURS)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_breaks_an_invariant(day: UndisturbedDay, place: Path, chunk: int) -> None:
    seeds = range(chunk * CHUNK, (chunk + 1) * CHUNK)
    if (chosen := os.environ.get("ASSAY_SEED")) is not None:
        seeds = range(int(chosen), int(chosen) + (chunk == 0))
    for seed in seeds:
        run_seed(day, place / str(seed), seed)


def test_the_same_seed_takes_the_same_steps(day: UndisturbedDay, place: Path) -> None:
    first = run_seed(day, place / "same", 7)
    assert run_seed(day, place / "same", 7).story == first.story


@pytest.mark.slow
def test_a_day_with_a_fault_a_minute_ends_with_the_undisturbed_pools(
    day: UndisturbedDay, place: Path
) -> None:
    every_minute = {"faults_per_round": 1.0, "rounds": 60 // PARTS, "late": False}
    ran = run_seed(day, place / "minutes", 1, begin=1, hours=HOURS - 1, **every_minute)
    assert ran.faults >= 60 * (HOURS - 1)
