"""Traffic of a model's endpoints folded into evidence, together with imported observations.

How it works. `add_traffic` takes all counts of one model and proceeds in five steps:

1. Estimate how much errors cluster by tenant, which gives the model's design effect.
2. Cap each tenant's counts per endpoint, in effective calls.
3. Find the mix of requests of the whole pool, by source and stratum.
4. Fold each endpoint: standardize its rates on that mix. With many tenants, count its errors in
   two robust ways, capped and trimmed; the higher count decides about entering, the lower about
   staying.
5. Join the result with the observations of the endpoint.

INVARIANT: sums are added in the order of endpoint, source, tenant and stratum, so that the result,
and with it the digest of a snapshot, does not depend on the order of the input.

See service/STATISTICS.md#caps-on-tenants, service/STATISTICS.md#trimmed-mean and
service/STATISTICS.md#strata.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.evidence.observations import (
    EndpointEvidence,
    FoldedCounts,
    HourCounts,
    HourOfEndpoint,
    total,
)
from assay.engine.evidence.strata import (
    HitCounts,
    Part,
    RequestMix,
    Strata,
    group_by_stratum,
    mix,
    standardize,
    together,
)
from assay.engine.evidence.tenant_caps import (
    FIFTHS,
    MANY,
    MOST_EFFECTIVE,
    THIRDS,
    CappedCounts,
    Clustering,
    Trim,
    by_tenant,
    cap_tenants,
    clustering,
    design_effect,
    excesses,
    factors,
    largest_share,
    level,
    trimmed,
)
from assay.engine.world.clock import EPOCH, HOUR
from assay.engine.world.measurements import Counts, TrafficCounts

_SMOOTHING: Final = 0.5  # of propensities
_STALE: Final = EndpointEvidence(None, stale=True)


@dataclass(frozen=True, slots=True)
class PoolMixes:
    """The pool's mix by source, of requests with tool calls and of those free to have any."""

    calls: Mapping[str, RequestMix]
    autos: Mapping[str, RequestMix]


def add_traffic(
    evidence: Mapping[str, EndpointEvidence], counts: Iterable[TrafficCounts], spec: EvidenceSpec
) -> Mapping[str, EndpointEvidence]:
    """Join one model's traffic with its observations; the order of `counts` does not matter."""
    by_endpoint: defaultdict[str, list[TrafficCounts]] = defaultdict(list)
    for each in sorted(counts, key=lambda c: (c.endpoint_id, c.source, c.tenant, c.stratum)):
        if each.observed.requests or not each.attempts:  # others say nothing about calls
            by_endpoint[each.endpoint_id].append(each)
    if not by_endpoint:
        return evidence
    fresh: dict[str, list[TrafficCounts]] = {}
    for name, own in by_endpoint.items():
        if found := [each for each in own if each.observed.requests]:
            fresh[name] = found
    naming = {each.source for own in fresh.values() for each in own if each.tenant}
    spreads = (_clustering_at(own, naming, spec.design_effect) for own in fresh.values())
    effect = design_effect((each for each in spreads if each), spec.design_effect)
    pool = {name: cap_tenants(own, naming, MOST_EFFECTIVE * effect) for name, own in fresh.items()}
    capped = [each for own in pool.values() for each in own]
    calls, autos = (
        group_by_stratum(map(_calls_of, capped)),
        group_by_stratum(map(_autos_of, capped)),
    )
    mixes = PoolMixes(
        {source: mix(strata) for source, strata in calls.items()},
        {source: mix(strata, _SMOOTHING) for source, strata in autos.items()},
    )
    folded = {name: _fold(own, mixes, effect) for name, own in pool.items()}
    names = (*evidence, *(name for name in by_endpoint if name not in evidence))
    return {name: _joined(evidence.get(name, _STALE), folded.get(name), effect) for name in names}


def _calls_of(each: CappedCounts) -> Part:
    """Return the tool-call requests that count, and those of them with a bad call."""
    counts, factor = each.counts, each.calls
    return counts, factor * counts.tool_call_requests, factor * counts.errored_requests


