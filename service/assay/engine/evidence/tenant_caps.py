"""What single tenants may move: caps on their counts, a mean that ignores the odd ones, and how they cluster.

Definitions: reference/statistics.md §5.1 and §5.7 with the corrections at its head. Nobody's word counts for more than
500 effective calls per endpoint; from 30 tenants on, nor for more than a share of max(1 %, 3/T), and a 20 % trimmed
mean over tenants stands beside the capped one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from typing import Final

MOST_EFFECTIVE: Final = 500.0
MANY: Final = 30
GROUP: Final = 20.0
SKEW: Final = 0.125
PRIOR: Final = 30.0
CLIP: Final = 9.0
MOST_CLUSTERED: Final = 4.0


def factors(counts: Mapping[str, float], most: float) -> dict[str, float]:
    """By what each tenant's counts are scaled so that nobody has more than `most`, nor of many more than a share."""
    held = {tenant: min(counts[tenant], most) for tenant in sorted(counts)}
    ceiling = level(held.values(), largest_share(len(held))) if len(held) >= MANY else inf
    return {tenant: min(amount, ceiling) / counts[tenant] for tenant, amount in held.items()}


def largest_share(tenants: int) -> float:
    """What one of so many tenants may have of it all: 1 %, or what leaves fewer than 300 a way to divide it."""
    return max(0.01, 3.0 / tenants)


def level(amounts: Iterable[float], share: float) -> float:
    """The height to cut amounts at so that none is more than `share` of what is left of them all."""
    ordered = sorted(amounts)
    sums = list(accumulate(ordered))
    for cut, (amount, rest) in enumerate(zip(reversed(ordered), reversed(sums), strict=True)):
        height = share * rest / (1.0 - cut * share) if cut * share < 1.0 else inf
        if amount <= height:
            return height
    return inf


@dataclass(frozen=True, slots=True)
class Trim:
    """Which share of the ranked tenants is left out at either end, and how many there must be."""

    share: float
    least: int


FIFTHS: Final = Trim(0.2, MANY)
THIRDS: Final = Trim(1 / 3, 9)


@dataclass(frozen=True, slots=True)
class ExcessErrors:
    """One tenant's calls, how many more of them went wrong than such requests do, and how much chance varies that."""

    tenant: str
    calls: float
    excess: float
    variance: float


def trimmed(excesses: Iterable[ExcessErrors], trim: Trim) -> float | None:
    """The trimmed mean over tenants of the share that went wrong in excess; none from too few of them.

    What few calls say is chance, and ranking it would throw out the errors and keep the rest: tenants with fewer than
    20 calls are ranked together, as many as it takes, in the order of their names. Counts of rare errors lean to one
    side, so that the middle ones lie about 1/8 below the mean: that much is added to each.
    """
    ranked = sorted(
        (each.excess + min(SKEW, each.variance)) / each.calls for each in groups(excesses)
    )
    if len(ranked) < trim.least:
        return None
    cut = int(trim.share * len(ranked))
    kept = ranked[cut : len(ranked) - cut]
    return sum(kept) / len(kept)


def groups(excesses: Iterable[ExcessErrors]) -> list[ExcessErrors]:
    """Tenants of 20 calls or more by themselves, others together; too few left over at the end are left out."""
    found = []
    calls = excess = variance = 0.0
    for each in sorted(excesses, key=lambda e: e.tenant):
        if each.calls >= GROUP:
            found.append(each)
            continue
        calls, excess, variance = calls + each.calls, excess + each.excess, variance + each.variance
        if calls >= GROUP:
            found.append(ExcessErrors(each.tenant, calls, excess, variance))
            calls = excess = variance = 0.0
    return found


@dataclass(frozen=True, slots=True)
class Clustering:
    """By how much one endpoint's errors vary more between tenants than chance, and how much is behind that."""

    effect: float
    weight: float


def clustering(
    excesses: Collection[ExcessErrors], factor: Mapping[str, float], prior: float
) -> Clustering | None:
    """Compare what tenants' errors vary with what they would by chance; none where there is nothing to compare.

    Each tenant counts by its factor, and none for more than three standard deviations under the prior.
    """
    chance = varied = 0.0
    for each in excesses:
        scale = factor[each.tenant]
        chance += scale * each.variance
        varied += min((scale * each.excess) ** 2, CLIP * prior * scale * each.variance)
    others = len(excesses) - 1
    if others < 1 or chance <= 0:
        return None
    return Clustering(varied / chance * len(excesses) / others, min(others, chance))


def design_effect(found: Iterable[Clustering], prior: float) -> float:
    """By how much a model's clustered requests count less than independent ones.

    The weighted median of its endpoints, so that no single one decides; drawn towards the prior, which weighs as much
    as 30 tenants with an error each; between 1 and four times the prior.
    """
    ordered = sorted(found, key=lambda c: (c.effect, c.weight))
    weight = sum(c.weight for c in ordered)
    if not weight:
        return prior
    passed = 0.0
    middle = ordered[-1].effect
    for each in ordered:
        passed += each.weight
        if passed >= weight / 2:
            middle = each.effect
            break
    return min(
        max((PRIOR * prior + weight * middle) / (PRIOR + weight), 1.0), MOST_CLUSTERED * prior
    )
