"""Direct standardisation: what an endpoint's rate would be on the mix of requests that the whole pool gets.

Definitions: reference/statistics.md §5.5 and §5.6. Each stratum weighs what it weighs in the pool. Strata in which an
endpoint has fewer than 30 requests say too little one by one: they are taken together, in the shape of the pool's
rates, and where all of them hold fewer than 30, they borrow the pool's rates as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

ENOUGH: Final = 30.0


@dataclass(frozen=True, slots=True)
class HitCounts:
    """Of `size` requests `hits` were of the kind that is asked for."""

    size: float
    hits: float

    def rate(self, smoothing: float = 0.0) -> float:
        """The share of hits, with so many hits and as many misses added (Laplace: 0.5); 0 where there is nothing."""
        whole = self.size + 2 * smoothing
        return (self.hits + smoothing) / whole if whole else 0.0


Strata = Mapping[int, HitCounts]
NOTHING: Final = HitCounts(0.0, 0.0)


def together(shares: Iterable[HitCounts]) -> HitCounts:
    """Several shares as one, added in the order given."""
    size = hits = 0.0
    for share in shares:
        size += share.size
        hits += share.hits
    return HitCounts(size, hits)


@dataclass(frozen=True, slots=True)
class RequestMix:
    """What a pool is like, by stratum: how much each weighs there, and its rate, smoothed by so much."""

    weights: Mapping[int, float]
    rates: Mapping[int, float]
    smoothing: float


def mix(pool: Strata, smoothing: float = 0.0) -> RequestMix:
    """The mix of a pool; strata come in order."""
    strata = [k for k in sorted(pool) if pool[k].size > 0]
    whole = together(pool[k] for k in strata).size
    return RequestMix(
        {k: pool[k].size / whole for k in strata},
        {k: pool[k].rate(smoothing) for k in strata},
        smoothing,
    )


def standardize(own: Strata, pool: RequestMix) -> HitCounts:
    """An endpoint's share on the pool's mix; its plain one where there is one stratum, or too little to divide.

    Its size is the number of requests of that mix that would tell as much: never more than there are, save smoothing.
    """
    smoothing = pool.smoothing
    everything = together(own[k] for k in sorted(own))
    if len(pool.weights) == 1 or everything.size < ENOUGH:
        return HitCounts(everything.size + 2 * smoothing, everything.hits + smoothing)
    rate = full = told = (
        0.0  # told: how uncertain the rate is, for a share of hits and misses alike (Kish 1965)
    )
    weight = shape = size = hits = expected = 0.0  # of the thin strata
    for k, w in pool.weights.items():
        share = own.get(k, NOTHING)
        if share.size >= ENOUGH:
            rate += w * share.rate(smoothing)
            full += w
            told += w * w / share.size
        else:
            weight += w
            shape += w * pool.rates[k]
            size += share.size
            hits += share.hits
            expected += share.size * pool.rates[k]
    if size >= ENOUGH:
        full += weight
        told += weight * weight / size
        shape = min(
            shape * lean(hits, expected, smoothing), weight * HitCounts(size, size).rate(smoothing)
        )
    return HitCounts(full * full / told, full * full / told * (rate + shape))


def lean(hits: float, expected: float, smoothing: float) -> float:
    """How many times the hits that the pool's rates lead one to expect there are."""
    return (hits + smoothing) / (expected + smoothing) if expected + smoothing else 1.0
