"""Tallies of traffic, and the same with each tenant held to its cap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from assay.engine.evidence.observations import Counts
from assay.engine.evidence.strata import Share, Strata
from assay.engine.evidence.tenant_caps import Excess, factors


@dataclass(frozen=True, slots=True)
class Tally:
    """One tenant's requests of one stratum at one endpoint, as one source reported them up to the end of an hour.

    Counts are discounted by age, with `half_life`; `observed` are whole ones; `hour_calls` and `hour_errored` are of
    the closed hour alone. Hours are whole ones from 1970. Where nothing is observed, all there was is stale.
    """

    endpoint_id: str
    source: str
    tenant: str
    stratum: int
    requests: float
    tool_call_requests: float
    errored_requests: float
    auto_requests: float
    auto_tool_call_requests: float
    observed: Counts
    hour_calls: int
    hour_errored: int
    first_hour: int
    last_hour: int
    half_life: timedelta


Part = tuple[Tally, float, float]  # a tally, and of it so many requests with so many hits


@dataclass(frozen=True, slots=True)
class Capped:
    """A tally, and how much of its tenant's calls and of its requests with auto counts; not `held`: all of them."""

    tally: Tally
    held: bool
    calls: float
    autos: float


def capped(tallies: Sequence[Tally], naming: Collection[str], most: float) -> tuple[Capped, ...]:
    """One endpoint's tallies with no tenant above its cap: `most` calls and as many requests, and its share of many.

    A source that is not `naming` tenants vouches for its traffic, as whoever imports observations does.
    """
    held = [t for t in tallies if t.source in naming]
    calls = factors(by_tenant((t, t.tool_call_requests) for t in held), most)
    autos = factors(by_tenant((t, t.auto_requests) for t in held), most)
    return tuple(
        Capped(t, held=True, calls=calls.get(t.tenant, 1.0), autos=autos.get(t.tenant, 1.0))
        if t.source in naming
        else Capped(t, held=False, calls=1.0, autos=1.0)
        for t in tallies
    )


def by_tenant(amounts: Iterable[tuple[Tally, float]]) -> dict[str, float]:
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
    kinds: defaultdict[str, dict[int, Share]] = defaultdict(dict)
    for (source, stratum), (size, hits) in sums.items():
        kinds[source][stratum] = Share(size, hits)
    return kinds


def excesses(parts: Iterable[Part], usual: Mapping[str, Strata]) -> list[Excess]:
    """What went wrong for each tenant against what does for `usual` requests of the same source and stratum."""
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for tally, calls, errored in parts:
        if calls:
            rate = usual[tally.source][tally.stratum].rate()
            found = sums[tally.tenant]
            found[0] += calls
            found[1] += errored - calls * rate
            found[2] += calls * rate * (1.0 - rate)
    return [Excess(tenant, *found) for tenant, found in sums.items()]
