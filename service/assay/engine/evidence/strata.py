"""Direct standardization: an endpoint's rate on the mix of requests that the whole pool gets.

See service/STATISTICS.md#strata. Each stratum weighs what it weighs in the pool. Strata in which an
endpoint has fewer than 30 requests are pooled, in the shape of the pool's rates; if all of them
together have fewer than 30, they borrow the pool's rates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

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
_EMPTY: Final = HitCounts(0.0, 0.0)


def together(shares: Iterable[HitCounts]) -> HitCounts:
    """Return the sum of counts, added in the order given."""
    size = hits = 0.0
    for share in shares:
        size += share.size
        hits += share.hits
    return HitCounts(size, hits)


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
    thin, thin_weight, thin_rate, thin_expected = _EMPTY, 0.0, 0.0, 0.0  # thin_rate: the pool's
    for stratum, weight in pool.weights.items():
        share = own.get(stratum, _EMPTY)
        if share.size >= ENOUGH:
            rate += weight * share.rate(smoothing)
            covered += weight
            variance += weight * weight / share.size
        else:
            thin = together((thin, share))
            thin_weight += weight
            thin_rate += weight * pool.rates[stratum]
            thin_expected += share.size * pool.rates[stratum]
    if thin.size >= ENOUGH:
        covered += thin_weight
        variance += thin_weight * thin_weight / thin.size
        if expected := thin_expected + smoothing:
            thin_rate *= (thin.hits + smoothing) / expected
        thin_rate = min(thin_rate, thin_weight * HitCounts(thin.size, thin.size).rate(smoothing))
    size = covered * covered / variance
    return HitCounts(size, size * (rate + thin_rate))
