"""Scorecards: what an endpoint outside a pool misses by how much, and what would admit it.

A provider that wants in reads the rules that its endpoint breaks with the values they saw, its
accuracy with an interval, and how many further tool-call requests without a bad call the `enter`
rules would ask for.
"""

from __future__ import annotations

from collections.abc import Callable
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
    "tools.requests", "tools.tool_call_requests",
    "observed.requests", "observed.tool_call_requests",
)  # fmt: skip
UNOBSERVED: Facts = {
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
    """An accuracy over `requests` effective requests, with one-sided Wilson bounds at 95 % each."""

    value: float
    low: float
    high: float
    requests: float


@dataclass(frozen=True, slots=True)
class Scorecard:
    """One endpoint outside one pool.

    `broken` are the `enter` rules that do not hold, with the facts and parameters they read in
    `seen`. `clean_requests` is how many further tool-call requests, none with a bad call, would
    make all of them hold: 0 if they hold, `None` if no number up to 16,777,216 would. `hours` is
    how long that takes at the present rate, `None` without one.
    """

    endpoint: PoolEndpoint
    accuracy: AccuracyEstimate | None
    broken: tuple[RuleFinding, ...]
    clean_requests: int | None
    hours: float | None
    held_until: datetime | None = None


def scorecards(snapshot: Snapshot, report: PoolReport) -> tuple[Scorecard, ...]:
    """Return one scorecard per endpoint outside the reported pool, in the report's order."""
    binding = snapshot.policy.bindings[report.binding]
    view, pool = snapshot.models[report.model], snapshot.pools[report.binding, report.model]
    rows = {str(row["id"]): row for row in view.rows[binding.fold]}
    standings = {judged.verdict.endpoint_id: judged.standing for judged in pool.endpoints}
    cards: list[Scorecard] = []
    for endpoint in report.others:
        endpoint_id = endpoint.verdict.endpoint_id
        row, standing = rows[endpoint_id], standings[endpoint_id]
        if standing:
            row = subtract_counts(row, standing.forgotten)
        card = _scorecard(binding, view.shared(binding.fold), row, endpoint)
        cards.append(replace(card, held_until=standing.held_until) if standing else card)
    return tuple(cards)


def _scorecard(
    binding: CompiledBinding, shared: SharedFacts, row: Facts, endpoint: PoolEndpoint
) -> Scorecard:
    """Evaluate one endpoint against the `enter` rules of one binding."""
    enter = binding.enter
    if enter is None:
        raise ValueError(f"binding {binding.name} has no pool")

    def holds_after(more: int) -> bool:
        """Whether the rules hold after further clean requests; the propensity stays.

        So the usable share grows as the accuracy does.
        """
        effect = {"tools.design_effect": binding.evidence.design_effect}
        fresh = {**effect, **UNOBSERVED, **row, "observed.stale": False, "observed.age_hours": 0.0}
        for name in COUNTED:
            count = fresh[name]
            fresh[name] = (count if isinstance(count, (int, float)) else 0) + more
        before, after, share = _clean(row), _clean(fresh), row.get("usable.share")
        if before and after and isinstance(share, float):
            fresh["usable.share"] = share * after / before
        return not enter.findings([fresh], shared)[0].broken

    [found] = enter.findings([row], shared)
    roots = {**shared, "endpoint": row}
    rules = {(r.rule.origin, r.name): r for r in enter.rules}
    broken = tuple(
        replace(f, seen=facts_read(rules[f.rule_set, f.rule], roots, binding.scope.constants))
        for f in found.broken
    )
    needed = fewest(holds_after)
    rate = row.get("observed.tool_call_requests_per_hour")
    hours = needed / rate if needed is not None and isinstance(rate, float) and rate > 0 else None
    return Scorecard(endpoint, _accuracy(row), broken, needed, hours)


def _clean(row: Facts) -> float | None:
    """Return the share of tool-call requests without an error."""
    calls, errored = row.get("tools.tool_call_requests"), row.get("tools.errored_requests")
    if not (isinstance(calls, float) and isinstance(errored, float) and calls > 0):
        return None
    return 1.0 - errored / calls


def _accuracy(row: Facts) -> AccuracyEstimate | None:
    """Return the share of tool-call requests without a bad call, `None` without any."""
    names = ("tool_call_requests", "errored_requests", "design_effect")
    calls, errored, effect = (row.get(f"tools.{name}") for name in names)
    if not (isinstance(calls, float) and isinstance(errored, float) and isinstance(effect, float)):
        return None
    if calls <= 0:
        return None
    total = calls / effect
    good = min(max((calls - errored) / effect, 0.0), total)
    low, high = wilson_lower(good, total, CONFIDENCE), wilson_upper(good, total, CONFIDENCE)
    return AccuracyEstimate(good / total, low, high, total)


def fewest(holds: Callable[[int], bool]) -> int | None:
    """Return the smallest number up to MOST_REQUESTS for which a monotonic condition holds."""
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
