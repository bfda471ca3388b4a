"""Traffic of a model's endpoints folded into evidence, together with imported observations.

How it works. `add_traffic` takes all counts of one model and proceeds in six steps:

1. Find what each tenant used of the whole pool (`usage.py`). Its share bounds what it may move.
2. Set aside tenants that fail at many endpoints, and at each endpoint leave out a few tenants that
   err far more often than all others there.
3. Fit the errors that remain as pool × stratum × tenant × endpoint, and standardize each
   endpoint's on the requests of the whole pool (`error_rates.py`).
4. Estimate how much errors cluster by tenant, which gives the model's design effect.
5. Estimate how often each endpoint calls tools and is of use (`propensity.py`).
6. Join the result with the observations of the endpoint.

INVARIANT: sums are added in the order of endpoint, source, tenant and stratum, so that the result,
and with it the digest of a snapshot, does not depend on the order of the input.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Final, TypeVar

import numpy as np

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.evidence.error_rates import Cells, ErrorRates, Standardized, fit, standardize
from assay.engine.evidence.observations import (
    CallsByTenant,
    EndpointEvidence,
    FoldedCounts,
    HourCounts,
    HourOfEndpoint,
    total,
)
from assay.engine.evidence.propensity import CountedPart, ToolShares, attempts_of, traffic_shares
from assay.engine.evidence.usage import (
    MOST_EFFECTIVE,
    Bools,
    Floats,
    Ints,
    TenantsAtEndpoint,
    TenantUse,
    add_up,
    bound,
    outliers,
    pool_usage,
    set_aside,
)
from assay.engine.world.clock import EPOCH, HOUR, HOURS_PER_DAY
from assay.engine.world.measurements import Counts, TrafficCounts

_Name = TypeVar("_Name", str, tuple[bool, str], tuple[str, int])
_STALE: Final = EndpointEvidence(None, stale=True)
_PRIOR_WEIGHT: Final = 30.0  # of the design effect
_CLIP: Final = 9.0
_MOST_CLUSTERED: Final = 4.0


def add_traffic(
    evidence: Mapping[str, EndpointEvidence], counts: Iterable[TrafficCounts], spec: EvidenceSpec
) -> Mapping[str, EndpointEvidence]:
    """Join one model's traffic with its observations; the order of `counts` does not matter."""
    every = sorted(counts, key=lambda c: (c.endpoint_id, c.source, c.tenant, c.stratum))
    ordered = [each for each in every if each.observed.requests or not each.attempts]
    if not ordered:
        return evidence
    known = dict.fromkeys((*evidence, *(each.endpoint_id for each in ordered)))
    answering = {each.endpoint_id for each in ordered if each.observed.requests}
    tried = (each for each in every if each.endpoint_id in answering)
    fresh = [each for each in tried if each.observed.requests or each.attempts]
    if not fresh:
        return {name: evidence.get(name, _STALE) for name in known}
    accuracy = Accuracy(Traffic(fresh), spec)
    shares = _shares(accuracy)
    folded = _fold(accuracy, shares)
    effect = accuracy.design_effect
    return {name: _joined(evidence.get(name, _STALE), folded.get(name), effect) for name in known}


class Traffic:
    """The counts of one model as columns, and their endpoints, tenants and strata numbered.

    A source that names no tenants counts as one tenant that vouches for itself. `pair` numbers the
    endpoints and tenants that occur together, in the order of `pair_endpoint` and `pair_tenant`.
    """

    def __init__(self, counts: Sequence[TrafficCounts]) -> None:
        self.counts = counts
        naming = {each.source for each in counts if each.tenant}
        self.named = np.array([each.source in naming for each in counts], dtype=bool)
        tenants = [
            (True, each.tenant) if is_named else (False, each.source)
            for each, is_named in zip(counts, self.named.tolist(), strict=True)
        ]
        self.endpoints, self.endpoint = _numbered([each.endpoint_id for each in counts])
        self.tenants, self.tenant = _numbered(tenants)
        self.strata, self.stratum = _numbered([(each.source, each.stratum) for each in counts])
        self.is_named = np.array([name for name, _ in self.tenants], dtype=bool)
        self.calls = np.array([each.tool_call_requests for each in counts])
        self.errored = np.array([each.errored_requests for each in counts])
        pairs = self.endpoint * len(self.tenants) + self.tenant
        numbers, self.pair = np.unique(pairs, return_inverse=True)
        self.pair_endpoint, self.pair_tenant = np.divmod(numbers, len(self.tenants))

    def by_pair(self, values: Floats) -> Floats:
        """Add up values of cells by endpoint and tenant."""
        return add_up(self.pair, values, len(self.pair_tenant))

    def days(self) -> float:
        """Return for how many days the pool has been used."""
        hours = max(c.last_hour for c in self.counts) + 1 - min(c.first_hour for c in self.counts)
        return hours / HOURS_PER_DAY


