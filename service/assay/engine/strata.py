"""Direct standardisation: what an endpoint's rate would be on the mix of requests that the whole pool gets.

Definitions: reference/statistics.md §5.5 and §5.6. Each stratum weighs what it weighs in the pool. Strata in which an
endpoint has fewer than 30 requests say too little one by one: they are taken together, in the shape of the pool's
rates, and where all of them hold fewer than 30, they borrow the pool's rates as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ENOUGH: Final = 30.0


@dataclass(frozen=True, slots=True)
class Share:
    """Of `size` requests `hits` were of the kind that is asked for."""

    size: float
    hits: float

    def rate(self, smoothing: float = 0.0) -> float:
        """The share of hits, with so many hits and as many misses added (Laplace: 0.5); 0 where there is nothing."""
        whole = self.size + 2 * smoothing
        return (self.hits + smoothing) / whole if whole else 0.0


Strata = Mapping[int, Share]
NOTHING: Final = Share(0.0, 0.0)


def together(shares: Iterable[Share]) -> Share:
    """Several shares as one, added in the order given."""
    size = hits = 0.0
    for share in shares:
        size += share.size
        hits += share.hits
    return Share(size, hits)


def standardise(own: Strata, pool: Strata, smoothing: float = 0.0) -> Share:
    """An endpoint's share on the pool's mix; its plain one where there is one stratum, or too little to divide.

    Its size is the number of requests of that mix that would tell as much: never more than there are, save smoothing.
    """
    everything = together(own[k] for k in sorted(own))
    strata = [k for k in sorted(pool) if pool[k].size > 0]
    if len(strata) == 1 or everything.size < ENOUGH:
        return Share(everything.size + 2 * smoothing, everything.hits + smoothing)
    whole = together(pool[k] for k in strata).size
    weights = {k: pool[k].size / whole for k in strata}
    full = [k for k in strata if own.get(k, NOTHING).size >= ENOUGH]
    parts = [(weights[k], own[k].size) for k in full]
    rate = sum(weights[k] * own[k].rate(smoothing) for k in full)
    if thin := [k for k in strata if k not in full]:
        weight = sum(weights[k] for k in thin)
        rest = together(own[k] for k in thin if k in own)
        shape = sum(weights[k] * pool[k].rate(smoothing) for k in thin)
        if rest.size >= ENOUGH:
            parts.append((weight, rest.size))
            most = weight * Share(rest.size, rest.size).rate(smoothing)
            shape = min(shape * lean(thin, own, pool, smoothing), most)
        rate += shape
    size = told(parts)
    return Share(size, size * rate)


def lean(thin: Sequence[int], own: Strata, pool: Strata, smoothing: float) -> float:
    """How many times the hits that the pool's rates lead one to expect an endpoint has in its thin strata together."""
    found = together(Share(own[k].size * pool[k].rate(smoothing), own[k].hits) for k in thin if k in own)
    expected = found.size + smoothing
    return (found.hits + smoothing) / expected if expected else 1.0


def told(parts: Sequence[tuple[float, float]]) -> float:
    """How many requests of the pool's mix tell as much as parts of these weights and sizes (Kish 1965)."""
    weight = sum(w for w, _ in parts)
    return weight * weight / sum(w * w / size for w, size in parts)
