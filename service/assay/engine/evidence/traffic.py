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
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import accumulate
from math import fsum
from typing import Final

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
from assay.engine.evidence.propensity import CellNumbers, ToolShares, traffic_shares
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
from assay.engine.world.measurements import Counts
from assay.engine.world.traffic_table import TrafficColumns, TrafficTable

_MOST_STRATA: Final = 64  # of one source
_STALE: Final = EndpointEvidence(None, stale=True)
_PRIOR_WEIGHT: Final = 30.0  # of the design effect
_CLIP: Final = 9.0
_MOST_CLUSTERED: Final = 4.0


def add_traffic(
    evidence: Mapping[str, EndpointEvidence], table: TrafficTable, spec: EvidenceSpec
) -> Mapping[str, EndpointEvidence]:
    """Join one model's traffic with its observations."""
    traffic = Traffic.of(table)
    telling = traffic.endpoints if traffic else ()
    known = dict.fromkeys((*evidence, *telling, *sorted(table.stale)))
    if traffic is None:
        return {name: evidence.get(name, _STALE) for name in known} if table.stale else evidence
    accuracy = Accuracy(traffic, spec)
    folded = _fold(accuracy)
    effect = accuracy.design_effect
    return {name: _joined(evidence.get(name, _STALE), folded.get(name), effect) for name in known}