def _numbered(names: Sequence[_Name]) -> tuple[Sequence[_Name], Ints]:
    """Return the distinct names in order, and the number of each name."""
    distinct = sorted(set(names))
    number = {name: place for place, name in enumerate(distinct)}
    return distinct, np.array([number[name] for name in names], dtype=np.intp)


class Accuracy:
    """The errors of one model's endpoints, and how they came about.

    `aside` are the tenants that are set aside everywhere. By pair, `is_outlier` is whether a tenant
    is an outlier at an endpoint, and `left_out` which part of its calls does not count. `part` is
    the part of each cell's calls that counts in the end, and `cells` are these calls.
    """

    def __init__(self, traffic: Traffic, spec: EvidenceSpec) -> None:
        self.traffic, self.spec = traffic, spec
        requests = [c.observed.requests for c in traffic.counts]
        used = add_up(traffic.tenant, requests, len(traffic.tenants))
        self.usage = pool_usage(np.where(traffic.is_named, used, 0.0), traffic.days(), spec)
        self.aside, self.is_outlier, self.left_out = self._exclusions()
        self.part = self.counting_part(traffic.calls)
        self.cells = self._cells(traffic.calls, traffic.errored, self.part)
        self.rates: ErrorRates = fit(self.cells)
        self.standard: Standardized = standardize(self.cells, self.rates)
        self.design_effect = self._design_effect()

    def _exclusions(self) -> tuple[Bools, Bools, Floats]:
        """Return who is set aside, who is an outlier, and which part of outliers is left out."""
        traffic = self.traffic
        at = self._tenants_at_endpoints()
        aside = set_aside(
            {name: found for name, (_, found) in at.items()}, len(traffic.tenants), self.spec
        )
        is_outlier = np.zeros(len(traffic.pair_tenant), dtype=bool)
        left_out = np.zeros(len(traffic.pair_tenant))
        for pairs, found in at.values():
            here = ~aside[found.tenants]
            kept = pairs[here]
            is_outlier[kept], left_out[kept] = outliers(found.only(here), self.usage, self.spec)
        return aside, is_outlier, left_out

    def _tenants_at_endpoints(self) -> Mapping[str, tuple[Ints, TenantsAtEndpoint]]:
        """Return the named tenants' counts at each endpoint, with the numbers of their pairs."""
        traffic = self.traffic
        calls, errored = traffic.by_pair(traffic.calls), traffic.by_pair(traffic.errored)
        counting = self._bound(calls)
        named = traffic.is_named[traffic.pair_tenant] & (calls > 0)
        found = {}
        for number, name in enumerate(traffic.endpoints):
            pairs = np.flatnonzero(named & (traffic.pair_endpoint == number))
            columns = (each[pairs] for each in (calls, errored, counting))
            found[name] = pairs, TenantsAtEndpoint(traffic.pair_tenant[pairs], *columns)
        return found

    def _bound(self, amounts: Floats) -> Floats:
        """Return amounts of pairs, cut by the tenants' shares of use where tenants are named."""
        traffic, bounded = self.traffic, amounts.copy()
        named = traffic.is_named[traffic.pair_tenant]
        most = MOST_EFFECTIVE * self.spec.design_effect
        use = self.usage.amounts[traffic.pair_tenant[named]]
        endpoint = traffic.pair_endpoint[named]
        bounded[named] = bound(amounts[named], endpoint, use, len(traffic.endpoints), most)
        return bounded

    def counting_part(self, amounts: Floats) -> Floats:
        """Return which part of such amounts of each cell counts, in calls or in requests."""
        traffic = self.traffic
        whole = traffic.by_pair(amounts)
        kept = np.where(self.aside[traffic.pair_tenant], 0.0, 1.0 - self.left_out)
        counted = self._bound(whole * kept)
        part = np.divide(counted, whole, out=kept, where=whole > 0)
        found: Floats = part[traffic.pair]
        return found

    def _cells(self, calls: Floats, errored: Floats, part: Floats) -> Cells:
        traffic = self.traffic
        sizes = len(traffic.endpoints), len(traffic.tenants), len(traffic.strata)
        numbers = traffic.endpoint, traffic.tenant, traffic.stratum
        kinds = np.array([stratum for _, stratum in traffic.strata], dtype=np.intp)
        is_typical = ~self.is_outlier[traffic.pair]
        return Cells(*numbers, part * calls, part * errored, is_typical, *sizes, kinds)

    def tenant_use(self) -> TenantUse:
        """Return what the named tenants used, by their names."""
        named = [
            (name, number)
            for number, (is_named, name) in enumerate(self.traffic.tenants)
            if is_named
        ]
        amounts = {name: float(self.usage.amounts[number]) for name, number in named}
        aside = frozenset(name for name, number in named if self.aside[number])
        return TenantUse(amounts, self.usage.whole, aside)

    def tenants_of(self, endpoint: int) -> tuple[int | None, float | None]:
        """Return how many tenants an endpoint's counts are of, and their share of the pool's use.

        Both are `None` if a source vouches for some of the counts.
        """
        traffic, own = self.traffic, self.traffic.pair_endpoint == endpoint
        counted = own & (traffic.by_pair(self.cells.calls) > 0)
        callers = traffic.pair_tenant[counted]
        if not traffic.is_named[callers].all():
            return None, None
        return len(callers), self.usage.share(callers)

    def _design_effect(self) -> float:
        """Return how much more errors vary between tenants than by chance.

        Counts are undiscounted: discounted counts vary less than their number suggests. Each tenant
        counts for at most three standard deviations under the prior.
        """
        traffic, prior = self.traffic, self.spec.design_effect
        calls = np.array([c.observed.tool_call_requests for c in traffic.counts])
        errored = np.array([c.observed.errored_requests for c in traffic.counts])
        cells = self._cells(calls, errored, self.counting_part(calls))
        endpoints, count = cells.endpoint, cells.endpoints
        usual = add_up(endpoints, cells.calls * self.rates.usual, count)
        found = add_up(endpoints, cells.errored, count)
        factor = np.divide(found, usual, out=np.zeros(count), where=usual > 0)
        rate = np.minimum(self.rates.usual * factor[endpoints], 1.0)
        chance = traffic.by_pair(cells.calls * rate * (1.0 - rate))
        excess = traffic.by_pair(cells.errored - cells.calls * rate)
        counts = (traffic.by_pair(cells.calls) > 0) & traffic.is_named[traffic.pair_tenant]
        varied = np.where(counts, np.minimum(excess * excess, _CLIP * prior * chance), 0.0)
        by_endpoint = (
            add_up(traffic.pair_endpoint, values, count).tolist()
            for values in (varied, np.where(counts, chance, 0.0), counts)
        )
        return _drawn_to_prior(
            [_clustering(*each) for each in zip(*by_endpoint, strict=True)], prior
        )


