"""How many of those whose word counts ignore an endpoint: one vote a tenant, and only of tenants that use the model.

Eligible is who Assay has known for two weeks and has seen making 200 tool-call requests over two providers within four.
Whoever belongs to a provider has no say about it. Definitions: reference/statistics.md §5.7.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from assay.engine.world.catalog import Endpoint
from assay.engine.world.measurements import IgnoreVote
from assay.engine.world.slug import provider_matches
from assay.engine.world.tenants import Preference

KNOWN_FOR: Final = timedelta(days=14)
LEAST_CALLS: Final = 200
LEAST_PROVIDERS: Final = 2
NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Voter:
    """What Assay itself saw of a tenant: since when, and within four weeks its tool-call requests by provider.

    `asked` holds the models that it asked for tools of, with what its requests ignored there.
    """

    tenant: str
    first_seen: datetime
    calls: Mapping[str, int]
    asked: Mapping[str, frozenset[str]]
    affiliated: frozenset[str] = frozenset()


def is_eligible(voter: Voter, as_of: datetime) -> bool:
    """Whether a tenant's word counts."""
    calls = [count for count in voter.calls.values() if count > 0]
    return (
        as_of - voter.first_seen >= KNOWN_FOR
        and sum(calls) >= LEAST_CALLS
        and len(calls) >= LEAST_PROVIDERS
    )


def ignore_votes(
    voters: Iterable[Voter], preferences: Iterable[Preference], as_of: datetime
) -> tuple[IgnoreVote, ...]:
    """One ballot for each eligible tenant and model that it asked for tools of, with its standing preferences."""
    standing: defaultdict[str, list[Preference]] = defaultdict(list)
    for each in preferences:
        if each.kind == "ignore":
            standing[each.tenant].append(each)
    return tuple(
        IgnoreVote(
            voter.tenant,
            model,
            ignored | {p.target for p in standing[voter.tenant] if p.model in (None, model)},
            voter.affiliated,
        )
        for voter in sorted(voters, key=lambda v: v.tenant)
        if is_eligible(voter, as_of)
        for model, ignored in sorted(voter.asked.items())
    )


@dataclass(frozen=True, slots=True)
class ModelVotes:
    """The ballots of one model: who cast one, who ignores what, and who belongs to whom."""

    tenants: frozenset[str]
    ignoring: Mapping[str, frozenset[str]]
    affiliated: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class IgnoreCounts:
    """Eligible tenants that asked for tools of the model, and those of them that ignore the endpoint."""

    tenants: int
    ignoring: int


def votes_by_model(cast: Iterable[IgnoreVote]) -> dict[str, ModelVotes]:
    """The ballots by model; the order they come in does not matter."""
    models: defaultdict[str, list[IgnoreVote]] = defaultdict(list)
    for ballot in cast:
        models[ballot.model].append(ballot)
    return {
        model: ModelVotes(
            frozenset(each.tenant for each in own),
            grouped((target, each.tenant) for each in own for target in each.ignores),
            grouped((provider, each.tenant) for each in own for provider in each.affiliated),
        )
        for model, own in models.items()
    }


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """Tenants by what they are paired with."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, tenant in pairs:
        found[name].add(tenant)
    return {name: frozenset(tenants) for name, tenants in found.items()}


def count_ignores(endpoint: Endpoint, poll: ModelVotes) -> IgnoreCounts:
    """Count each tenant once, however often it says so, and nobody who belongs to the provider."""
    tier = endpoint.service_tier
    names = (
        n
        for n in {endpoint.provider, endpoint.tag}
        if provider_matches(n, endpoint.provider, endpoint.tag, tier)
    )
    against = frozenset[str]().union(*(poll.ignoring.get(name, NONE) for name in names))
    own = poll.affiliated.get(endpoint.provider, NONE)
    return IgnoreCounts(len(poll.tenants - own), len(against - own))
