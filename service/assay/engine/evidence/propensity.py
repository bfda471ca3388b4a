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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Final, Protocol

import numpy as np

from assay.engine.evidence.statistics import median
from assay.engine.evidence.strata import HitCounts, Strata, mix, standardize, together
from assay.engine.evidence.usage import Bools, Floats, Ints, add_up
from assay.engine.world.measurements import Counts
from assay.engine.world.traffic_table import TrafficColumns

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


def smoothed(hits: float, size: float) -> float:
    """Return the share of hits, strictly between 0 and 1.

    This is the Krichevsky-Trofimov estimate (service/STATISTICS.md#propensity).
    """
    return (hits + _SMOOTHING) / (size + 2 * _SMOOTHING)


def observed_shares(counts: Counts, design_effect: float) -> ToolShares:
    """Return the shares of counts that come without tenants, strata and failed attempts."""
    if not counts.requests:
        return ToolShares()
    clean = counts.tool_call_requests - counts.errored_requests
    shares = [smoothed(hits, counts.requests) for hits in (counts.tool_call_requests, clean)]
    size = counts.requests / design_effect
    return ToolShares(*[ShareEstimate(p, size, sqrt(_by_chance(p, size))) for p in shares])


def _by_chance(share: float, size: float) -> float:
    """Return the variance of the logit of a share of so many independent requests."""
    return 1.0 / (size * share * (1.0 - share))


@dataclass(frozen=True, slots=True)
class CellNumbers:
    """The numbers of each cell's endpoint, source, stratum and tenant, from 0.

    `named` is whether the cell's source names tenants.
    """

    endpoint: Ints
    source: Ints
    stratum: Ints
    tenant: Ints
    named: Bools
    endpoints: int
    sources: int

    @property
    def offers(self) -> Ints:
        """The number of each cell's endpoint and source together."""
        return self.endpoint * self.sources + self.source


def traffic_shares(
    columns: TrafficColumns, numbers: CellNumbers, autos: Floats, attempts: Floats, effect: float
) -> Sequence[Mapping[int, ToolShares]]:
    """Return the shares of each endpoint by source, on the mix of all counts of one model.

    `autos` and `attempts` are the parts of each cell's requests with free choice, and of its
    attempts, that count; `effect` is the model's design effect.
    """
    calls = _estimates(
        autos * columns.auto_requests, autos * columns.auto_tool_call_requests, numbers, effect
    )
    size, sound = _usable_of(columns)
    usable = _estimates(attempts * size, attempts * sound, numbers, effect)
    found: list[dict[int, ToolShares]] = [{} for _ in range(numbers.endpoints)]
    for offer in sorted(set(numbers.offers.tolist())):
        endpoint, source = divmod(offer, numbers.sources)
        found[endpoint][source] = ToolShares(calls.get(offer), usable.get(offer))
    return found


def _usable_of(columns: TrafficColumns) -> tuple[Floats, Floats]:
    """Return the attempts with free choice, and those with sound tool calls.

    Failed attempts and errors are taken to be as often with free choice as all others are.
    """
    requests, calls = columns.requests, columns.auto_tool_call_requests
    free = np.divide(
        columns.auto_requests, requests, out=np.ones_like(requests), where=requests > 0
    )
    bad = np.divide(
        calls * columns.errored_requests,
        columns.tool_call_requests,
        out=np.zeros_like(calls),
        where=calls > 0,
    )
    return columns.auto_requests + free * (columns.attempts - requests), calls - bad


def _estimates(
    size: Floats, hits: Floats, numbers: CellNumbers, effect: float
) -> Mapping[int, ShareEstimate]:
    """Return the estimates of one share, by endpoint and source."""
    offers, count = numbers.offers, numbers.endpoints * numbers.sources
    strata = int(numbers.stratum.max()) + 1
    place = offers * strata + numbers.stratum
    sizes, sums = (add_up(place, each, count * strata) for each in (size, hits))
    rate = np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0)
    differing = _by_tenants(size, hits - size * rate[place], numbers)
    of_offer = sizes.reshape(count, strata).tolist(), sums.reshape(count, strata).tolist()
    by_offer: dict[int, Strata] = {}
    pool: defaultdict[int, dict[int, HitCounts]] = defaultdict(dict)
    for offer in sorted(set(offers.tolist())):
        both = zip(*(each[offer] for each in of_offer), strict=True)
        strata_of = {k: HitCounts(n, good) for k, (n, good) in enumerate(both) if n}
        by_offer[offer] = strata_of
        whole = pool[offer % numbers.sources]
        for k, counts in strata_of.items():
            whole[k] = together((whole[k], counts)) if k in whole else counts
    mixes = {source: mix(strata, _SMOOTHING) for source, strata in pool.items()}
    found: dict[int, ShareEstimate] = {}
    for offer, own in by_offer.items():
        if not own:
            continue
        standard = standardize(own, mixes[offer % numbers.sources])
        share, requests = standard.rate(), standard.size / effect
        variance = _by_chance(share, requests)
        if offer in differing:
            variance = max(variance, differing[offer].variance(share, variance))
        found[offer] = ShareEstimate(share, requests, sqrt(variance))
    return found


@dataclass(frozen=True, slots=True)
class _Differing:
    """How much the tenants of an endpoint differ: their number, and sums of squares of shares.

    `squares` is of the tenants' parts of all requests, `varied` of their excess hits by all
    requests.
    """

    tenants: float
    squares: float
    varied: float

    def variance(self, share: float, by_chance: float) -> float:
        """Return the variance of a share's logit by how much tenants differ.

        Source: Liang and Zeger 1986.
        """
        others = self.tenants - 1.0
        assumed = by_chance + self.squares * _TENANT_SPREAD**2
        if not others:
            return assumed
        varied = self.varied * self.tenants / others / (share * (1.0 - share)) ** 2
        return (_TENANT_WEIGHT * assumed + others * varied) / (_TENANT_WEIGHT + others)


def _by_tenants(size: Floats, excess: Floats, numbers: CellNumbers) -> Mapping[int, _Differing]:
    """Return how much tenants differ, by endpoint and source, where sources name tenants."""
    counts = numbers.named & (size > 0)
    if not counts.any():
        return {}
    tenants = int(numbers.tenant.max()) + 1
    groups, place = np.unique(
        (numbers.offers * tenants + numbers.tenant)[counts], return_inverse=True
    )
    sizes, extra = (add_up(place, each[counts], len(groups)) for each in (size, excess))
    offer, count = groups // tenants, numbers.endpoints * numbers.sources
    whole = add_up(offer, sizes, count)
    found = [
        add_up(offer, each, count).tolist()
        for each in (np.ones(len(groups)), (sizes / whole[offer]) ** 2, (extra / whole[offer]) ** 2)
    ]
    return {
        place: _Differing(*each) for place, each in enumerate(zip(*found, strict=True)) if each[0]
    }


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