class Traffic:
    """The counts of one model, and their endpoints, tenants and strata numbered from 0.

    A source that names no tenants counts as one tenant that vouches for itself. `pair` numbers the
    endpoints and tenants that occur together, in the order of `pair_endpoint` and `pair_tenant`.
    `starts` are the first rows of the endpoints, and the number of all rows.
    """

    def __init__(self, table: TrafficTable, columns: TrafficColumns) -> None:
        self.columns, self.late = columns, table.late
        names = np.array([bool(name) for name in table.tenants], dtype=bool)
        naming = np.zeros(len(table.sources), dtype=bool)
        naming[columns.source[names[columns.tenant]]] = True
        self.named = naming[columns.source]
        endpoints, self.endpoint = _numbered(columns.endpoint)
        self.endpoints = [table.endpoints[number] for number in endpoints]
        last = len(table.tenants)
        tenants, self.tenant = _numbered(
            np.where(self.named, columns.tenant, last + columns.source)
        )
        self.is_named: Bools = np.array(tenants) < last
        self.tenants = [
            table.tenants[number] if number < last else table.sources[number - last]
            for number in tenants
        ]
        strata, self.stratum = _numbered(columns.source * _MOST_STRATA + columns.stratum)
        self.strata = [
            (table.sources[number // _MOST_STRATA], number % _MOST_STRATA) for number in strata
        ]
        self.sources = table.sources
        self.calls, self.errored = columns.tool_call_requests, columns.errored_requests
        pairs, self.pair = np.unique(
            self.endpoint * len(self.tenants) + self.tenant, return_inverse=True
        )
        self.pair_endpoint, self.pair_tenant = np.divmod(pairs, len(self.tenants))
        self.starts = np.searchsorted(self.endpoint, np.arange(len(self.endpoints) + 1))

    @classmethod
    def of(cls, table: TrafficTable) -> Traffic | None:
        """Return the counts of endpoints that answered any request, `None` if none did."""
        columns = table.columns
        answered = add_up(columns.endpoint, columns.observed_requests, len(table.endpoints))
        is_telling = answered[columns.endpoint] > 0
        if not is_telling.any():
            return None
        if is_telling.all():
            return cls(table, columns)
        rows = np.flatnonzero(is_telling).tolist()
        late = {n: table.late[row] for n, row in enumerate(rows) if row in table.late}
        return cls(replace(table, late=late), columns.only(is_telling))

    def by_pair(self, values: Floats) -> Floats:
        """Add up values of cells by endpoint and tenant."""
        return add_up(self.pair, values, len(self.pair_tenant))

    def days(self) -> float:
        """Return for how many days the pool has been used."""
        hours = int(self.columns.last_hour.max()) + 1 - int(self.columns.first_hour.min())
        return hours / HOURS_PER_DAY


def _numbered(numbers: Ints) -> tuple[list[int], Ints]:
    """Return the distinct numbers in order, and the place of each number among them."""
    distinct, places = np.unique(numbers, return_inverse=True)
    return distinct.tolist(), places


class Accuracy:
    """The errors of one model's endpoints, and how they came about.

    `aside` are the tenants that are set aside everywhere. By pair, `is_outlier` is whether a tenant
    is an outlier at an endpoint, and `left_out` which part of its calls does not count. `part` is
    the part of each cell's calls that counts in the end, `cells` are these calls, and `is_counted`
    is whether a pair has any.
    """

    def __init__(self, traffic: Traffic, spec: EvidenceSpec) -> None:
        self.traffic, self.spec = traffic, spec
        requests = traffic.columns.observed_requests
        used = add_up(traffic.tenant, requests, len(traffic.tenants))
        self.usage = pool_usage(np.where(traffic.is_named, used, 0.0), traffic.days(), spec)
        self.aside, self.is_outlier, self.left_out = self._exclusions()
        self.part = self.counting_part(traffic.calls)
        self.cells = self._cells(traffic.calls, traffic.errored, self.part)
        self.is_counted = traffic.by_pair(self.cells.calls) > 0
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
        starts = np.searchsorted(traffic.pair_endpoint, np.arange(len(traffic.endpoints) + 1))
        found = {}
        for number, name in enumerate(traffic.endpoints):
            start, stop = starts[number : number + 2].tolist()
            pairs = start + np.flatnonzero(named[start:stop])
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
            (self.traffic.tenants[number], number)
            for number in np.flatnonzero(self.traffic.is_named).tolist()
        ]
        amounts = {name: float(self.usage.amounts[number]) for name, number in named}
        aside = frozenset(name for name, number in named if self.aside[number])
        return TenantUse(amounts, self.usage.whole, aside)

    def tenants_of(self, endpoint: int) -> tuple[int | None, float | None]:
        """Return how many tenants an endpoint's counts are of, and their share of the pool's use.

        Both are `None` if a source vouches for some of the counts.
        """
        traffic = self.traffic
        callers = traffic.pair_tenant[self.is_counted & (traffic.pair_endpoint == endpoint)]
        if not traffic.is_named[callers].all():
            return None, None
        return len(callers), self.usage.share(callers)

    def _design_effect(self) -> float:
        """Return how much more errors vary between tenants than by chance.

        Counts are undiscounted: discounted counts vary less than their number suggests. Each tenant
        counts for at most three standard deviations under the prior.
        """
        traffic, prior = self.traffic, self.spec.design_effect
        calls = traffic.columns.observed_calls.astype(np.float64)
        errored = traffic.columns.observed_errored.astype(np.float64)
        cells = self._cells(calls, errored, self.part)
        endpoints, count = cells.endpoint, cells.endpoints
        usual = add_up(endpoints, cells.calls * self.rates.usual, count)
        found = add_up(endpoints, cells.errored, count)
        factor = np.divide(found, usual, out=np.zeros(count), where=usual > 0)
        rate = np.minimum(self.rates.usual * factor[endpoints], 1.0)
        chance = traffic.by_pair(cells.calls * rate * (1.0 - rate))
        excess = traffic.by_pair(cells.errored - cells.calls * rate)
        counts = self.is_counted & traffic.is_named[traffic.pair_tenant]
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
    traffic, columns = accuracy.traffic, accuracy.traffic.columns
    numbers = CellNumbers(
        traffic.endpoint,
        columns.source,
        columns.stratum,
        traffic.tenant,
        traffic.named,
        len(traffic.endpoints),
        len(traffic.sources),
    )
    autos = accuracy.counting_part(columns.auto_requests)
    attempts = accuracy.counting_part(columns.attempts)
    found = traffic_shares(columns, numbers, autos, attempts, accuracy.design_effect)
    return {
        name: {traffic.sources[source]: shares for source, shares in found[number].items()}
        for number, name in enumerate(traffic.endpoints)
    }


def _fold(accuracy: Accuracy) -> Mapping[str, FoldedCounts]:
    """Return the evidence of each endpoint."""
    traffic, standard = accuracy.traffic, accuracy.standard
    shares = _shares(accuracy)
    requests = add_up(
        traffic.endpoint, accuracy.part * traffic.columns.requests, len(traffic.endpoints)
    )
    use = accuracy.tenant_use()
    folded: dict[str, FoldedCounts] = {}
    for number, name in enumerate(traffic.endpoints):
        size, errored = float(standard.size[number]), float(standard.errored[number])
        own = EndpointRows(accuracy, slice(*traffic.starts[number : number + 2].tolist()))
        tenants, use_share = accuracy.tenants_of(number)
        folded[name] = replace(
            own.evidence(Counts(float(requests[number]), size, errored), shares[name]),
            design_effect=accuracy.design_effect,
            use=use,
            tenants=tenants,
            use_share=use_share,
        )
    return folded


class EndpointRows:
    """The rows of one endpoint among those of its model."""

    def __init__(self, accuracy: Accuracy, rows: slice) -> None:
        self.traffic, self.rows = accuracy.traffic, rows
        self.part = accuracy.part[rows]

    def evidence(self, discounted: Counts, shares: Mapping[str, ToolShares]) -> FoldedCounts:
        """Return the evidence of the endpoint."""
        columns, rows = self.traffic.columns, self.rows
        source = columns.source[rows]
        observed = (
            columns.observed_requests[rows],
            columns.observed_calls[rows],
            columns.observed_errored[rows],
        )
        by_source = {
            self.traffic.sources[number]: Counts(
                *(float(each[source == number].sum()) for each in observed)
            )
            for number in sorted(set(source.tolist()))
        }
        return FoldedCounts(
            observed=total(by_source.values()),
            discounted=discounted,
            half_life=timedelta(hours=float(columns.half_life[rows.start])),
            sources=tuple(by_source),
            observed_from=EPOCH + HOUR * int(columns.first_hour[rows].min()),
            observed_to=EPOCH + HOUR * (int(columns.last_hour[rows].max()) + 1),
            by_source=by_source,
            references=frozenset(),
            shares=shares,
            hour=self._hour(columns.hour_calls[rows], columns.hour_errored[rows]),
            late=self._late(),
            by_tenant=lambda: self._by_tenant(
                columns.tool_call_requests[rows], columns.errored_requests[rows]
            ),
        )

    def _late(self) -> Mapping[int, HourOfEndpoint]:
        """Return the earlier hours that have grown since they were closed."""
        if not self.traffic.late:
            return {}
        hours: defaultdict[int, Ints] = defaultdict(
            lambda: np.zeros((2, self.rows.stop - self.rows.start), np.int64)
        )
        for place, row in enumerate(range(self.rows.start, self.rows.stop)):
            for hour, calls, errored in self.traffic.late.get(row, ()):
                hours[hour][:, place] = calls, errored
        return {hour: self._hour(*hours[hour]) for hour in sorted(hours)}

    def _hour(self, calls: Ints, errored: Ints) -> HourOfEndpoint:
        """Return one hour's counts."""
        return HourOfEndpoint(
            HourCounts(int(calls.sum()), int(errored.sum())),
            HourCounts(fsum((self.part * calls).tolist()), fsum((self.part * errored).tolist())),
            lambda: self._by_tenant(calls, errored),
        )

    def _by_tenant(self, calls: Ints | Floats, errored: Ints | Floats) -> CallsByTenant:
        """Add up counts of the rows by tenant; those without a name are one."""
        found: dict[str, tuple[float, float]] = {}
        named = self.traffic.named[self.rows].tolist()
        tenants = self.traffic.tenant[self.rows].tolist()
        rows = zip(named, tenants, calls.tolist(), errored.tolist(), strict=True)
        for is_named, tenant, n, bad in rows:
            name = self.traffic.tenants[tenant] if is_named else ""
            before = found.get(name, (0.0, 0.0))
            found[name] = before[0] + n, before[1] + bad
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
