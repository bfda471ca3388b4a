"""What shipping makes of evidence: counters that grow by each batch once, and what decisions tell of tenants.

All of it happens inside the shipper's own transaction, tables and rows always in the same order, so that no two
shippers wait for each other in a circle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from assay.engine.world.clock import EPOCH, HOURS_PER_DAY
from assay.outcomes.counting import EvidenceCell, count_outcomes
from assay.outcomes.outcome import Outcome, OutcomeBatch, ToolUse
from assay.store.evidence_tables import (
    evidence_batch,
    evidence_counter,
    evidence_day,
    outcome,
    service_counter,
    tenant_activity,
    tenant_ignore,
    tenant_provider,
)
from assay.store.upserts import Cells, add_up, keep_first

NO_TOOLS = ToolUse(0)
NOTHING = (0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ToolActivity:
    """A tenant's request with tools: its models and the providers or tags it ignored, each once."""

    models: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvidenceRows:
    """Batches on their way, each name once, and the rows they come to; made before any lock is taken."""

    batches: Mapping[tuple[str, str], OutcomeBatch]
    rows: Mapping[Table, Sequence[Cells]]


def count_rows(batches: Iterable[OutcomeBatch]) -> EvidenceRows:
    """What batches come to; of those with the same name the first counts."""
    named: dict[tuple[str, str], OutcomeBatch] = {}
    for batch in batches:
        named.setdefault((batch.source, batch.batch_id), batch)
    cells = count_outcomes(named.values())
    rows: dict[Table, Sequence[Cells]] = {
        evidence_counter: sorted((*cell, *counts) for cell, counts in cells.evidence.items()),
        evidence_day: by_day(cells.evidence),
        service_counter: sorted((*cell, count) for cell, count in cells.service.items()),
        outcome: outcome_rows(named.values()),
        tenant_provider: sorted((*cell, count) for cell, count in cells.providers.items()),
    }
    return EvidenceRows(named, rows)


def count_once(connection: Connection, stream: str, evidence: EvidenceRows) -> None:
    """Count the batches that nobody has counted yet, and remember that they were."""
    if not evidence.batches:
        return
    new = unknown(connection, stream, evidence.batches)
    if len(new) < len(evidence.batches):
        evidence = count_rows(evidence.batches[name] for name in new)
    for table, rows in evidence.rows.items():
        (keep_first if table is outcome else add_up)(connection, table, rows)


def by_day(hours: Mapping[EvidenceCell, Sequence[int]]) -> Sequence[Cells]:
    """The same counts by day."""
    days: dict[EvidenceCell, list[int]] = {}
    for (endpoint_id, source, tenant, stratum, hour), counts in sorted(hours.items()):
        cell = (endpoint_id, source, tenant, stratum, hour // HOURS_PER_DAY)
        days[cell] = [
            before + more for before, more in zip(days.get(cell, NOTHING), counts, strict=True)
        ]
    return [(*cell, *counts) for cell, counts in days.items()]


def outcome_rows(batches: Iterable[OutcomeBatch]) -> Sequence[Cells]:
    """The attempts of decisions, by decision and rank; where one is reported twice the first stands."""
    rows: dict[tuple[str, int], Cells] = {}
    for batch in batches:
        for group in batch.groups:
            for each in group.outcomes:
                if each.decision_id:
                    rows.setdefault(
                        (each.decision_id, each.attempt),
                        cells_of(each, group.endpoint_id, batch.source),
                    )
    return [(*name, *rows[name]) for name in sorted(rows)]


def cells_of(each: Outcome, endpoint_id: str, source: str) -> Cells:
    """The columns of an outcome behind its key."""
    tools = each.tools or NO_TOOLS
    return (
        each.at_us,
        endpoint_id,
        source,
        each.result,
        milliseconds(each.first_token_s),
        milliseconds(each.duration_s),
        each.completion_tokens,
        milliseconds(each.retry_after_s),
        tools.offered,
        tools.tool_calls,
        tools.invalid_json + tools.unknown_name + tools.schema_mismatch,
    )


def milliseconds(seconds: float | None) -> int | None:
    """Whole milliseconds."""
    return None if seconds is None else round(seconds * 1000)


def unknown(
    connection: Connection, stream: str, batches: Mapping[tuple[str, str], OutcomeBatch]
) -> Sequence[tuple[str, str]]:
    """Take the names of batches; those that were free until now, in order. Waits for who is just taking one."""
    add = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(evidence_batch)
    columns = evidence_batch.c.source, evidence_batch.c.batch_id
    rows = [
        {
            "source": source,
            "batch_id": batch_id,
            "stream": stream,
            "received_at": EPOCH + timedelta(microseconds=batch.received_us),
        }
        for (source, batch_id), batch in sorted(batches.items())
    ]
    taken = connection.execute(add.on_conflict_do_nothing().returning(*columns), rows)
    return sorted((row.source, row.batch_id) for row in taken)


def note_activity(
    connection: Connection, found: Iterable[tuple[int, str, int, ToolActivity]]
) -> None:
    """Count the decisions of tenants that offered tools, and remember what they ruled out."""
    decisions: Counter[tuple[str, str, int]] = Counter()
    ignored: set[tuple[str, str, str, int]] = set()
    for _, tenant, day, asked in found:
        for model in asked.models:
            decisions[tenant, model, day] += 1
            ignored.update((tenant, model, target, day) for target in asked.ignored)
    add_up(connection, tenant_activity, sorted((*cell, count) for cell, count in decisions.items()))
    keep_first(connection, tenant_ignore, sorted(ignored))
