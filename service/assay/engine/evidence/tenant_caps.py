"""What a single tenant may move: caps on its counts, a trimmed mean over tenants, and clustering.

See service/STATISTICS.md#caps-on-tenants, service/STATISTICS.md#trimmed-mean and
service/STATISTICS.md#design-effect.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from typing import Final

from assay.engine.evidence.strata import Part, Strata
from assay.engine.world.measurements import TrafficCounts

MOST_EFFECTIVE: Final = 500.0
"""Effective calls that one tenant may have per endpoint."""
MANY: Final = 30
"""Number of tenants from which on shares are capped and means trimmed."""
_GROUP: Final = 20.0
_SKEW: Final = 0.125
_PRIOR_WEIGHT: Final = 30.0
_CLIP: Final = 9.0
_MOST_CLUSTERED: Final = 4.0


@dataclass(frozen=True, slots=True)
class CappedCounts:
    """Counts, with the share of their calls and of their requests with free choice that counts.

    If `is_capped` is false, the source names no tenants, and all of them count.
    """

    counts: TrafficCounts
    is_capped: bool
    calls: float
    autos: float


def cap_tenants(
    counts: Sequence[TrafficCounts], naming: Collection[str], cap: float
) -> tuple[CappedCounts, ...]:
    """Cap each tenant of one endpoint at `cap` calls and as many requests, and at its share.

    `naming` are the sources that name tenants. Any other source vouches for its own counts.
    """
    named = [each for each in counts if each.source in naming]
    calls = factors(by_tenant((each, each.tool_call_requests) for each in named), cap)
    autos = factors(by_tenant((each, each.auto_requests) for each in named), cap)
    capped = []
    for each in counts:
        is_capped, tenant = each.source in naming, each.tenant
        call_factor = calls.get(tenant, 1.0) if is_capped else 1.0
        auto_factor = autos.get(tenant, 1.0) if is_capped else 1.0
        capped.append(CappedCounts(each, is_capped, call_factor, auto_factor))
    return tuple(capped)


def by_tenant(amounts: Iterable[tuple[TrafficCounts, float]]) -> dict[str, float]:
    """Return the sum of each tenant's amounts, without those that are zero."""
    sums: defaultdict[str, float] = defaultdict(float)
    for counts, amount in amounts:
        if amount:
            sums[counts.tenant] += amount
    return sums


def factors(counts: Mapping[str, float], cap: float) -> dict[str, float]:
    """Return each tenant's scaling factor, so that none has more than `cap` or its share."""
    capped = {tenant: min(counts[tenant], cap) for tenant in sorted(counts)}
    ceiling = level(capped.values(), largest_share(len(capped))) if len(capped) >= MANY else inf
    return {tenant: min(amount, ceiling) / counts[tenant] for tenant, amount in capped.items()}


def largest_share(tenants: int) -> float:
    """Return the largest share of one tenant: 1 %, or 3 / T where 1 % would have no solution."""
    return max(0.01, 3.0 / tenants)


def level(amounts: Iterable[float], share: float) -> float:
    """Return the height to cut amounts at, so that none is more than `share` of their sum then."""
    ordered = sorted(amounts)
    sums = list(accumulate(ordered))
    for cut, (amount, rest) in enumerate(zip(reversed(ordered), reversed(sums), strict=True)):
        height = share * rest / (1.0 - cut * share) if cut * share < 1.0 else inf
        if amount <= height:
            return height
    return inf


@dataclass(frozen=True, slots=True)
class Trim:
    """The share of ranked tenants to leave out at either end, and how many there must be."""

    share: float
    least: int


FIFTHS: Final = Trim(0.2, MANY)
THIRDS: Final = Trim(1 / 3, 9)


@dataclass(frozen=True, slots=True)
class ExcessErrors:
    """A tenant's calls, its errors above the usual ones, and their variance by chance."""

    tenant: str
    calls: float
    excess: float
    variance: float


def excesses(parts: Iterable[Part], usual: Mapping[str, Strata]) -> list[ExcessErrors]:
    """Return each tenant's errors above the `usual` ones of the same source and stratum."""
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for counts, calls, errored in parts:
        if calls:
            rate = usual[counts.source][counts.stratum].rate()
            found = sums[counts.tenant]
            found[0] += calls
            found[1] += errored - calls * rate
            found[2] += calls * rate * (1.0 - rate)
    return [ExcessErrors(tenant, *found) for tenant, found in sums.items()]


def trimmed(found: Iterable[ExcessErrors], trim: Trim) -> float | None:
    """Return the trimmed mean over tenants of the excess error rate, `None` for too few of them."""
    ranked = sorted(
        (each.excess + min(_SKEW, each.variance)) / each.calls for each in groups(found)
    )
    if len(ranked) < trim.least:
        return None
    cut = int(trim.share * len(ranked))
    kept = ranked[cut : len(ranked) - cut]
    return sum(kept) / len(kept)


def groups(found: Iterable[ExcessErrors]) -> list[ExcessErrors]:
    """Join tenants with fewer than 20 calls, in the order of their names, to groups of 20.

    A remainder at the end that does not reach 20 is left out.
    """
    joined = []
    calls = excess = variance = 0.0
    for each in sorted(found, key=lambda e: e.tenant):
        if each.calls >= _GROUP:
            joined.append(each)
            continue
        calls, excess, variance = calls + each.calls, excess + each.excess, variance + each.variance
        if calls >= _GROUP:
            joined.append(ExcessErrors(each.tenant, calls, excess, variance))
            calls = excess = variance = 0.0
    return joined


@dataclass(frozen=True, slots=True)
class Clustering:
    """How much more one endpoint's errors vary between tenants than by chance, and its weight."""

    effect: float
    weight: float


def clustering(
    found: Collection[ExcessErrors], factor: Mapping[str, float], prior: float
) -> Clustering | None:
    """Compare the variance of tenants' errors with that of chance; `None` if there is none.

    Each tenant counts by its factor, and for at most three standard deviations under the prior.
    """
    chance = varied = 0.0
    for each in found:
        scale = factor[each.tenant]
        chance += scale * each.variance
        varied += min((scale * each.excess) ** 2, _CLIP * prior * scale * each.variance)
    others = len(found) - 1
    if others < 1 or chance <= 0:
        return None
    return Clustering(varied / chance * len(found) / others, min(others, chance))


def design_effect(found: Iterable[Clustering], prior: float) -> float:
    """Return a model's design effect: the weighted median of its endpoints, drawn to the prior."""
    ordered = sorted(found, key=lambda c: (c.effect, c.weight))
    weight = sum(c.weight for c in ordered)
    if not weight:
        return prior
    passed = accumulate(c.weight for c in ordered)
    reached = (c.effect for c, sum_ in zip(ordered, passed, strict=True) if sum_ >= weight / 2)
    middle = next(reached, ordered[-1].effect)
    mean = (_PRIOR_WEIGHT * prior + weight * middle) / (_PRIOR_WEIGHT + weight)
    return min(max(mean, 1.0), _MOST_CLUSTERED * prior)