def _clustering(varied: float, chance: float, tenants: float) -> tuple[float, float]:
    """Return the design effect at one endpoint, and its weight."""
    others = tenants - 1.0
    if others < 1 or chance <= 0:
        return 0.0, 0.0
    return varied / chance * tenants / others, min(others, chance)


def _drawn_to_prior(found: Iterable[tuple[float, float]], prior: float) -> float:
    """Return the weighted median of the endpoints' design effects, drawn to the prior."""
    ordered = sorted(each for each in found if each[1])
    weight = sum(each for _, each in ordered)
    if not weight:
        return prior
    passed = accumulate(each for _, each in ordered)
    reached = (
        effect for (effect, _), so_far in zip(ordered, passed, strict=True) if so_far >= weight / 2
    )
    mean = (_PRIOR_WEIGHT * prior + weight * next(reached, ordered[-1][0])) / (
        _PRIOR_WEIGHT + weight
    )
    return min(max(mean, 1.0), _MOST_CLUSTERED * prior)


def _shares(accuracy: Accuracy) -> Mapping[str, Mapping[str, ToolShares]]:
    """Return how often each endpoint calls tools and is of use, by source."""
    traffic = accuracy.traffic
    autos, attempts = (
        accuracy.counting_part(np.array(amounts, dtype=np.float64)).tolist()
        for amounts in (
            [c.auto_requests for c in traffic.counts],
            [attempts_of(c) for c in traffic.counts],
        )
    )
    parts = map(CountedPart, traffic.counts, autos, attempts, traffic.named.tolist())
    return traffic_shares(parts, accuracy.design_effect)


