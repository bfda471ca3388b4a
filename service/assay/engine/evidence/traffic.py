"""What tallies of a model's traffic come to: evidence beside that of imported observations, each tenant held to a cap.

Counts are capped per tenant and endpoint, then standardised by strata; sources are strata too, standardised apart.
Definitions: reference/statistics.md §5.1 and §5.5 to §5.7.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.evidence.observations import EndpointEvidence, FoldedCounts, HourCounts
from assay.engine.evidence.strata import HitCounts, RequestMix, Strata, mix, standardize, together
from assay.engine.evidence.tenant_caps import (
    FIFTHS,
    MANY,
    MOST_EFFECTIVE,
    THIRDS,
    Clustering,
    Trim,
    clustering,
    design_effect,
    factors,
    largest_share,
    level,
    trimmed,
)
from assay.engine.evidence.traffic_counts import (
    CappedCounts,
    Part,
    by_tenant,
    capped,
    excesses,
    strata,
)
from assay.engine.world.clock import EPOCH, HOUR
from assay.engine.world.measurements import Counts, TrafficCounts

LAPLACE: Final = 0.5
STALE: Final = EndpointEvidence(None, stale=True)


@dataclass(frozen=True, slots=True)
class PoolMixes:
    """What the pool's requests are like, by source and stratum: those with tool calls, those free to have any."""

    calls: Mapping[str, RequestMix]
    autos: Mapping[str, RequestMix]


def add_traffic(
    evidence: Mapping[str, EndpointEvidence], tallies: Iterable[TrafficCounts], spec: EvidenceSpec
) -> Mapping[str, EndpointEvidence]:
    """Add one model's traffic to what was folded of its observations; the order of tallies does not matter."""
    seen: defaultdict[str, list[TrafficCounts]] = defaultdict(list)
    for tally in sorted(tallies, key=lambda t: (t.endpoint_id, t.source, t.tenant, t.stratum)):
        seen[tally.endpoint_id].append(tally)
    if not seen:
        return evidence
    fresh = {
        name: found
        for name, own in seen.items()
        if (found := [t for t in own if t.observed.requests])
    }
    naming = {t.source for own in fresh.values() for t in own if t.tenant}
    spreads = (spread(own, naming, spec.design_effect) for own in fresh.values())
    effect = design_effect((each for each in spreads if each), spec.design_effect)
    pool = {name: capped(own, naming, MOST_EFFECTIVE * effect) for name, own in fresh.items()}
    everyone = [each for own in pool.values() for each in own]
    mixes = PoolMixes(
        {source: mix(kinds) for source, kinds in strata(map(calls_of, everyone)).items()},
        {source: mix(kinds, LAPLACE) for source, kinds in strata(map(autos_of, everyone)).items()},
    )
    folded = {name: fold_traffic(own, mixes, effect) for name, own in pool.items()}
    names = (*evidence, *(name for name in seen if name not in evidence))
    return {name: joined(evidence.get(name, STALE), folded.get(name), effect) for name in names}


def calls_of(each: CappedCounts) -> Part:
    """Requests that ended in tool calls, as far as they count, and those of them with a bad call."""
    return (
        each.tally,
        each.calls * each.tally.tool_call_requests,
        each.calls * each.tally.errored_requests,
    )


def autos_of(each: CappedCounts) -> Part:
    """Requests that left it to the model, as far as they count, and those of them that ended in tool calls."""
    return (
        each.tally,
        each.autos * each.tally.auto_requests,
        each.autos * each.tally.auto_tool_call_requests,
    )


def spread(
    own: Sequence[TrafficCounts], naming: Collection[str], prior: float
) -> Clustering | None:
    """How errors at an endpoint cluster by tenant; by whole counts, since discounted ones vary less than they count."""
    if len({t.tenant for t in own}) == 1:
        return None
    counts = [
        (t, t.observed.tool_call_requests, t.observed.errored_requests)
        for t in own
        if t.source in naming
    ]
    factor = factors(
        by_tenant((tally, calls) for tally, calls, _ in counts), MOST_EFFECTIVE * prior
    )
    usual = strata(
        (t, factor[t.tenant] * calls, factor[t.tenant] * bad) for t, calls, bad in counts if calls
    )
    return clustering(excesses(counts, usual), factor, prior)


def fold_traffic(own: Sequence[CappedCounts], pool: PoolMixes, effect: float) -> FoldedCounts:
    """One endpoint's traffic, by itself; `effect` is the model's design effect."""
    tallies = [each.tally for each in own]
    sources = tuple(sorted({t.source for t in tallies}))
    by_source = {s: added(t.observed for t in tallies if t.source == s) for s in sources}
    calls, errored, lenient = accuracy(own, pool.calls)
    autos = strata(map(autos_of, own))
    return FoldedCounts(
        observed=added(by_source.values()),
        discounted=Counts(sum(each.calls * each.tally.requests for each in own), calls, errored),
        half_life=tallies[0].half_life,
        sources=sources,
        observed_from=EPOCH + HOUR * min(t.first_hour for t in tallies),
        observed_to=EPOCH + HOUR * (max(t.last_hour for t in tallies) + 1),
        by_source=by_source,
        references=frozenset(),
        lenient_errored=lenient,
        shares={
            s: standardize(autos[s], pool.autos[s]).rate() if s in autos else None for s in sources
        },
        design_effect=effect,
        hour=closed_hour(own),
    )


