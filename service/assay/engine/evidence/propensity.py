"""How often endpoints call tools, and how often that is of use; and the peers to compare with.

How it works. Two shares are estimated of requests with tools in which the model may choose: the
*propensity*, answers with tool calls among all answers, and the *usable* share, answers with sound
tool calls among all attempts. Both stand on the whole pool's mix of strata. Their error, a standard
deviation on the logit scale, comes from how much tenants differ: requests of one tenant are alike.

A peer must have substance, and a provider has one vote. The endpoint's own provider and evicted
endpoints have none. So neither made-up tags nor thin endpoints decide what is normal.

See service/STATISTICS.md#propensity and service/STATISTICS.md#usable-answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Final, Protocol

from assay.engine.evidence.statistics import median
from assay.engine.evidence.strata import Part, Strata, group_by_stratum, mix, standardize
from assay.engine.world.measurements import Counts, TrafficCounts

ENOUGH_FOR_A_PEER: Final = 200.0
"""Effective requests from which on an endpoint is a peer."""
_SMOOTHING: Final = 0.5
_TENANT_SPREAD: Final = 0.5
"""How much tenants' own shares differ unless traffic shows it, on the logit scale."""
_TENANT_WEIGHT: Final = 4.0
"""How many tenants this assumption weighs as much as."""


@dataclass(frozen=True, slots=True)
class ShareEstimate:
    """A share, how many independent requests it rests on, and its error on the logit scale."""

    share: float
    requests: float
    error: float


@dataclass(frozen=True, slots=True)
class ToolShares:
    """The shares of one endpoint by one source; `None` without any such request."""

    calls: ShareEstimate | None = None
    usable: ShareEstimate | None = None


def propensity(counts: Counts) -> float:
    """Return the smoothed share of requests that ended in tool calls, strictly between 0 and 1.

    This is the Krichevsky-Trofimov estimate (service/STATISTICS.md#propensity).
    """
    return _smoothed(counts.tool_call_requests, counts.requests)


def _smoothed(hits: float, size: float) -> float:
    return (hits + _SMOOTHING) / (size + 2 * _SMOOTHING)


def observed_shares(counts: Counts, design_effect: float) -> ToolShares:
    """Return the shares of counts that come without tenants, strata and failed attempts."""
    if not counts.requests:
        return ToolShares()
    clean = counts.tool_call_requests - counts.errored_requests
    shares = [_smoothed(hits, counts.requests) for hits in (counts.tool_call_requests, clean)]
    size = counts.requests / design_effect
    return ToolShares(*[ShareEstimate(p, size, sqrt(_by_chance(p, size))) for p in shares])


def _by_chance(share: float, size: float) -> float:
    """Return the variance of the logit of a share of so many independent requests."""
    return 1.0 / (size * share * (1.0 - share))


@dataclass(frozen=True, slots=True)
class CountedPart:
    """Counts, and the parts of their requests with free choice and of their attempts that count.

    If `has_tenants` is false, the source names no tenants.
    """

    counts: TrafficCounts
    autos: float
    attempts: float
    has_tenants: bool


def attempts_of(counts: TrafficCounts) -> float:
    """Return the requests with tools that went to the endpoint, answered or not."""
    return counts.requests if counts.attempts is None else counts.attempts


def traffic_shares(
    own: Iterable[CountedPart], design_effect: float
) -> Mapping[str, Mapping[str, ToolShares]]:
    """Return the shares of each endpoint by source, on the mix of all counts of one model.

    Counts come in the order of endpoint, source, tenant and stratum.
    """
    counted = list(own)
    naming = {each.counts.source for each in counted if each.has_tenants}
    found = [
        _estimates(parts, naming, design_effect)
        for parts in (map(_calls_of, counted), map(_usable_of, counted))
    ]
    shares: defaultdict[str, dict[str, ToolShares]] = defaultdict(dict)
    for each in counted:
        key = (each.counts.endpoint_id, each.counts.source)
        shares[key[0]][key[1]] = ToolShares(found[0].get(key), found[1].get(key))
    return shares


def _calls_of(each: CountedPart) -> Part:
    """Return the requests with free choice that count, and those that ended in tool calls."""
    counts, part = each.counts, each.autos
    return counts, part * counts.auto_requests, part * counts.auto_tool_call_requests


def _usable_of(each: CountedPart) -> Part:
    """Return the attempts with free choice that count, and those with sound tool calls.

    Failed attempts and errors are taken to be as often with free choice as all others are.
    """
    counts, calls = each.counts, each.counts.auto_tool_call_requests
    failed = attempts_of(counts) - counts.requests
    free = counts.auto_requests / counts.requests if counts.requests else 1.0
    bad = calls / counts.tool_call_requests * counts.errored_requests if calls else 0.0
    size = counts.auto_requests + free * failed
    return counts, each.attempts * size, each.attempts * (calls - bad)


