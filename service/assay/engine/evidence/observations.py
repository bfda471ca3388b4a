"""Imported observations folded per endpoint: counts discounted by age.

See service/STATISTICS.md#time-decay. A window counts once it has ended; its age runs from its end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.evidence.propensity import ToolShares, observed_shares
from assay.engine.evidence.usage import TenantUse
from assay.engine.world.clock import HOUR
from assay.engine.world.measurements import Counts, Observation

Countable = TypeVar("Countable", Observation, Counts)


@dataclass(frozen=True, slots=True)
class HourCounts:
    """Tool-call requests of one endpoint in a closed hour, and those of them with a bad call."""

    calls: float = 0.0
    errored: float = 0.0


NO_HOUR: Final = HourCounts()


CallsByTenant = Mapping[str, tuple[float, float]]
"""Tool-call requests and errored ones by tenant; by no name, those that a source vouches for."""


def _no_calls() -> CallsByTenant:
    return {}


def add_calls(parts: Iterable[tuple[CallsByTenant, float, float]]) -> CallsByTenant:
    """Return the sums by tenant, in the order of names; each part has factors for both counts."""
    found: dict[str, tuple[float, float]] = {}
    for by_tenant, call_factor, error_factor in parts:
        for tenant, (calls, errored) in by_tenant.items():
            before = found.get(tenant, (0.0, 0.0))
            found[tenant] = before[0] + call_factor * calls, before[1] + error_factor * errored
    return {tenant: found[tenant] for tenant in sorted(found)}


@dataclass(frozen=True, slots=True)
class HourOfEndpoint:
    """The counts of one endpoint in one hour: all, and those that count by tenants' share of use.

    `by_tenant` adds up all of them by tenant.
    """

    total: HourCounts = NO_HOUR
    counted: HourCounts = NO_HOUR
    by_tenant: Callable[[], CallsByTenant] = field(default=_no_calls, compare=False)


NO_CALLS: Final = HourOfEndpoint()


@dataclass(frozen=True, slots=True)
class FoldedCounts:
    """All fresh counts of one endpoint: as observed, discounted by age, and undiscounted by source.

    `half_life` is that of the discount; `references` are the sources that call it the vendor's own
    endpoint; `shares` are how often it calls tools and is of use, by source. Only traffic states
    the rest: the model's design effect; the last closed hour, and by number, earlier hours that
    have grown since they were closed; what tenants used of the pool; and the discounted counts of
    each tenant. If all counts are by named tenants, `tenants` is how many, and `use_share` is their
    share of the pool's use.
    """

    observed: Counts
    discounted: Counts
    half_life: timedelta
    sources: tuple[str, ...]
    observed_from: datetime
    observed_to: datetime
    by_source: Mapping[str, Counts]
    references: frozenset[str]
    shares: Mapping[str, ToolShares] = field(default_factory=dict)
    design_effect: float | None = None
    hour: HourOfEndpoint = NO_CALLS
    late: Mapping[int, HourOfEndpoint] = field(default_factory=dict)
    use: TenantUse | None = None
    tenants: int | None = None
    use_share: float | None = None
    by_tenant: Callable[[], CallsByTenant] = field(default=_no_calls, compare=False)

    @property
    def main_source(self) -> str:
        """The source that saw most of its requests."""
        return max(self.by_source, key=lambda source: (self.by_source[source].requests, source))


@dataclass(frozen=True, slots=True)
class EndpointEvidence:
    """All evidence of one endpoint's tool calling; `folded` is `None` if all of it is stale."""

    folded: FoldedCounts | None
    stale: bool


def fold_observations(
    observations: Iterable[Observation], spec: EvidenceSpec, as_of: datetime
) -> Mapping[str, EndpointEvidence]:
    """Fold the ended windows of each endpoint; the order of `observations` does not matter."""
    windows: defaultdict[str, list[Observation]] = defaultdict(list)
    for observation in observations:
        if observation.observed_to <= as_of:
            windows[observation.endpoint_id].append(observation)
    return {endpoint_id: _fold(own, spec, as_of) for endpoint_id, own in windows.items()}


def _fold(windows: Sequence[Observation], spec: EvidenceSpec, as_of: datetime) -> EndpointEvidence:
    fresh = sorted((o for o in windows if as_of - o.observed_to <= spec.max_age), key=_order)
    if not fresh:
        return EndpointEvidence(None, stale=True)
    half_life = half_life_of(fresh, spec)
    sources = tuple(sorted({o.source for o in fresh}))
    by_source = {s: total(o for o in fresh if o.source == s) for s in sources}
    return EndpointEvidence(
        FoldedCounts(
            observed=total(fresh),
            discounted=total(fresh, discount(half_life, as_of)),
            half_life=half_life,
            sources=sources,
            observed_from=min(o.observed_from for o in fresh),
            observed_to=max(o.observed_to for o in fresh),
            by_source=by_source,
            references=frozenset(o.source for o in fresh if o.reference),
            shares={s: observed_shares(by_source[s], spec.design_effect) for s in sources},
        ),
        stale=False,
    )


def _order(window: Observation) -> tuple[datetime, datetime, str, int, int, int]:
    counts = (window.requests, window.tool_call_requests, window.errored_requests)
    return (window.observed_to, window.observed_from, window.source, *counts)


def discount(half_life: timedelta, as_of: datetime) -> Callable[[Observation], float]:
    """Return the weight of a window by its age: it halves every half-life."""
    return lambda o: 2.0 ** (-((as_of - o.observed_to) / half_life))


def half_life_of(fresh: Sequence[Observation], spec: EvidenceSpec) -> timedelta:
    """Return the time in which the target number of effective requests arrives, bounded."""
    hours = sum((o.observed_to - o.observed_from) / HOUR for o in fresh)
    calls = sum(o.tool_call_requests for o in fresh)
    if calls <= 0 or hours <= 0:
        return spec.half_life_max
    rate = calls / spec.design_effect / hours
    wanted = HOUR * min(spec.half_life_target / rate, 1e6)
    return min(max(wanted, spec.half_life_min), spec.half_life_max)


def total(
    windows: Iterable[Countable], weight: Callable[[Countable], float] | None = None
) -> Counts:
    """Return weighted sums of counts, added in the order given."""
    requests = calls = errored = 0.0
    for window in windows:
        factor = weight(window) if weight else 1.0
        requests += factor * window.requests
        calls += factor * window.tool_call_requests
        errored += factor * window.errored_requests
    return Counts(requests, calls, errored)