def _autos_of(each: CappedCounts) -> Part:
    """Return the requests with free choice that count, and those that ended in tool calls."""
    counts, factor = each.counts, each.autos
    return counts, factor * counts.auto_requests, factor * counts.auto_tool_call_requests


def _clustering_at(
    own: Sequence[TrafficCounts], naming: Collection[str], prior: float
) -> Clustering | None:
    """Return how errors at an endpoint cluster by tenant.

    Counts are undiscounted: discounted counts vary less than their number suggests.
    """
    if len({each.tenant for each in own}) == 1:
        return None
    named = [each for each in own if each.source in naming]
    parts = [(c, c.observed.tool_call_requests, c.observed.errored_requests) for c in named]
    calls = by_tenant((counts, size) for counts, size, _ in parts)
    factor = factors(calls, MOST_EFFECTIVE * prior)
    scaled = [
        (c, factor[c.tenant] * size, factor[c.tenant] * bad) for c, size, bad in parts if size
    ]
    return clustering(excesses(parts, group_by_stratum(scaled)), factor, prior)


def _fold(own: Sequence[CappedCounts], pool: PoolMixes, effect: float) -> FoldedCounts:
    """Fold one endpoint's traffic; `effect` is the model's design effect."""
    counts = [each.counts for each in own]
    closed = _hour_of(own, _in_closed_hour)
    late = sorted({found.hour for each in counts for found in each.late})
    sources = tuple(sorted({each.source for each in counts}))
    by_source = {s: total(c.observed for c in counts if c.source == s) for s in sources}
    calls, errored, lenient = _accuracy(own, pool.calls)
    requests = sum(each.calls * each.counts.requests for each in own)
    autos = group_by_stratum(map(_autos_of, own))
    shares: dict[str, float | None] = dict.fromkeys(sources)  # none without free choice
    for source, strata in autos.items():
        shares[source] = standardize(strata, pool.autos[source]).rate()
    return FoldedCounts(
        observed=total(by_source.values()),
        discounted=Counts(requests, calls, errored),
        half_life=counts[0].half_life,
        sources=sources,
        observed_from=EPOCH + HOUR * min(each.first_hour for each in counts),
        observed_to=EPOCH + HOUR * (max(each.last_hour for each in counts) + 1),
        by_source=by_source,
        references=frozenset(),
        lenient_errored=lenient,
        shares=shares,
        design_effect=effect,
        hour=closed.counted,
        hour_total=closed.total,
        late={hour: _hour_of(own, partial(_in_late_hour, hour)) for hour in late},
    )


def _in_closed_hour(counts: TrafficCounts) -> tuple[int, int]:
    return counts.hour_calls, counts.hour_errored


def _in_late_hour(hour: int, counts: TrafficCounts) -> tuple[int, int]:
    found = (each for each in counts.late if each.hour == hour)
    return next(((calls, errored) for _, calls, errored in found), (0, 0))


def _accuracy(
    own: Sequence[CappedCounts], pool: Mapping[str, RequestMix]
) -> tuple[float, float, float | None]:
    """Return the calls, and the higher and the lower of the capped and the trimmed count of errors.

    Without many tenants there is no trimmed count, and no lower one.
    """
    strata = group_by_stratum(map(_calls_of, own))
    found = {source: standardize(strata[source], pool[source]) for source in sorted(strata)}
    named = [each.counts for each in own if each.is_capped]
    parts = [(each, each.tool_call_requests, each.errored_requests) for each in named]
    capped, by_trimming = _capped_and_trimmed(found, parts, strata, FIFTHS)
    if by_trimming is None:
        return capped.size, capped.hits, None
    return capped.size, max(capped.hits, by_trimming), min(capped.hits, by_trimming)


def _hour_of(
    own: Sequence[CappedCounts], in_hour: Callable[[TrafficCounts], tuple[int, int]]
) -> HourOfEndpoint:
    """Return one hour's calls and the lower count of errors, with tenants' overall caps.

    With many tenants, none has more than its share of the hour either: the overall cap does not
    bound a tenant that is new in this hour.
    """
    amounts = [in_hour(each.counts) for each in own]
    total = HourCounts(sum(calls for calls, _ in amounts), sum(bad for _, bad in amounts))
    return HourOfEndpoint(total, _capped_hour(list(zip(own, amounts, strict=True))))