def _fold(
    accuracy: Accuracy, shares: Mapping[str, Mapping[str, ToolShares]]
) -> Mapping[str, FoldedCounts]:
    """Return the evidence of each endpoint."""
    traffic, standard = accuracy.traffic, accuracy.standard
    requests = add_up(
        traffic.endpoint,
        accuracy.part * np.array([c.requests for c in traffic.counts]),
        len(traffic.endpoints),
    )
    cells: list[list[int]] = [[] for _ in traffic.endpoints]
    for place, number in enumerate(traffic.endpoint.tolist()):
        cells[number].append(place)
    parts = accuracy.part.tolist()
    use = accuracy.tenant_use()
    folded: dict[str, FoldedCounts] = {}
    for number, name in enumerate(traffic.endpoints):
        size, errored = float(standard.size[number]), float(standard.errored[number])
        own = [(traffic.counts[place], parts[place]) for place in cells[number]]
        discounted = Counts(float(requests[number]), size, errored)
        evidence = _evidence_of(own, discounted, shares[name])
        tenants, use_share = accuracy.tenants_of(number)
        folded[name] = replace(
            evidence,
            design_effect=accuracy.design_effect,
            use=use,
            tenants=tenants,
            use_share=use_share,
        )
    return folded


def _evidence_of(
    own: Sequence[tuple[TrafficCounts, float]],
    discounted: Counts,
    shares: Mapping[str, ToolShares],
) -> FoldedCounts:
    """Return the evidence of one endpoint from its cells and the parts of them that count."""
    counts = [each for each, _ in own]
    sources = tuple(sorted({each.source for each in counts}))
    by_source = {s: total(c.observed for c in counts if c.source == s) for s in sources}
    closed = [(each, part, each.hour_calls, each.hour_errored) for each, part in own]
    late: defaultdict[int, list[_CellHour]] = defaultdict(list)
    for each, part in own:
        for hour, calls, errored in each.late:
            late[hour].append((each, part, calls, errored))
    return FoldedCounts(
        observed=total(by_source.values()),
        discounted=discounted,
        half_life=counts[0].half_life,
        sources=sources,
        observed_from=EPOCH + HOUR * min(each.first_hour for each in counts),
        observed_to=EPOCH + HOUR * (max(each.last_hour for each in counts) + 1),
        by_source=by_source,
        references=frozenset(),
        shares=shares,
        hour=_hour_of(closed),
        late={hour: _hour_of(late[hour]) for hour in sorted(late)},
        by_tenant=lambda: _by_tenant(
            (each.tenant, each.tool_call_requests, each.errored_requests) for each in counts
        ),
    )


_CellHour = tuple[TrafficCounts, float, int, int]  # with the part that counts, calls and errored


def _hour_of(cells: Sequence[_CellHour]) -> HourOfEndpoint:
    """Return one hour's counts."""
    return HourOfEndpoint(
        HourCounts(sum(calls for *_, calls, _ in cells), sum(bad for *_, bad in cells)),
        HourCounts(sum(p * n for _, p, n, _ in cells), sum(p * bad for _, p, _, bad in cells)),
        lambda: _by_tenant((each.tenant, calls, bad) for each, _, calls, bad in cells),
    )


def _by_tenant(counts: Iterable[tuple[str, float, float]]) -> CallsByTenant:
    found: dict[str, tuple[float, float]] = {}
    for tenant, calls, errored in counts:
        before = found.get(tenant, (0.0, 0.0))
        found[tenant] = before[0] + calls, before[1] + errored
    return found


def _joined(
    before: EndpointEvidence, traffic: FoldedCounts | None, effect: float
) -> EndpointEvidence:
    """Join observations and traffic of one endpoint."""
    if before.folded is None:
        return EndpointEvidence(traffic, stale=False) if traffic else before
    if traffic is None:
        return EndpointEvidence(replace(before.folded, design_effect=effect), stale=False)
    return EndpointEvidence(_both(before.folded, traffic), stale=False)


def _both(observed: FoldedCounts, traffic: FoldedCounts) -> FoldedCounts:
    """Add up observations and traffic; the half-life is that of the kind with more evidence."""
    kinds = (observed, traffic)
    heavier = max(kinds, key=lambda each: each.discounted.tool_call_requests)
    sources = tuple(sorted({*observed.sources, *traffic.sources}))
    by_source = {}
    for source in sources:
        by_source[source] = total(f.by_source[source] for f in kinds if source in f.by_source)
    return FoldedCounts(
        observed=total(each.observed for each in kinds),
        discounted=total(each.discounted for each in kinds),
        half_life=heavier.half_life,
        sources=sources,
        observed_from=min(each.observed_from for each in kinds),
        observed_to=max(each.observed_to for each in kinds),
        by_source=by_source,
        references=observed.references | traffic.references,
        shares={**observed.shares, **traffic.shares},
        design_effect=traffic.design_effect,
        hour=traffic.hour,
        late=traffic.late,
        use=traffic.use,
        by_tenant=traffic.by_tenant,
    )
