"""How much each tenant may move: by its share of what the whole pool was used for.

How it works. Anyone can make up tenants and calls, but only at a cost. Therefore a tenant counts by
what it has used: its requests with tools at all endpoints of the model, undiscounted, as far back
as evidence counts (`PoolUsage`). From this follow three limits:

- `bound`: at one endpoint, no tenant has more than twice its share of use.
- `outliers`: tenants that err at an endpoint far more often than all others there are left out, as
  long as they are few by their share of use. If they are many, the endpoint has a fault.
- `set_aside`: tenants that fail at three providers or more are broken themselves.

A source without tenant names vouches for its own counts, and none of the limits applies to it.

See service/STATISTICS.md#shares-of-use, #outliers and #broken-tenants.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum, log
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.evidence.statistics import at_least_so_many

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

MOST_EFFECTIVE: Final = 500.0
"""Effective calls that one tenant may have per endpoint."""
_TIMES_ITS_SHARE: Final = 2.0
_FEWEST_TENANTS: Final = 5  # from which on one of them may be an outlier
_LARGEST_PART: Final = 0.25  # outliers have at most this part of the use at the endpoint
_SIGNIFICANT: Final = 0.001
_TIMES_THE_OTHERS: Final = 2.0
_BROKEN_ERRORS: Final = 0.25
_BROKEN_TIMES_THE_OTHERS: Final = 4.0
_BROKEN_PROVIDERS: Final = 3
_ENOUGH_TO_SEE: Final = log(_SIGNIFICANT) / log(_BROKEN_ERRORS)  # effective calls, all errored
_ROUNDS: Final = 16


def add_up(places: Ints, values: ArrayLike, count: int) -> Floats:
    """Add up values by place, in their order; places are numbered from 0 to below `count`."""
    found: Floats = np.bincount(places, values, count).astype(np.float64, copy=False)
    return found


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """What each tenant used of a model, capped, and the whole that shares are taken of.

    `amounts` are in the order of tenant numbers. The whole is the sum of all, taken as if the pool
    had been used for `EvidenceSpec.usage_days` already: so an attack that is cheaper than a day's
    honest use has a small share of a young pool too.
    """

    amounts: Floats
    whole: float

    def share(self, tenants: Ints) -> float:
        """Return the share of use that some tenants have together."""
        return fsum(self.amounts[tenants].tolist()) / self.whole if self.whole else 0.0


@dataclass(frozen=True, slots=True)
class TenantUse:
    """The use of a pool by the names of its tenants, and the tenants that are set aside."""

    amounts: Mapping[str, float]
    whole: float
    aside: frozenset[str]


def convincing_counts(
    run: Mapping[str, tuple[float, float]], use: TenantUse, spec: EvidenceSpec
) -> tuple[float, float]:
    """Return the calls and errors of tenants at an endpoint that speak for a fault of its own.

    Tenants that are set aside and outliers are left out, and no tenant counts for more than twice
    its share of use. If five tenants or more use the pool, and the callers have no larger share of
    it than outliers may have, nothing is convincing.
    """
    known = sorted(run.keys() & use.amounts.keys() - use.aside)
    vouched = [run[name] for name in sorted(run.keys() - use.amounts.keys())]
    calls, errored = fsum(n for n, _ in vouched), fsum(bad for _, bad in vouched)
    if not known:
        return calls, errored
    amounts = np.array([use.amounts[name] for name in known])
    usage, numbers = PoolUsage(amounts, use.whole), np.arange(len(known))
    counts, errors = np.array([run[name] for name in known], np.float64).T
    counting = bound(counts, np.zeros_like(numbers), amounts, 1, np.inf)
    at = TenantsAtEndpoint(numbers, counts, errors, counting)
    if len(use.amounts) >= _FEWEST_TENANTS:
        least = min(
            2.0 * spec.outlier_share * use.whole, _LARGEST_PART * fsum(use.amounts.values())
        )
        if fsum(amounts.tolist()) <= least:
            return calls, errored
    _, left_out = outliers(at, usage, spec)
    counted = bound((1.0 - left_out) * at.calls, np.zeros_like(numbers), amounts, 1, np.inf)
    part = np.divide(counted, at.calls, out=np.zeros_like(counted), where=at.calls > 0)
    return calls + fsum(counted.tolist()), errored + fsum((part * at.errored).tolist())


def pool_usage(used: Floats, days: float, spec: EvidenceSpec) -> PoolUsage:
    """Return the use of a pool that has been used for so many days."""
    tenants = int(np.count_nonzero(used))
    ceiling = _level(used, largest_share(tenants)) if tenants else 0.0
    amounts = np.minimum(used, ceiling)
    young = max(1.0, spec.usage_days / max(days, 1 / 24))
    return PoolUsage(amounts, fsum(amounts.tolist()) * young)


def largest_share(tenants: int) -> float:
    """Return the largest share of use of one of so many tenants."""
    return min(max(0.01, min(3.0 / tenants, 1.0 / 3.0), 2.0 / tenants), 1.0)


def _level(amounts: Floats, share: float) -> float:
    """Return the height to cut amounts at, so that none is more than `share` of their sum then."""
    ordered = np.sort(amounts)
    sums = np.cumsum(ordered)
    for cut in range(len(ordered)):
        amount, rest = float(ordered[-1 - cut]), float(sums[-1 - cut])
        height = share * rest / (1.0 - cut * share) if cut * share < 1.0 else np.inf
        if amount <= height:
            return height
    return np.inf


def bound(amounts: Floats, endpoint: Ints, use: Floats, count: int, most: float) -> Floats:
    """Return amounts by endpoint and tenant, cut to `most` and to shares of an endpoint's total.

    A tenant has at most its share of use among the tenants with any amount at the endpoint, or
    twice that, as long as it is not above `largest_share`. `use` is of the tenant of each amount,
    `count` the number of endpoints.
    """
    cut = np.minimum(amounts, most)
    active = add_up(endpoint, np.where(cut > 0, use, 0.0), count)
    tenants = add_up(endpoint, cut > 0, count)
    largest = np.array([largest_share(n) if n else 1.0 for n in tenants.astype(int).tolist()])
    own = np.divide(use, active[endpoint], out=np.ones_like(use), where=active[endpoint] > 0)
    share = np.minimum(_TIMES_ITS_SHARE * own, np.maximum(own, largest[endpoint]))
    total = add_up(endpoint, cut, count)
    for _ in range(_ROUNDS):  # Newton's method, from above to the largest total that keeps to all
        above = cut > share * total[endpoint]
        if not above.any():
            break
        free = add_up(endpoint, np.where(above, 0.0, cut), count)
        rest = 1.0 - add_up(endpoint, np.where(above, share, 0.0), count)
        total = np.minimum(np.divide(free, rest, out=total.copy(), where=rest > 0), total)
    bounded: Floats = np.minimum(cut, share * total[endpoint])
    return bounded


@dataclass(frozen=True, slots=True)
class TenantsAtEndpoint:
    """The counts of each tenant at one endpoint, by tenant number, and how many calls may count."""

    tenants: Ints
    calls: Floats
    errored: Floats
    counting: Floats

    def only(self, kept: Bools) -> TenantsAtEndpoint:
        """Return the counts of some of the tenants."""
        return TenantsAtEndpoint(
            self.tenants[kept], self.calls[kept], self.errored[kept], self.counting[kept]
        )


def far_worse(at: TenantsAtEndpoint, spec: EvidenceSpec, least: float, times: float) -> Bools:
    """Return who certainly errs more often than `least` and so many times as often as the others.

    The others are the tenants that do not certainly err more often than `EvidenceSpec.
    outlier_errors`. If no other tenant called the endpoint, there are no outliers.
    """
    worse = _certainly_above(spec.outlier_errors, at, spec, np.ones(len(at.calls), dtype=bool))
    others = fsum(at.counting[~worse].tolist()) if worse.any() else 0.0
    if not others:
        return np.zeros(len(worse), dtype=bool)
    rate = np.divide(at.errored, at.calls, out=np.zeros_like(at.calls), where=at.calls > 0)
    usual = fsum((at.counting * rate)[~worse].tolist()) / others
    return _certainly_above(min(max(least, times * usual), 1.0), at, spec, worse)


def _certainly_above(share: float, at: TenantsAtEndpoint, spec: EvidenceSpec, of: Bools) -> Bools:
    """Return which of some tenants certainly err in more than this share of their calls."""
    found: Bools = of & (at.errored > share * at.calls)
    likely = np.flatnonzero(found)
    bad, size = (each[likely] / spec.design_effect for each in (at.errored, at.calls))
    found[likely] = at_least_so_many(bad, size, share) < _SIGNIFICANT
    return found


def outliers(at: TenantsAtEndpoint, usage: PoolUsage, spec: EvidenceSpec) -> tuple[Bools, Floats]:
    """Return who is an outlier at an endpoint, and which part of each tenant's counts is left out.

    Outliers are left out wholly up to `EvidenceSpec.outlier_share` of the pool's use, and not at
    all from twice that on. Of five tenants or more, a single one is always left out.
    """
    found = far_worse(at, spec, spec.outlier_errors, _TIMES_THE_OTHERS)
    if not found.any() or (found.sum() == 1 and len(found) >= _FEWEST_TENANTS):
        return found, found.astype(np.float64)
    use = usage.amounts[at.tenants]
    most = min(spec.outlier_share * usage.whole, _LARGEST_PART * fsum(use.tolist()))
    part = fsum(use[found].tolist()) / most if most else np.inf
    return found, np.where(found, min(max(2.0 - part, 0.0), 1.0), 0.0)


def set_aside(
    by_endpoint: Mapping[str, TenantsAtEndpoint], tenants: int, spec: EvidenceSpec
) -> Bools:
    """Return the tenants that fail at three providers or more, and at most endpoints they use.

    Only endpoints count at which a tenant made enough calls to be found. `tenants` is their number.
    """
    failing: defaultdict[int, set[str]] = defaultdict(set)
    tried, failed = np.zeros(tenants), np.zeros(tenants)
    for endpoint_id, at in by_endpoint.items():
        tried[at.tenants[at.calls >= _ENOUGH_TO_SEE * spec.design_effect]] += 1
        found = at.tenants[far_worse(at, spec, _BROKEN_ERRORS, _BROKEN_TIMES_THE_OTHERS)]
        failed[found] += 1
        for tenant in found.tolist():
            failing[tenant].add(_provider(endpoint_id))
    aside = np.zeros(tenants, dtype=bool)
    for tenant, providers in failing.items():
        often = 2 * failed[tenant] > tried[tenant]
        aside[tenant] = len(providers) >= _BROKEN_PROVIDERS and often
    return aside


def _provider(endpoint_id: str) -> str:
    """Return the provider in an endpoint's tag: `a` of `lab/model@a/fp8~2`."""
    return endpoint_id.partition("@")[2].partition("/")[0].partition("~")[0]
