"""How many eligible tenants ignore an endpoint (service/STATISTICS.md#ignore-votes).

A tenant has one vote per model. It is eligible if Assay has known it for two weeks and has seen it
make 200 tool-call requests with two providers within four weeks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from assay.engine.world.catalog import Endpoint
from assay.engine.world.measurements import IgnoreVote
from assay.engine.world.request import provider_matches
from assay.engine.world.world import Preference

KNOWN_FOR: Final = timedelta(days=14)
LEAST_CALLS: Final = 200
LEAST_PROVIDERS: Final = 2
_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Voter:
    """What Assay itself saw of a tenant: since when, and its recent tool-call requests by provider.

    `requested` maps each model that it requested tools of to what these requests ignored.
    """

    tenant: str
    first_seen: datetime
    calls: Mapping[str, int]
    requested: Mapping[str, frozenset[str]]
    affiliated: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ModelVotes:
    """The votes about one model: all voters, those that ignore a name, those of a provider."""

    tenants: frozenset[str]
    ignoring: Mapping[str, frozenset[str]]
    affiliated: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class IgnoreCounts:
    """Eligible tenants that requested tools of the model, and those that ignore the endpoint."""

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
        for model, in_requests in sorted(voter.requested.items()):
            general = {p.target for p in ignored_by[voter.tenant] if p.model in (None, model)}
            votes.append(IgnoreVote(voter.tenant, model, in_requests | general, voter.affiliated))
    return tuple(votes)


def votes_by_model(votes: Iterable[IgnoreVote]) -> dict[str, ModelVotes]:
    """Group votes by model; their order does not matter."""
    models: defaultdict[str, list[IgnoreVote]] = defaultdict(list)
    for vote in votes:
        models[vote.model].append(vote)
    return {model: _summed(own) for model, own in models.items()}


def _summed(votes: Iterable[IgnoreVote]) -> ModelVotes:
    tenants: set[str] = set()
    ignoring: defaultdict[str, set[str]] = defaultdict(set)
    affiliated: defaultdict[str, set[str]] = defaultdict(set)
    for vote in votes:
        tenants.add(vote.tenant)
        for target in vote.ignores:
            ignoring[target].add(vote.tenant)
        for provider in vote.affiliated:
            affiliated[provider].add(vote.tenant)
    return ModelVotes(frozenset(tenants), _frozen(ignoring), _frozen(affiliated))


def _frozen(groups: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {name: frozenset(tenants) for name, tenants in groups.items()}


def count_ignores(endpoint: Endpoint, votes: ModelVotes) -> IgnoreCounts:
    """Count each tenant once, however often it ignores the endpoint, except the provider's own."""
    provider, tag, tier = endpoint.provider, endpoint.tag, endpoint.service_tier
    against: set[str] = set()
    for name in {provider, tag}:
        if provider_matches(name, provider, tag, tier):
            against |= votes.ignoring.get(name, _NONE)
    own = votes.affiliated.get(provider, _NONE)
    return IgnoreCounts(len(votes.tenants - own), len(against - own))
