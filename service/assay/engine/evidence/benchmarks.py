"""Benchmark runs: one suite's score for an endpoint, which runs may be compared, and which of them is the latest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

DAY = timedelta(days=1)
UNKNOWN = "unknown"  # a version or a judge that nobody states
UNITS: Mapping[str, tuple[float, float]] = {
    "fraction": (0.0, 1.0),
    "percent": (0.0, 100.0),
    "number": (-1e12, 1e12),
}
"""The lowest and the highest score of each unit."""

COMPLETE_PERCENT = 95
"""The share of its tasks that a run must have completed for its score to be taken."""


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """What two runs must have in common to be compared; a version or judge that is not stated is `unknown`."""

    suite: str
    version: str
    judge: str
    metric: str
    unit: str

    @property
    def name(self) -> str:
        """One line that no other series has: `livemcpbench@0 scorer/accuracy fraction by gpt-4.1`."""
        return f"{self.suite}@{self.version} {self.metric} {self.unit} by {self.judge}"


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """One score of one endpoint, as a source reports it.

    `run` is the run's own id: a source that says of the same run something else revises it. It is empty where the
    source keeps one figure per series, as published tables do. `source_revision` is the source's name for the state
    of its files. Tasks are counted with their trials.
    """

    endpoint_id: str
    source: str
    series: Series
    score: float
    run_at: datetime
    run: str = ""
    tasks_total: int | None = None
    tasks_completed: int | None = None
    trials: int | None = None
    source_revision: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
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


def latest(runs: Iterable[BenchmarkRun], as_of: datetime) -> Mapping[str, tuple[Standing, ...]]:
    """Of each endpoint and series the latest run up to an instant, in order of series, by endpoint.

    The order they come in does not matter; of several at one time the last by source and run id counts.
    """
    newest: dict[tuple[str, Series], BenchmarkRun] = {}
    for run in runs:
        key = (run.endpoint_id, run.series)
        if run.run_at <= as_of and (key not in newest or rank(run) > rank(newest[key])):
            newest[key] = run
    found: defaultdict[str, list[Standing]] = defaultdict(list)
    for endpoint_id, series in sorted(newest):
        run = newest[endpoint_id, series]
        found[endpoint_id].append(Standing(run, (as_of - run.run_at) // DAY))
    return {endpoint_id: tuple(standings) for endpoint_id, standings in found.items()}


def rank(run: BenchmarkRun) -> tuple[datetime, str, str]:
    """What makes a run later than another one of its series and endpoint."""
    return run.run_at, run.source, run.run
