"""Direct standardization: an endpoint's rate on the mix of requests that the whole pool gets.

See service/STATISTICS.md#strata. Each stratum weighs what it weighs in the pool. Strata in which an
endpoint has fewer than 30 requests are pooled, in the shape of the pool's rates; if all of them
together have fewer than 30, they borrow the pool's rates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from assay.engine.world.measurements import TrafficCounts

ENOUGH: Final = 30.0


@dataclass(frozen=True, slots=True)
class HitCounts:
    """A number of requests (`size`) and how many of them are counted (`hits`), such as errors."""

    size: float
    hits: float

    def rate(self, smoothing: float = 0.0) -> float:
        """Return the share of hits, with so many hits and misses added; 0 for nothing."""
        whole = self.size + 2 * smoothing
        return (self.hits + smoothing) / whole if whole else 0.0


Strata = Mapping[int, HitCounts]
Part = tuple[TrafficCounts, float, float]  # counts, and their size and hits of some kind
_EMPTY: Final = HitCounts(0.0, 0.0)


def together(shares: Iterable[HitCounts]) -> HitCounts:
    """Return the sum of counts, added in the order given."""
    size = hits = 0.0
    for share in shares:
        size += share.size
        hits += share.hits
    return HitCounts(size, hits)


def group_by_stratum(parts: Iterable[Part]) -> Mapping[str, Strata]:
    """Return sums of size and hits by source and stratum, without empty strata."""
    sums: dict[tuple[str, int], list[float]] = {}
    for counts, size, hits in parts:
        if size:
            found = sums.setdefault((counts.source, counts.stratum), [0.0, 0.0])
            found[0] += size
            found[1] += hits
    grouped: defaultdict[str, dict[int, HitCounts]] = defaultdict(dict)
    for (source, stratum), (size, hits) in sums.items():
        grouped[source][stratum] = HitCounts(size, hits)
    return grouped


@dataclass(frozen=True, slots=True)
class RequestMix:
    """A pool's requests by stratum: the weight of each, and its rate with so much smoothing."""

    weights: Mapping[int, float]
    rates: Mapping[int, float]
    smoothing: float


def mix(pool: Strata, smoothing: float = 0.0) -> RequestMix:
    """Return the mix of a pool."""
    strata = [k for k in sorted(pool) if pool[k].size > 0]
    whole = together(pool[k] for k in strata).size
    return RequestMix(
        {k: pool[k].size / whole for k in strata},
        {k: pool[k].rate(smoothing) for k in strata},
        smoothing,
    )


@dataclass(slots=True)
class _ThinStrata:
    """Sums over the strata in which an endpoint has too few requests."""

    weight: float = 0.0
    shape: float = 0.0
    size: float = 0.0
    hits: float = 0.0
    expected: float = 0.0

    def add(self, share: HitCounts, weight: float, pool_rate: float) -> None:
        self.weight += weight
        self.shape += weight * pool_rate
        self.size += share.size
        self.hits += share.hits
        self.expected += share.size * pool_rate

    def rate(self, smoothing: float) -> float:
        """Their part of the rate: the pool's rates, scaled by how the endpoint's hits compare."""
        highest = self.weight * HitCounts(self.size, self.size).rate(smoothing)
        return min(self.shape * _hit_ratio(self.hits, self.expected, smoothing), highest)


def standardize(own: Strata, pool: RequestMix) -> HitCounts:
    """Return an endpoint's counts on the pool's mix.

    The plain counts are returned if there is one stratum, or too few requests. The size is the
    number of requests of that mix that would be as certain: never more than there are, except
    smoothing.
    """
    smoothing = pool.smoothing
    everything = together(own[stratum] for stratum in sorted(own))
    if len(pool.weights) == 1 or everything.size < ENOUGH:
        return HitCounts(everything.size + 2 * smoothing, everything.hits + smoothing)
    rate = covered = variance = 0.0  # the variance for a rate of one half, times 4 (Kish 1965)
    thin = _ThinStrata()
    for stratum, weight in pool.weights.items():
        share = own.get(stratum, _EMPTY)
        if share.size >= ENOUGH:
            rate += weight * share.rate(smoothing)
            covered += weight
            variance += weight * weight / share.size
        else:
            thin.add(share, weight, pool.rates[stratum])
    borrowed = thin.shape
    if thin.size >= ENOUGH:
        covered += thin.weight
        variance += thin.weight * thin.weight / thin.size
        borrowed = thin.rate(smoothing)
    size = covered * covered / variance
    return HitCounts(size, size * (rate + borrowed))


def _hit_ratio(hits: float, expected: float, smoothing: float) -> float:
    """Return how many times the hits there are that the pool's rates predict."""
    return (hits + smoothing) / (expected + smoothing) if expected + smoothing else 1.0
