"""Benchmark runs: one suite's score for an endpoint, which runs may be compared, and which of them is the latest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from assay.engine.world.clock import DAY
from assay.engine.world.measurements import UNITS, BenchmarkRun, Series

COMPLETE_PERCENT = 95
"""The share of its tasks that a run must have completed for its score to be taken."""


@dataclass(frozen=True, slots=True)
class LatestScore:
    """The latest run of a series, and its age in whole days."""

    run: BenchmarkRun
    age_days: int


def in_unit(score: float, unit: str) -> bool:
    """Whether a score lies in its unit; NaN lies in none."""
    lowest, highest = UNITS[unit]
    return lowest <= score <= highest


def is_complete(completed: int, total: int) -> bool:
    """Whether enough of a run's tasks were completed to speak of a score."""
    return total > 0 and completed * 100 >= total * COMPLETE_PERCENT


def latest_scores(
    runs: Iterable[BenchmarkRun], as_of: datetime
) -> Mapping[str, tuple[LatestScore, ...]]:
    """Of each endpoint and series the latest run up to an instant, in order of series, by endpoint.

    The order they come in does not matter; of several at one time the last by source and run id counts.
    """
    newest: dict[tuple[str, Series], BenchmarkRun] = {}
    for run in runs:
        key = (run.endpoint_id, run.series)
        if run.run_at <= as_of and (key not in newest or run_order(run) > run_order(newest[key])):
            newest[key] = run
    found: defaultdict[str, list[LatestScore]] = defaultdict(list)
    for endpoint_id, series in sorted(newest):
        run = newest[endpoint_id, series]
        found[endpoint_id].append(LatestScore(run, (as_of - run.run_at) // DAY))
    return {endpoint_id: tuple(standings) for endpoint_id, standings in found.items()}


def run_order(run: BenchmarkRun) -> tuple[datetime, str, str]:
    """What makes a run later than another one of its series and endpoint."""
    return run.run_at, run.source, run.run
