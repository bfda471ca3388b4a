"""What a decision row says besides its record: every column is derived from the record bytes, and can be again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from msgspec import MsgspecError, Raw, Struct, json

from assay.decision_log.record import UNREADABLE, VERSION, moment_of
from assay.engine.canonical import canonical
from assay.engine.world.slug import CATALOG_VARIANTS


@dataclass(frozen=True, slots=True)
class Derived:
    """One decision as rows: the values of the `decision` table's derived columns, and its set of words.

    `words` maps kinds (`excluded_provider`, `attempted_provider`, `reason`, `excluded_endpoint`, `demoted_endpoint`)
    to sorted values. `activity` is that of a tenant that offered tools.
    """

    decision_id: str
    decided_at: datetime
    tenant: str
    request_id: str
    model: str
    variant: str
    tools: int
    attempts: int
    excluded: int
    first_provider: str
    first_endpoint: str
    availability: str
    policy_revision: int
    snapshot_id: str
    engine_version: str
    demoted: int
    plan_ns: int
    finding_set: str
    words: Mapping[str, tuple[str, ...]]
    activity: Activity | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """What a tenant asked for with tools: every model, and the providers and tags it did not want."""

    models: tuple[str, ...]
    ignored: tuple[str, ...]


class Wanted(Struct, frozen=True, gc=False):
    """What is derived from a request's preferences."""

    ignore: tuple[str, ...] = ()


NOTHING: Final = Wanted()


class Asked(Struct, gc=False):
    """What is derived from a record's request."""

    model: str
    request_id: str = ""
    tools: int = 0
    models: tuple[str, ...] = ()
    provider: Wanted = NOTHING


class Planned(Struct, gc=False):
    """What is derived from a record's plan; verdicts stay as they are spelled, since they repeat."""

    attempts: list[tuple[int, str]]
    availability: str
    verdicts: Raw


class Read(Struct, gc=False):
    """A record as far as its row goes."""

    v: int
    id: str
    at_us: int
    health: dict[str, str]
    tenant: str
    snapshot: str
    policy_revision: int
    engine: str
    plan_ns: int
    request: Asked
    plan: Planned


decoder = json.Decoder(Read)


def derive(data: bytes) -> Derived:
    """Everything that a row says of a record; raises ValueError where the bytes are none."""
    try:
        read = decoder.decode(data)
        if read.v != VERSION:
            raise ValueError(f"record version {read.v} is not known")
        return derived(read)
    except (*UNREADABLE, MsgspecError) as error:
        raise ValueError(f"these bytes are no decision record: {error}") from error


def derived(read: Read) -> Derived:
    """Everything that a row says of a record."""
    places = [place for place, _ in read.plan.attempts]
    said = findings(bytes(read.plan.verdicts), frozenset(places), tuple(sorted(read.health)))
    first_provider, first_endpoint = said.endpoints[places[0]] if places else ("", "")
    model, variant = named(read.request.model)
    return Derived(
        decision_id=read.id,
        decided_at=moment_of(read.at_us),
        tenant=read.tenant,
        request_id=read.request.request_id,
        model=model,
        variant=variant,
        tools=read.request.tools,
        attempts=len(places),
        excluded=said.excluded,
        first_provider=first_provider,
        first_endpoint=first_endpoint,
        availability=read.plan.availability,
        policy_revision=read.policy_revision,
        snapshot_id=read.snapshot,
        engine_version=read.engine,
        demoted=len(read.health),
        plan_ns=read.plan_ns,
        finding_set=said.name,
        words=said.words,
        activity=activity(read.request) if read.request.tools and read.tenant else None,
    )


def activity(asked: Asked) -> Activity:
    """The models a request was about, without routing variants, and what it ruled out."""
    models = dict.fromkeys(named(slug)[0] for slug in (asked.model, *asked.models))
    return Activity(tuple(models), tuple(dict.fromkeys(asked.provider.ignore)))


@dataclass(frozen=True, slots=True)
class Spelled:
    """A verdict as a plan spells it; findings are [rule set, rule, reason, outcome]."""

    model: str
    endpoint_id: str
    provider: str
    broken: Sequence[Sequence[str]]
    abstained: Sequence[Sequence[str]]
    shadow: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a decision's verdicts come to: the same for many decisions."""

    name: str
    words: Mapping[str, tuple[str, ...]]
    endpoints: tuple[tuple[str, str], ...]
    excluded: int


@lru_cache(maxsize=1024)
def findings(verdicts: bytes, attempted: frozenset[int], demoted: tuple[str, ...]) -> Findings:
    """The words that decisions with these verdicts, attempts and demotions are found by, sorted, each once."""
    spelled = [Spelled(*verdict) for verdict in json.decode(verdicts)]
    tried = [spelled[place] for place in sorted(attempted)]
    left_out = [verdict for verdict in spelled if verdict.broken]
    found = {
        "attempted_provider": {verdict.provider for verdict in tried},
        "attempted_endpoint": {verdict.endpoint_id for verdict in tried},
        "excluded_provider": {verdict.provider for verdict in left_out},
        "excluded_endpoint": {verdict.endpoint_id for verdict in left_out},
        "reason": {reason for verdict in left_out for _, _, reason, _ in verdict.broken},
        "demoted_endpoint": set(demoted),
    }
    words = {kind: tuple(sorted(each)) for kind, each in found.items()}
    name = hashlib.sha256(canonical(words)).hexdigest()[:32]
    return Findings(name, words, tuple((v.provider, v.endpoint_id) for v in spelled), len(left_out))


@lru_cache(maxsize=1024)
def named(slug: str) -> tuple[str, str]:
    """The model, catalog variant included, and its routing variants as written: `exacto`, `nitro:exacto`."""
    base, *suffixes = slug.split(":")
    catalog = [suffix for suffix in suffixes if suffix in CATALOG_VARIANTS]
    routing = [suffix for suffix in suffixes if suffix not in CATALOG_VARIANTS]
    return ":".join((base, *catalog)), ":".join(routing)
