"""What a decision row says besides its record: every column is derived from the record bytes, and can be again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from assay.engine.canonical import canonical
from assay.engine.slug import CATALOG_VARIANTS
from assay.record import UNREADABLE, Record, decode


@dataclass(frozen=True, slots=True)
class Derived:
    """One decision as rows: the values of the `decision` table's derived columns, and its set of words.

    `words` maps kinds (`excluded_provider`, `attempted_provider`, `reason`, `excluded_endpoint`, `demoted_endpoint`)
    to sorted values.
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


def derive(data: bytes) -> Derived:
    """Everything that a row says of a record; raises ValueError where the bytes are none."""
    record = decode(data)
    try:
        return derived(record)
    except UNREADABLE as error:
        raise ValueError(f"these bytes are no decision record: {error}") from error


def derived(record: Record) -> Derived:
    """Everything that a row says of a record."""
    plan = record.planned
    verdicts = [Spelled(*verdict) for verdict in plan["verdicts"]]
    attempted = [verdicts[place] for place, _ in plan["attempts"]]
    words = words_of(record, attempted, verdicts)
    model, variant = named(record.request.model)
    return Derived(
        decision_id=record.decision_id,
        decided_at=record.decided_at,
        tenant=record.tenant,
        request_id=record.request.request_id,
        model=model,
        variant=variant,
        tools=record.request.tools,
        attempts=len(attempted),
        excluded=sum(1 for verdict in verdicts if verdict.broken),
        first_provider=attempted[0].provider if attempted else "",
        first_endpoint=attempted[0].endpoint_id if attempted else "",
        availability=plan["availability"],
        policy_revision=record.policy_revision,
        snapshot_id=record.snapshot_id,
        engine_version=record.engine_version,
        demoted=len(record.moment.health),
        plan_ns=record.plan_ns,
        finding_set=hashlib.sha256(canonical(words)).hexdigest()[:32],
        words=words,
    )


@dataclass(frozen=True, slots=True)
class Spelled:
    """A verdict as a plan spells it; findings are [rule set, rule, reason, outcome]."""

    model: str
    endpoint_id: str
    provider: str
    broken: Sequence[Sequence[str]]
    abstained: Sequence[Sequence[str]]
    shadow: Sequence[Sequence[str]]


def words_of(
    record: Record, attempted: Sequence[Spelled], verdicts: Sequence[Spelled]
) -> Mapping[str, tuple[str, ...]]:
    """The words a decision is found by, sorted, each once."""
    left_out = [verdict for verdict in verdicts if verdict.broken]
    found = {
        "attempted_provider": {verdict.provider for verdict in attempted},
        "attempted_endpoint": {verdict.endpoint_id for verdict in attempted},
        "excluded_provider": {verdict.provider for verdict in left_out},
        "excluded_endpoint": {verdict.endpoint_id for verdict in left_out},
        "reason": {reason for verdict in left_out for _, _, reason, _ in verdict.broken},
        "demoted_endpoint": set(record.moment.health),
    }
    return {kind: tuple(sorted(words)) for kind, words in found.items()}


def named(slug: str) -> tuple[str, str]:
    """The model, catalog variant included, and its routing variants as written: `exacto`, `nitro:exacto`."""
    base, *suffixes = slug.split(":")
    catalog = [suffix for suffix in suffixes if suffix in CATALOG_VARIANTS]
    routing = [suffix for suffix in suffixes if suffix not in CATALOG_VARIANTS]
    return ":".join((base, *catalog)), ":".join(routing)
