"""The columns of a decision, declared once, and how they are derived from the bytes of its record.

The table `decision`, the filter fields, the export and the JSON output all follow `DecisionRow`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Final, get_type_hints

from msgspec import MsgspecError, Raw, Struct, json
from sqlalchemy import BigInteger, Column, Integer
from sqlalchemy.types import TypeEngine

from assay.decision_log.record import UNREADABLE, VERSION, from_micros
from assay.engine.canonical import canonical
from assay.engine.world.request import CATALOG_VARIANTS
from assay.store.outcome_counters import ToolActivity
from assay.store.types import NAME, UtcTime

Words = Mapping[str, tuple[str, ...]]
"""What a decision is found by: sorted words by kind, see WORD_KINDS."""

ListKey = tuple[datetime, str]
"""The place of a decision in a list: its time and its id."""


@dataclass(frozen=True, slots=True)
class RowColumn:
    """How a field of `DecisionRow` is stored, and how filters name and document it."""

    description: str = ""
    """Empty if filters cannot name the field."""

    filter_name: str = ""
    """Only where it differs from the column's name."""

    sql_type: TypeEngine[Any] = NAME


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One decision as the table `decision` holds it; every value is derived from its record."""

    decision_id: Annotated[str, RowColumn("the decision's id", "id")]
    decided_at: Annotated[
        datetime,
        RowColumn("time of the decision, in microseconds since 1970 UTC", "time_us", UtcTime()),
    ]
    tenant: Annotated[str, RowColumn("the tenant's name; empty if none was given or it was erased")]
    request_id: Annotated[str, RowColumn("the caller's own id of the request, or empty")]
    model: Annotated[str, RowColumn("the requested model, including its catalog variant")]
    variant: Annotated[str, RowColumn("the requested routing variant: exacto, nitro, …, or empty")]
    tools: Annotated[int, RowColumn("number of tools in the request", sql_type=BigInteger())]
    attempts: Annotated[int, RowColumn("number of endpoints in the plan", sql_type=Integer())]
    excluded: Annotated[int, RowColumn("number of excluded endpoints", sql_type=Integer())]
    first_provider: Annotated[str, RowColumn("provider of the first attempt, or empty")]
    first_endpoint: Annotated[str, RowColumn("endpoint of the first attempt, or empty")]
    availability: Annotated[str, RowColumn("the plan's availability, as the plan spells it")]
    policy_revision: Annotated[int, RowColumn("the policy revision used", sql_type=BigInteger())]
    snapshot_id: Annotated[str, RowColumn("the snapshot used")]
    engine_version: Annotated[str, RowColumn("the version of Assay that decided")]
    demoted: Annotated[int, RowColumn("number of endpoints demoted for health", sql_type=Integer())]
    plan_ns: Annotated[int, RowColumn("time spent planning, in nanoseconds", sql_type=BigInteger())]
    finding_set: Annotated[str, RowColumn()]


@dataclass(frozen=True, slots=True)
class DerivedDecision(DecisionRow):
    """A row as derived from a record, with its words; `activity` is that of a tenant with tools.

    `tried` are the endpoints of the attempts, in order of rank.
    """

    words: Words
    activity: ToolActivity | None = None
    tried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredDecision(DecisionRow):
    """A row as stored, with the place of its record in the log."""

    stream: str
    seq: int

    @property
    def key(self) -> ListKey:
        """Its place in a list of decisions."""
        return self.decided_at, self.decision_id


_HINTS = get_type_hints(DecisionRow, include_extras=True)
ROW_COLUMNS: Final[Mapping[str, RowColumn]] = {
    field.name: _HINTS[field.name].__metadata__[0] for field in fields(DecisionRow)
}
WORD_KINDS: Final[Mapping[str, str]] = {
    "attempted_provider": "the providers in the plan",
    "attempted_endpoint": "the endpoints in the plan",
    "excluded_provider": "the providers with an excluded endpoint",
    "excluded_endpoint": "the excluded endpoints",
    "reason": "why endpoints were excluded",
    "demoted_endpoint": "the endpoints demoted for their health at that moment",
}
"""What each kind of words lists; filters and exports call it by the plural, `reasons`."""


def sql_columns() -> list[Column[Any]]:
    """Return the columns of `DecisionRow` for the table `decision`."""
    return [
        Column(name, column.sql_type, nullable=False, primary_key=name == "decision_id")
        for name, column in ROW_COLUMNS.items()
    ]


class _Preferences(Struct, frozen=True, gc=False):
    ignore: tuple[str, ...] = ()


class _Request(Struct, gc=False):
    model: str
    request_id: str = ""
    tools: int = 0
    models: tuple[str, ...] = ()
    provider: _Preferences = _Preferences()


class _Plan(Struct, gc=False):
    attempts: list[tuple[int, str]]
    availability: str
    verdicts: Raw  # undecoded: many decisions share the same bytes, see `_find_words`


class _Verdict(Struct, array_like=True, gc=False):
    model: str
    endpoint_id: str
    provider: str
    broken: list[tuple[str, str, str, str]]  # rule set, rule, reason, outcome
    abstained: Raw
    shadow: Raw


class _Record(Struct, gc=False):
    """The fields of a record that its row needs."""

    v: int
    id: str
    at_us: int
    health: dict[str, str]
    tenant: str
    snapshot: str
    policy_revision: int
    engine: str
    plan_ns: int
    request: _Request
    plan: _Plan


_decoder = json.Decoder(_Record)
_verdicts_decoder = json.Decoder(list[_Verdict])


def derive_row(data: bytes) -> DerivedDecision:
    """Derive the row of a record; raise ValueError if the bytes are not a valid record."""
    try:
        record = _decoder.decode(data)
        if record.v != VERSION:
            raise ValueError(f"record version {record.v} is not known")
        return _row_of(record)
    except (*UNREADABLE, MsgspecError) as error:
        raise ValueError(f"not a decision record: {error}") from error


def _row_of(record: _Record) -> DerivedDecision:
    request, plan = record.request, record.plan
    places = [place for place, _ in plan.attempts]
    found = _find_words(bytes(plan.verdicts), frozenset(places), tuple(sorted(record.health)))
    first_provider, first_endpoint = found.endpoints[places[0]] if places else ("", "")
    model, variant = split_variants(request.model)
    activity = None
    if request.tools and record.tenant:
        models = dict.fromkeys(split_variants(slug)[0] for slug in (request.model, *request.models))
        activity = ToolActivity(tuple(models), tuple(dict.fromkeys(request.provider.ignore)))
    return DerivedDecision(
        decision_id=record.id,
        decided_at=from_micros(record.at_us),
        tenant=record.tenant,
        request_id=request.request_id,
        model=model,
        variant=variant,
        tools=request.tools,
        attempts=len(places),
        excluded=found.excluded,
        first_provider=first_provider,
        first_endpoint=first_endpoint,
        availability=plan.availability,
        policy_revision=record.policy_revision,
        snapshot_id=record.snapshot,
        engine_version=record.engine,
        demoted=len(record.health),
        plan_ns=record.plan_ns,
        finding_set=found.name,
        words=found.words,
        activity=activity,
        tried=tuple([found.endpoints[place][1] for place in places]),
    )


@dataclass(frozen=True, slots=True)
class _FindingSet:
    name: str
    words: Words
    endpoints: tuple[tuple[str, str], ...]
    excluded: int


@lru_cache(maxsize=1024)
def _find_words(
    verdicts: bytes, attempted: frozenset[int], demoted: tuple[str, ...]
) -> _FindingSet:
    """Return the words of decisions with these verdicts, attempts and demotions."""
    decoded = _verdicts_decoder.decode(verdicts.decode())
    tried = [decoded[place] for place in sorted(attempted)]
    excluded = [verdict for verdict in decoded if verdict.broken]
    found = {
        "attempted_provider": {verdict.provider for verdict in tried},
        "attempted_endpoint": {verdict.endpoint_id for verdict in tried},
        "excluded_provider": {verdict.provider for verdict in excluded},
        "excluded_endpoint": {verdict.endpoint_id for verdict in excluded},
        "reason": {reason for verdict in excluded for _, _, reason, _ in verdict.broken},
        "demoted_endpoint": set(demoted),
    }
    words = {kind: tuple(sorted(each)) for kind, each in found.items()}
    name = hashlib.sha256(canonical(words)).hexdigest()[:32]
    endpoints = tuple((verdict.provider, verdict.endpoint_id) for verdict in decoded)
    return _FindingSet(name, words, endpoints, len(excluded))


@lru_cache(maxsize=1024)
def split_variants(slug: str) -> tuple[str, str]:
    """Split a slug into model with catalog variant and routing variants, as `nitro:exacto`."""
    base, *suffixes = slug.split(":")
    catalog = [suffix for suffix in suffixes if suffix in CATALOG_VARIANTS]
    routing = [suffix for suffix in suffixes if suffix not in CATALOG_VARIANTS]
    return ":".join((base, *catalog)), ":".join(routing)
