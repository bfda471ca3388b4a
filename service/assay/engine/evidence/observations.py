"""Observations folded into what is known of each endpoint as of an instant: discounted counts, peers.

Definitions: reference/statistics.md §5.1 and §5.5, with the corrections at its head. A window counts once it has
ended; its age runs from its end; older than the limit is stale.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.world.clock import HOUR
from assay.engine.world.measurements import Counts, Observation

Weight = Callable[[Observation], float]


@dataclass(frozen=True, slots=True)
class HourCounts:
    """Tool-call requests of one endpoint in a closed hour, and those of them with a bad call."""

    calls: float = 0.0
    errored: float = 0.0


@dataclass(frozen=True, slots=True)
class FoldedCounts:
    """What one endpoint's windows come to: as observed, and discounted by age; all counts by source undiscounted.

    `half_life` is that of the discount; `references` are the sources that call it the model vendor's own endpoint. What
    only traffic tells: bad calls counted in the endpoint's favour, where that differs; standardised propensities by
    source, `None` where no choice was left to the model; the model's design effect; the hour up to now.
    """

    observed: Counts
    discounted: Counts
    half_life: timedelta
    sources: tuple[str, ...]
    observed_from: datetime
    observed_to: datetime
    by_source: Mapping[str, Counts]
    references: frozenset[str]
    lenient_errored: float | None = None
    shares: Mapping[str, float | None] = field(default_factory=dict)
    design_effect: float | None = None
    hour: HourCounts | None = None

    @property
    def main_source(self) -> str:
        """The source that saw most of its requests."""
        return max(self.by_source, key=lambda source: (self.by_source[source].requests, source))

    def share(self, source: str) -> float | None:
        """How often it calls tools, as a source saw it; `None` where that cannot be said."""
        return self.shares[source] if source in self.shares else propensity(self.by_source[source])


@dataclass(frozen=True, slots=True)
class EndpointEvidence:
    """All that is known of one endpoint's tool calling; `folded` is absent where nothing fresh was observed."""

    folded: FoldedCounts | None
    stale: bool


def fold_observations(
    observations: Iterable[Observation], spec: EvidenceSpec, as_of: datetime
) -> Mapping[str, EndpointEvidence]:
    """Fold every endpoint's windows; the order they come in does not matter."""
    windows: defaultdict[str, list[Observation]] = defaultdict(list)
    for observation in observations:
        if observation.observed_to <= as_of:
            windows[observation.endpoint_id].append(observation)
    return {endpoint_id: fold_endpoint(seen, spec, as_of) for endpoint_id, seen in windows.items()}


def fold_endpoint(
    seen: Sequence[Observation], spec: EvidenceSpec, as_of: datetime
) -> EndpointEvidence:
    """Fold one endpoint's ended windows."""
    fresh = sorted(
        (o for o in seen if as_of - o.observed_to <= spec.max_age),
        key=lambda o: (
            o.observed_to,
            o.observed_from,
            o.source,
            o.requests,
            o.tool_call_requests,
            o.errored_requests,
        ),
    )
    if not fresh:
        return EndpointEvidence(None, stale=True)
    half_life = half_life_of(fresh, spec)
    sources = tuple(sorted({o.source for o in fresh}))
    by_source = {s: total((o for o in fresh if o.source == s), lambda _: 1.0) for s in sources}
    return EndpointEvidence(
        FoldedCounts(
            observed=total(fresh, lambda _: 1.0),
            discounted=total(fresh, discount(half_life, as_of)),
            half_life=half_life,
            sources=sources,
            observed_from=min(o.observed_from for o in fresh),
            observed_to=max(o.observed_to for o in fresh),
            by_source=by_source,
            references=frozenset(o.source for o in fresh if o.reference),
        ),
        stale=False,
    )


def discount(half_life: timedelta, as_of: datetime) -> Weight:
    """The weight of a window by its age: it halves every half-life."""
    return lambda o: 2.0 ** (-((as_of - o.observed_to) / half_life))


def half_life_of(fresh: Sequence[Observation], spec: EvidenceSpec) -> timedelta:
    """The time in which the target number of effective tool-call requests arrives, within its bounds."""
    hours = sum((o.observed_to - o.observed_from) / HOUR for o in fresh)
    calls = sum(o.tool_call_requests for o in fresh)
    if calls <= 0 or hours <= 0:
        return spec.half_life_max
    rate = calls / spec.design_effect / hours
    return min(
        max(HOUR * min(spec.half_life_target / rate, 1e6), spec.half_life_min), spec.half_life_max
    )


def total(windows: Iterable[Observation], weight: Weight) -> Counts:
    """Weighted sums of counts, added in the order given."""
    requests = calls = errored = 0.0
    for o in windows:
        w = weight(o)
        requests += w * o.requests
        calls += w * o.tool_call_requests
        errored += w * o.errored_requests
    return Counts(requests, calls, errored)


def propensity(counts: Counts) -> float:
    """The smoothed share of requests that ended in tool calls, strictly between 0 and 1 (Laplace: +0.5 of +1)."""
    return (counts.tool_call_requests + 0.5) / (counts.requests + 1.0)


@dataclass(frozen=True, slots=True)
class PeerPropensities:
    """The other endpoints of one model that were observed by the same source."""

    shares: tuple[float, ...]
    reference: float | None


def peer_propensities(evidence: Mapping[str, EndpointEvidence]) -> Mapping[str, PeerPropensities]:
    """The propensities to hold each endpoint's own against; `evidence` is of one model's endpoints."""
    known = {name: e.folded for name, e in sorted(evidence.items()) if e.folded}
    seen = {
        source: seen_by(source, known)
        for source in {folded.main_source for folded in known.values()}
    }
    return {name: beside(name, seen[folded.main_source]) for name, folded in known.items()}


@dataclass(frozen=True, slots=True)
class SourcePropensities:
    """What one source saw of a model's endpoints: where each stands among the shares, and the vendor's own."""

    places: Mapping[str, int]
    shares: tuple[float, ...]
    reference: float | None


def seen_by(source: str, known: Mapping[str, FoldedCounts]) -> SourcePropensities:
    """The shares of all endpoints of which a source saw requests."""
    found: dict[str, float] = {}
    references = []
    for name, folded in known.items():
        counts = folded.by_source.get(source)
        if counts and counts.requests > 0 and (share := folded.share(source)) is not None:
            found[name] = share
            references += [share] if source in folded.references else []
    places = {name: place for place, name in enumerate(found)}
    return SourcePropensities(places, tuple(found.values()), references[0] if references else None)


def beside(name: str, seen: SourcePropensities) -> PeerPropensities:
    """All that a source saw save one."""
    place = seen.places.get(name)
    others = seen.shares if place is None else seen.shares[:place] + seen.shares[place + 1 :]
    return PeerPropensities(others, seen.reference)