def _capped_hour(own: Sequence[tuple[CappedCounts, tuple[int, int]]]) -> HourCounts:
    named = [(each, amounts) for each, amounts in own if each.is_capped]
    calls = by_tenant((each.counts, each.calls * n) for each, (n, _) in named)
    tenants = {each.counts.tenant for each, _ in named if each.counts.tool_call_requests}
    if not calls or len(tenants) < MANY:
        return HourCounts(
            sum(each.calls * n for each, (n, _) in own),
            sum(each.calls * bad for each, (_, bad) in own),
        )
    top = level(calls.values(), largest_share(len(calls)))
    scale = {(True, tenant): min(1.0, top / amount) for tenant, amount in calls.items()}
    parts: list[Part] = []
    for each, (n, bad) in own:
        factor = each.calls * scale.get((each.is_capped, each.counts.tenant), 1.0)
        parts.append((each.counts, factor * n, factor * bad))
    strata = group_by_stratum(parts)
    found = {
        source: together(strata[source][stratum] for stratum in sorted(strata[source]))
        for source in sorted(strata)
    }
    raw = [(each.counts, n, bad) for each, (n, bad) in named]
    capped, by_trimming = _capped_and_trimmed(found, raw, strata, THIRDS)
    errored = capped.hits if by_trimming is None else min(capped.hits, by_trimming)
    return HourCounts(capped.size, errored)


def _capped_and_trimmed(
    found: Mapping[str, HitCounts], parts: Sequence[Part], usual: Mapping[str, Strata], trim: Trim
) -> tuple[HitCounts, float | None]:
    """Return the counts of all sources together, and the errors by the trimmed mean."""
    capped_counts = together(found.values())
    mean_excess = trimmed(excesses(parts, usual), trim) if len(parts) >= trim.least else None
    if mean_excess is None:
        return capped_counts, None
    naming = sorted({counts.source for counts, _, _ in parts} & found.keys())
    named_counts = together(found[source] for source in naming)
    return capped_counts, min(
        max(capped_counts.hits + mean_excess * named_counts.size, 0.0), capped_counts.size
    )


def _joined(
    before: EndpointEvidence, traffic: FoldedCounts | None, effect: float
) -> EndpointEvidence:
    """Join observations and traffic of one endpoint."""
    if before.folded is None:
        return EndpointEvidence(traffic, stale=False) if traffic else before
    if traffic is None:
        return EndpointEvidence(replace(before.folded, design_effect=effect), stale=False)
    return EndpointEvidence(_both(before.folded, traffic), stale=False)


def _both(observed: FoldedCounts, traffic: FoldedCounts) -> FoldedCounts:
    """Add up observations and traffic; the half-life is that of the kind with more evidence."""
    kinds = (observed, traffic)
    heavier = max(kinds, key=lambda each: each.discounted.tool_call_requests)
    sources = tuple(sorted({*observed.sources, *traffic.sources}))
    by_source = {}
    for source in sources:
        by_source[source] = total(f.by_source[source] for f in kinds if source in f.by_source)
    lenient = None  # as long as no kind has two counts of errors
    if any(each.lenient_errored is not None for each in kinds):
        lenient = sum(
            each.discounted.errored_requests
            if each.lenient_errored is None
            else each.lenient_errored
            for each in kinds
        )
    return FoldedCounts(
        observed=total(each.observed for each in kinds),
        discounted=total(each.discounted for each in kinds),
        half_life=heavier.half_life,
        sources=sources,
        observed_from=min(each.observed_from for each in kinds),
        observed_to=max(each.observed_to for each in kinds),
        by_source=by_source,
        references=observed.references | traffic.references,
        lenient_errored=lenient,
        shares={**observed.shares, **traffic.shares},
        design_effect=traffic.design_effect,
        hour=traffic.hour,
        hour_total=traffic.hour_total,
        late=traffic.late,
    )
