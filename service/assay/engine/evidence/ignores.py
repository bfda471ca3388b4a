"""How many eligible tenants ignore an endpoint (service/STATISTICS.md#ignore-votes).

A tenant has one vote per model. It is eligible if Assay has known it for two weeks and has seen it
make 200 tool-call requests with two providers within four weeks. It votes about the endpoints of a
provider, for or against, if it made 20 tool-call requests there within eight weeks: a tenant that
ignores a provider makes no more calls there, so its vote expires unless it tries again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from assay.engine.evidence.statistics import median
from assay.engine.world.catalog import Endpoint
from assay.engine.world.measurements import IgnoreVote
from assay.engine.world.request import provider_matches
from assay.engine.world.world import Preference

KNOWN_FOR: Final = timedelta(days=14)
LEAST_CALLS: Final = 200
LEAST_PROVIDERS: Final = 2
LEAST_TRIED: Final = 20
_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Voter:
    """What Assay itself saw of a tenant: since when, and its recent tool-call requests by provider.

    `requested` maps each model that it requested tools of to what these requests ignored; `tried`
    are its tool-call requests by provider in the last eight weeks, `None` if not known.
    """

    tenant: str
    first_seen: datetime
    calls: Mapping[str, int]
    requested: Mapping[str, frozenset[str]]
    affiliated: frozenset[str] = frozenset()
    tried: Mapping[str, int] | None = None


def _no_votes() -> defaultdict[str, set[str]]:
    return defaultdict(set)


@dataclass(frozen=True, slots=True)
class ModelVotes:
    """The votes about one model: those that ignore a name, belong to a provider or have tried it.

    `everywhere` are the tenants that vote about all providers.
    """

    everywhere: set[str] = field(default_factory=set)
    tried: defaultdict[str, set[str]] = field(default_factory=_no_votes)
    ignoring: defaultdict[str, set[str]] = field(default_factory=_no_votes)
    affiliated: defaultdict[str, set[str]] = field(default_factory=_no_votes)


@dataclass(frozen=True, slots=True)
class IgnoreCounts:
    """Eligible tenants that may vote about the endpoint, and those that ignore it."""

    tenants: int
    ignoring: int


def is_eligible(voter: Voter, as_of: datetime) -> bool:
    """Return whether a tenant may vote."""
    calls = [count for count in voter.calls.values() if count > 0]
    is_known = as_of - voter.first_seen >= KNOWN_FOR
    return is_known and sum(calls) >= LEAST_CALLS and len(calls) >= LEAST_PROVIDERS


def ignore_votes(
    voters: Iterable[Voter], preferences: Iterable[Preference], as_of: datetime
) -> tuple[IgnoreVote, ...]:
    """Return one vote per eligible tenant and model that it requested tools of."""
    ignored_by: defaultdict[str, list[Preference]] = defaultdict(list)
    for preference in preferences:
        if preference.kind == "ignore":
            ignored_by[preference.tenant].append(preference)
    votes = []
    for voter in sorted(voters, key=lambda each: each.tenant):
        if not is_eligible(voter, as_of):
            continue
        tried = None
        if voter.tried is not None:
            tried = frozenset(name for name, count in voter.tried.items() if count >= LEAST_TRIED)
        for model, in_requests in sorted(voter.requested.items()):
            general = {p.target for p in ignored_by[voter.tenant] if p.model in (None, model)}
            ignored = in_requests | general
            votes.append(IgnoreVote(voter.tenant, model, ignored, voter.affiliated, tried))
    return tuple(votes)


def votes_by_model(votes: Iterable[IgnoreVote]) -> dict[str, ModelVotes]:
    """Group votes by model; their order does not matter."""
    models: defaultdict[str, ModelVotes] = defaultdict(ModelVotes)
    for vote in votes:
        found = models[vote.model]
        if vote.tried is None:
            found.everywhere.add(vote.tenant)
        for provider in vote.tried or ():
            found.tried[provider].add(vote.tenant)
        for target in vote.ignores:
            found.ignoring[target].add(vote.tenant)
        for provider in vote.affiliated:
            found.affiliated[provider].add(vote.tenant)
    return dict(models)


def count_ignores(endpoint: Endpoint, votes: ModelVotes) -> IgnoreCounts:
    """Count each tenant once, however often it ignores the endpoint, except the provider's own."""
    provider, tag, tier = endpoint.provider, endpoint.tag, endpoint.service_tier
    against: set[str] = set()
    for name in {provider, tag}:
        if provider_matches(name, provider, tag, tier):
            against |= votes.ignoring.get(name, _NONE)
    voters = votes.everywhere | votes.tried.get(provider, _NONE)
    voters = voters - votes.affiliated.get(provider, _NONE)
    return IgnoreCounts(len(voters), len(voters & against))


def others_ignored(counts: Iterable[tuple[Endpoint, IgnoreCounts]]) -> Mapping[str, float]:
    """Return for each endpoint of a model how large a share ignores the median other provider.

    A provider counts by its endpoint that is ignored least.
    """
    known = [(endpoint, each) for endpoint, each in counts if each.tenants]
    shares: dict[str, float] = {}
    for endpoint, each in known:
        share = each.ignoring / each.tenants
        shares[endpoint.provider] = min(share, shares.get(endpoint.provider, share))
    found: dict[str, float] = {}
    for endpoint, _ in known:
        others = [share for name, share in shares.items() if name != endpoint.provider]
        if others:
            found[endpoint.endpoint_id] = median(others)
    return found