def accuracy(
    own: Sequence[CappedCounts], pool: Mapping[str, RequestMix]
) -> tuple[float, float, float | None]:
    """Calls, and two counts of those with a bad call: the cautious one, and the one in the endpoint's favour.

    One of them is capped, one trimmed; without many tenants there is no trimmed one, and none in its favour.
    """
    kinds = strata(map(calls_of, own))
    found = {source: standardize(kinds[source], pool[source]) for source in sorted(kinds)}
    held = [
        (each.tally, each.tally.tool_call_requests, each.tally.errored_requests)
        for each in own
        if each.held
    ]
    whole, beside = capped_and_trimmed(found, held, kinds, FIFTHS)
    if beside is None:
        return whole.size, whole.hits, None
    return whole.size, max(whole.hits, beside), min(whole.hits, beside)


def closed_hour(own: Sequence[CappedCounts]) -> HourCounts:
    """The closed hour's calls, and those with a bad call in the endpoint's favour, tenants held as over all the time.

    Where tenants are many, none has more than its share of the hour either: who came new in it has no other cap. An
    hour holds few tenants, so that of those a third is left out at either end.
    """
    held = [each for each in own if each.held]
    calls = by_tenant((each.tally, each.calls * each.tally.hour_calls) for each in held)
    if (
        not calls
        or len({each.tally.tenant for each in held if each.tally.tool_call_requests}) < MANY
    ):
        counts = [
            (each.calls * each.tally.hour_calls, each.calls * each.tally.hour_errored)
            for each in own
        ]
        return HourCounts(sum(calls for calls, _ in counts), sum(errored for _, errored in counts))
    top = level(calls.values(), largest_share(len(calls)))
    scale = {(True, tenant): min(1.0, top / amount) for tenant, amount in calls.items()}
    shares = [
        (each.tally, each.calls * scale.get((each.held, each.tally.tenant), 1.0)) for each in own
    ]
    kinds = strata((t, share * t.hour_calls, share * t.hour_errored) for t, share in shares)
    found = {
        source: together(kinds[source][k] for k in sorted(kinds[source]))
        for source in sorted(kinds)
    }
    raw = [(each.tally, each.tally.hour_calls, each.tally.hour_errored) for each in held]
    whole, beside = capped_and_trimmed(found, raw, kinds, THIRDS)
    return HourCounts(whole.size, whole.hits if beside is None else min(whole.hits, beside))


def capped_and_trimmed(
    found: Mapping[str, HitCounts], held: Sequence[Part], usual: Mapping[str, Strata], trim: Trim
) -> tuple[HitCounts, float | None]:
    """What sources say together, and how much would have gone wrong by the trimmed mean over the tenants held."""
    whole = together(found.values())
    odd = trimmed(excesses(held, usual), trim) if len(held) >= trim.least else None
    if odd is None:
        return whole, None
    theirs = together(
        found[source] for source in sorted({tally.source for tally, _, _ in held} & found.keys())
    )
    return whole, min(max(whole.hits + odd * theirs.size, 0.0), whole.size)


def joined(
    before: EndpointEvidence, traffic: FoldedCounts | None, effect: float
) -> EndpointEvidence:
    """What observations and traffic come to together; `effect` is the model's design effect."""
    if before.folded is None:
        return EndpointEvidence(traffic, stale=False) if traffic else before
    return EndpointEvidence(
        both(before.folded, traffic) if traffic else replace(before.folded, design_effect=effect),
        stale=False,
    )


def both(one: FoldedCounts, other: FoldedCounts) -> FoldedCounts:
    """Observations and traffic of one endpoint as one; the half-life is that of the kind with more behind it."""
    favoured = [
        f.discounted.errored_requests if f.lenient_errored is None else f.lenient_errored
        for f in (one, other)
    ]
    sources = tuple(sorted({*one.sources, *other.sources}))
    return FoldedCounts(
        observed=added((one.observed, other.observed)),
        discounted=added((one.discounted, other.discounted)),
        half_life=max((one, other), key=lambda f: f.discounted.tool_call_requests).half_life,
        sources=sources,
        observed_from=min(one.observed_from, other.observed_from),
        observed_to=max(one.observed_to, other.observed_to),
        by_source={
            s: added(f.by_source[s] for f in (one, other) if s in f.by_source) for s in sources
        },
        references=one.references | other.references,
        lenient_errored=None
        if one.lenient_errored is other.lenient_errored is None
        else sum(favoured),
        shares={**one.shares, **other.shares},
        design_effect=other.design_effect,
        hour=other.hour,
    )


def added(counts: Iterable[Counts]) -> Counts:
    """Counts added up in the order given."""
    requests = calls = errored = 0.0
    for each in counts:
        requests += each.requests
        calls += each.tool_call_requests
        errored += each.errored_requests
    return Counts(requests, calls, errored)