def _estimates(
    parts: Iterable[Part], naming: Collection[str], design_effect: float
) -> Mapping[tuple[str, str], ShareEstimate]:
    """Return the estimates of one share by endpoint and source."""
    given = list(parts)
    by_endpoint: defaultdict[str, list[Part]] = defaultdict(list)
    for each in given:
        by_endpoint[each[0].endpoint_id].append(each)
    mixes = {source: mix(strata, _SMOOTHING) for source, strata in group_by_stratum(given).items()}
    found: dict[tuple[str, str], ShareEstimate] = {}
    for name, own in by_endpoint.items():
        for source, strata in group_by_stratum(own).items():
            standard = standardize(strata, mixes[source])
            share, size = standard.rate(), standard.size / design_effect
            variance = _by_chance(share, size)
            if source in naming:
                of_source = [each for each in own if each[0].source == source]
                variance = max(variance, _by_tenants(of_source, strata, share, variance))
            found[name, source] = ShareEstimate(share, size, sqrt(variance))
    return found


def _by_tenants(own: Sequence[Part], strata: Strata, share: float, by_chance: float) -> float:
    """Return the variance of a share's logit by how much tenants differ (Liang and Zeger 1986)."""
    sizes: defaultdict[str, float] = defaultdict(float)
    excess: defaultdict[str, float] = defaultdict(float)
    for counts, size, hits in own:
        if size:
            sizes[counts.tenant] += size
            excess[counts.tenant] += hits - size * strata[counts.stratum].rate()
    whole, others = sum(sizes.values()), len(sizes) - 1
    squares = sum((size / whole) ** 2 for size in sizes.values())
    assumed = by_chance + squares * _TENANT_SPREAD**2
    if not others:
        return assumed
    varied = sum((each / whole) ** 2 for each in excess.values()) * len(sizes) / others
    varied /= (share * (1.0 - share)) ** 2
    return (_TENANT_WEIGHT * assumed + others * varied) / (_TENANT_WEIGHT + others)


class ObservedEndpoint(Protocol):
    """What `peer_shares` asks of the evidence of one endpoint."""

    @property
    def main_source(self) -> str:
        """The source that saw most of its requests."""

    @property
    def shares(self) -> Mapping[str, ToolShares]:
        """Its shares by source."""

    @property
    def references(self) -> frozenset[str]:
        """The sources that call it the vendor's own endpoint."""


@dataclass(frozen=True, slots=True)
class PeersOfShare:
    """One share of the peers, the median of their errors, and the vendor's own share."""

    shares: tuple[float, ...] = ()
    error: float | None = None
    reference: ShareEstimate | None = None


@dataclass(frozen=True, slots=True)
class PeerShares:
    """What to compare the two shares of an endpoint with."""

    calls: PeersOfShare
    usable: PeersOfShare


def peer_shares(
    known: Mapping[str, ObservedEndpoint],
    providers: Mapping[str, str],
    silent: Collection[str] = (),
) -> Mapping[str, PeerShares]:
    """Return what to compare each endpoint of one model with, as its own main source saw it.

    `silent` endpoints are not asked, unless one is the vendor's own.
    """
    found: dict[str, PeerShares] = {}
    by_source: dict[str, tuple[_Votes, _Votes]] = {}
    for name in sorted(known):
        source = known[name].main_source
        if source not in by_source:
            by_source[source] = (
                _votes(known, providers, silent, partial(_calls_by, source)),
                _votes(known, providers, silent, partial(_usable_by, source)),
            )
        calls, usable = by_source[source]
        own = providers.get(name, name)
        found[name] = PeerShares(calls.without(own), usable.without(own))
    return found


_NONE: Final = ToolShares()


def _calls_by(source: str, endpoint: ObservedEndpoint) -> ShareEstimate | None:
    return endpoint.shares.get(source, _NONE).calls


def _usable_by(source: str, endpoint: ObservedEndpoint) -> ShareEstimate | None:
    return endpoint.shares.get(source, _NONE).usable


@dataclass(frozen=True, slots=True)
class _Votes:
    """One share of every provider by one source, and the vendor's own."""

    by_provider: Mapping[str, ShareEstimate]
    reference: ShareEstimate | None

    def without(self, provider: str) -> PeersOfShare:
        others = [each for name, each in self.by_provider.items() if name != provider]
        error = median([each.error for each in others]) if others else None
        return PeersOfShare(tuple(each.share for each in others), error, self.reference)


def _votes(
    known: Mapping[str, ObservedEndpoint],
    providers: Mapping[str, str],
    silent: Collection[str],
    share_of: Callable[[ObservedEndpoint], ShareEstimate | None],
) -> _Votes:
    """Return the votes: of each provider the endpoint with the most requests."""
    votes: dict[str, ShareEstimate] = {}
    reference: ShareEstimate | None = None
    for name in sorted(known):
        share, provider = share_of(known[name]), providers.get(name, name)
        if share is None or share.requests < ENOUGH_FOR_A_PEER:
            continue
        if known[name].references and (reference is None or share.requests > reference.requests):
            reference = share
        voted = votes.get(provider)
        if name not in silent and (voted is None or share.requests > voted.requests):
            votes[provider] = share
    return _Votes(votes, reference)
