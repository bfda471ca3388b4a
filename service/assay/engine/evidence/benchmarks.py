"""Benchmark runs: which count, and which is the latest (service/STATISTICS.md#benchmarks)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from assay.engine.world.clock import DAY
from assay.engine.world.measurements import UNITS, BenchmarkRun, Series

COMPLETE_PERCENT = 95
"""Share of its tasks that a run must have completed for its score to count."""


@dataclass(frozen=True, slots=True)
class LatestScore:
    """The latest run of a series, and its age in whole days."""

    run: BenchmarkRun
    age_days: int


def in_unit(score: float, unit: str) -> bool:
    """Return whether a score is within its unit's range; NaN is not."""
    lowest, highest = UNITS[unit]
    return lowest <= score <= highest


def is_complete(completed: int, total: int) -> bool:
    """Return whether enough of a run's tasks were completed for its score to count."""
    return total > 0 and completed * 100 >= total * COMPLETE_PERCENT


def latest_scores(
    runs: Iterable[BenchmarkRun], as_of: datetime
) -> Mapping[str, tuple[LatestScore, ...]]:
    """Return by endpoint the latest run of each series up to an instant, in the order of series.

    The order of `runs` does not matter; of several runs at one time, the last by source and id
    counts.
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
    return {endpoint_id: tuple(scores) for endpoint_id, scores in found.items()}


def run_order(run: BenchmarkRun) -> tuple[datetime, str, str]:
    """Return the sort key that finds the latest run of a series and endpoint."""
    return run.run_at, run.source, run.run
