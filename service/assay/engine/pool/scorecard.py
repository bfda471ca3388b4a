"""Scorecards: where each endpoint stands with a pool, what it misses by how much, and what would admit it.

What one shows a provider that wants in: the rules it breaks with the values they saw, its accuracy with an interval,
and how many further tool-call requests without a bad call the `enter` rules would ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from assay.engine.evidence.statistics import wilson_lower, wilson_upper
from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.evaluation import Facts, SharedFacts, facts_read
from assay.engine.policy.verdict import RuleFinding
from assay.engine.pool.report import PoolEndpoint, PoolReport
from assay.engine.snapshot.pool_memory import subtract_counts
from assay.engine.snapshot.snapshot import Snapshot

MOST_REQUESTS = 1 << 24
CONFIDENCE = 0.95
COUNTED = (
    "tools.requests", "tools.tool_call_requests", "observed.requests", "observed.tool_call_requests",
)  # fmt: skip
UNSEEN: Facts = {
    "tools.requests": 0.0,
    "tools.tool_call_requests": 0.0,
    "tools.errored_requests": 0.0,
    "observed.requests": 0,
    "observed.tool_call_requests": 0,
    "observed.errored_requests": 0,
    "observed.sources": (),
}


@dataclass(frozen=True, slots=True)
class AccuracyEstimate:
    """A measured share with its interval: one-sided Wilson bounds at 95 % each, of `requests` effective requests."""

    value: float
    low: float
    high: float
    requests: float


@dataclass(frozen=True, slots=True)
class Scorecard:
    """One endpoint and one pool.

    `broken` are the `enter` rules that do not hold, with the facts and parameters they read in `seen`.
    `clean_requests` is how many further tool-call requests, none with a bad call, would make all of them hold: 0 where
    they hold, `None` where no number up to 16,777,216 would. `hours` is how long they take at the present rate,
    `None` without one.
    """

    judged: PoolEndpoint
    accuracy: AccuracyEstimate | None
    broken: tuple[RuleFinding, ...]
    clean_requests: int | None
    hours: float | None
    held_until: datetime | None = None


def scorecards(snapshot: Snapshot, report: PoolReport) -> tuple[Scorecard, ...]:
    """One scorecard per endpoint outside the pool that `report` tells of, in its order."""
    bound = snapshot.policy.bound[report.binding]
    view = snapshot.models[report.model]
    pool = snapshot.pools[bound.name, report.model]
    shared: SharedFacts = {"model": view.facts, "cohort": view.cohort[bound.fold]}
    places = {endpoint_id: place for place, endpoint_id in enumerate(view.ids)}
    cards = []
    for judged in report.others:
        place = places[judged.verdict.endpoint_id]
        row = view.rows[bound.fold][place]
        standing = pool.standings[place] if pool.standings else None
        if standing:
            row = subtract_counts(row, standing.forgotten)
        card = scorecard(bound, shared, row, judged)
        cards.append(replace(card, held_until=standing.held_until) if standing else card)
    return tuple(cards)


def scorecard(
    bound: CompiledBinding, shared: SharedFacts, row: Facts, judged: PoolEndpoint
) -> Scorecard:
    """One endpoint against the `enter` rules of one binding."""
    if bound.enter is None:
        raise ValueError(f"binding {bound.name} has no pool")
    enter = bound.enter
    [found] = enter.findings([row], shared)
    roots = {**shared, "endpoint": row}
    rules = {(r.rule.origin, r.name): r for r in enter.rules}
    broken = tuple(
        replace(f, seen=facts_read(rules[f.rule_set, f.rule], roots, bound.scope.constants))
        for f in found.broken
    )
    needed = fewest(lambda more: not enter.findings([cleaner(row, more, bound)], shared)[0].broken)
    rate = row.get("observed.tool_call_requests_per_hour")
    hours = needed / rate if needed is not None and isinstance(rate, float) and rate > 0 else None
    return Scorecard(judged, accuracy(row), broken, needed, hours)


def accuracy(row: Facts) -> AccuracyEstimate | None:
    """The share of tool-call requests without a bad call, over effective requests; `None` where none were seen."""
    calls, errored, effect = (
        row.get(f"tools.{name}")
        for name in ("tool_call_requests", "errored_requests", "design_effect")
    )
    if not (
        isinstance(calls, float)
        and isinstance(errored, float)
        and isinstance(effect, float)
        and calls > 0
    ):
        return None
    total = calls / effect
    good = min(max((calls - errored) / effect, 0.0), total)
    return AccuracyEstimate(
        good / total,
        wilson_lower(good, total, CONFIDENCE),
        wilson_upper(good, total, CONFIDENCE),
        total,
    )


def cleaner(row: Facts, more: int, bound: CompiledBinding) -> Facts:
    """The row after further tool-call requests without a bad call, just seen; its propensity stays as it is."""
    fresh: dict[str, object] = {
        "tools.design_effect": bound.evidence.design_effect,
        **UNSEEN,
        **row,
    }
    fresh |= {"observed.stale": False, "observed.age_hours": 0.0}
    return {**fresh, **{name: number(fresh, name) + more for name in COUNTED}}


def number(row: Mapping[str, object], name: str) -> float:
    """A count of the row."""
    value = row[name]
    return value if isinstance(value, (int, float)) else 0


def fewest(holds: Callable[[int], bool]) -> int | None:
    """The smallest number from 0 to `MOST_REQUESTS` from which on the condition holds, by doubling and halving."""
    if holds(0):
        return 0
    high = 1
    while not holds(high):
        if high >= MOST_REQUESTS:
            return None
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
