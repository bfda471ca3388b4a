"""Measurements of endpoints: observed counts, traffic, speed, benchmark runs, ignore votes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from assay.engine.world.catalog import Percentiles

UNKNOWN: Final = "unknown"  # a benchmark's version or judge that the source does not state
UNITS: Final[Mapping[str, tuple[float, float]]] = {
    "fraction": (0.0, 1.0),
    "percent": (0.0, 100.0),
    "number": (-1e12, 1e12),
}
"""The lowest and the highest score of each unit."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Counts of one endpoint's requests that offered tools, from one source in one time window.

    `requests` offered tools and were answered; `tool_call_requests` of them ended in tool calls;
    `errored_requests` of those held at least one bad call.
    """

    endpoint_id: str
    source: str
    observed_from: datetime
    observed_to: datetime
    requests: int
    tool_call_requests: int
    errored_requests: int
    reference: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests that offered tools, those that ended in tool calls, those with a bad call."""

    requests: float
    tool_call_requests: float
    errored_requests: float


class HourOfTraffic(NamedTuple):
    """The tool-call requests of one hour, numbered from 1970, and those with a bad call."""

    hour: int
    calls: int
    errored: int


@dataclass(frozen=True, slots=True)
class TrafficCounts:
    """One tenant's requests of one stratum at one endpoint, from one source, up to a closed hour.

    Counts are discounted by age, with `half_life`; `observed` is undiscounted; `hour_calls` and
    `hour_errored` belong to the last closed hour. Hours are numbered from 1970. If `observed` and
    `attempts` are zero, all counts are stale. `late` has the earlier hours of which the endpoint
    has other counts now than when they were closed. `attempts` are all that offered tools, answered
    or not; `None` means that all were answered.
    """

    endpoint_id: str
    source: str
    tenant: str
    stratum: int
    requests: float
    tool_call_requests: float
    errored_requests: float
    auto_requests: float
    auto_tool_call_requests: float
    observed: Counts
    hour_calls: int
    hour_errored: int
    first_hour: int
    last_hour: int
    half_life: timedelta
    late: tuple[HourOfTraffic, ...] = ()
    attempts: float | None = None


@dataclass(frozen=True, slots=True)
class ServedSpeed:
    """One day's seconds to the first token, tokens per second, and requests answered in percent."""

    latency_s: Percentiles = field(default_factory=Percentiles)
    throughput_tps: Percentiles = field(default_factory=Percentiles)
    uptime_percent: float | None = None


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """What two benchmark runs must have in common to be compared."""

    suite: str
    version: str
    judge: str
    metric: str
    unit: str

    @property
    def name(self) -> str:
        """A line that identifies the series: `bench@0 scorer/accuracy fraction by gpt-4.1`."""
        return f"{self.suite}@{self.version} {self.metric} {self.unit} by {self.judge}"


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """One score of one endpoint, as a source reports it.

    `run` is the run's own id: the same id with another score revises the run. It is empty if the
    source keeps one figure per series, as published tables do. `source_revision` is the source's
    name for the state of its files. Tasks are counted with their trials.
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
class IgnoreVote:
    """What an eligible tenant that requested tools of a model ignores, and its own providers.

    `tried` are the providers that it knows from calls of its own; `None` means all.
    """

    tenant: str
    model: str
    ignores: frozenset[str] = frozenset()
    affiliated: frozenset[str] = frozenset()
    tried: frozenset[str] | None = None
