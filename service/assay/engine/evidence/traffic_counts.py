"""Tallies of traffic, and the same with each tenant held to its cap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from assay.engine.evidence.strata import HitCounts, Strata
from assay.engine.evidence.tenant_caps import ExcessErrors, factors
from assay.engine.world.measurements import TrafficCounts

Part = tuple[TrafficCounts, float, float]  # a tally, and of it so many requests with so many hits


@dataclass(frozen=True, slots=True)
class CappedCounts:
    """A tally, and how much of its tenant's calls and of its requests with auto counts; not `held`: all of them."""

    tally: TrafficCounts
    held: bool
    calls: float
    autos: float


def capped(
    tallies: Sequence[TrafficCounts], naming: Collection[str], most: float
) -> tuple[CappedCounts, ...]:
    """One endpoint's tallies with no tenant above its cap: `most` calls and as many requests, and its share of many.

    A source that is not `naming` tenants vouches for its traffic, as whoever imports observations does.
    """
    held = [t for t in tallies if t.source in naming]
    calls = factors(by_tenant((t, t.tool_call_requests) for t in held), most)
    autos = factors(by_tenant((t, t.auto_requests) for t in held), most)
    return tuple(
        CappedCounts(t, held=True, calls=calls.get(t.tenant, 1.0), autos=autos.get(t.tenant, 1.0))
        if t.source in naming
        else CappedCounts(t, held=False, calls=1.0, autos=1.0)
        for t in tallies
    )


def by_tenant(amounts: Iterable[tuple[TrafficCounts, float]]) -> dict[str, float]:
    """What each tenant has of something, where it has any."""
    sums: defaultdict[str, float] = defaultdict(float)
    for tally, amount in amounts:
        if amount:
            sums[tally.tenant] += amount
    return sums


def strata(parts: Iterable[Part]) -> Mapping[str, Strata]:
    """Sizes and hits added up, where there are any."""
    sums: dict[tuple[str, int], list[float]] = {}
    for tally, size, hits in parts:
        if size:
            found = sums.setdefault((tally.source, tally.stratum), [0.0, 0.0])
            found[0] += size
            found[1] += hits
    kinds: defaultdict[str, dict[int, HitCounts]] = defaultdict(dict)
    for (source, stratum), (size, hits) in sums.items():
        kinds[source][stratum] = HitCounts(size, hits)
    return kinds


def excesses(parts: Iterable[Part], usual: Mapping[str, Strata]) -> list[ExcessErrors]:
    """What went wrong for each tenant against what does for `usual` requests of the same source and stratum."""
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for tally, calls, errored in parts:
        if calls:
            rate = usual[tally.source][tally.stratum].rate()
            found = sums[tally.tenant]
            found[0] += calls
            found[1] += errored - calls * rate
            found[2] += calls * rate * (1.0 - rate)
    return [ExcessErrors(tenant, *found) for tenant, found in sums.items()]
