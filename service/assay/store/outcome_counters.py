"""Counters of outcomes in SQL.

Each batch is counted once; decisions add to the activity of their tenants. All of it runs in the
shipper's transaction. INVARIANT: tables and rows are always written in the
same order, so two shippers cannot deadlock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

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

_NO_TOOLS = ToolUse(0)
_BatchName = tuple[str, str]  # source and batch_id


class ToolActivity(NamedTuple):
    """The models that a tenant requested with tools, without routing variants, and its ignores."""

    models: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvidenceRows:
    """Named batches with the rows that count them; computed before any lock is taken."""

    batches: Mapping[_BatchName, OutcomeBatch]
    rows: Mapping[Table, Sequence[Cells]]


def count_rows(batches: Iterable[OutcomeBatch]) -> EvidenceRows:
    """Count batches; of those with the same name the first counts."""
    named: dict[_BatchName, OutcomeBatch] = {}
    for batch in batches:
        named.setdefault((batch.source, batch.batch_id), batch)
    cells = count_outcomes(named.values())
    rows: dict[Table, Sequence[Cells]] = {
        evidence_counter: sorted((*cell, *counts) for cell, counts in cells.evidence.items()),
        evidence_day: count_days(cells.evidence),
        service_counter: sorted((*cell, count) for cell, count in cells.service.items()),
        outcome: _outcome_rows(named.values()),
        tenant_provider: sorted((*cell, count) for cell, count in cells.providers.items()),
    }
    return EvidenceRows(named, rows)


def count_once(connection: Connection, stream: str, evidence: EvidenceRows) -> None:
    """Add the batches that are not counted yet, and record that they are."""
    if not evidence.batches:
        return
    new = _claim_batches(connection, stream, evidence.batches)
    if len(new) < len(evidence.batches):
        evidence = count_rows(evidence.batches[name] for name in new)
    for table, rows in evidence.rows.items():
        write = keep_first if table is outcome else add_up
        write(connection, table, rows)


def count_days(hours: Mapping[EvidenceCell, Sequence[int]]) -> Sequence[Cells]:
    """Return the rows of the same counts by day."""
    days: dict[EvidenceCell, Sequence[int]] = {}
    for (endpoint_id, source, tenant, stratum, hour), counts in sorted(hours.items()):
        key = (endpoint_id, source, tenant, stratum, hour // HOURS_PER_DAY)
        before = days.get(key, (0,) * len(counts))
        days[key] = [a + b for a, b in zip(before, counts, strict=True)]
    return [(*key, *counts) for key, counts in days.items()]


def _outcome_rows(batches: Iterable[OutcomeBatch]) -> Sequence[Cells]:
    """Return the attempts of decisions by decision and rank; the first report of one counts."""
    rows: dict[tuple[str, int], Cells] = {}
    for batch in batches:
        for group in batch.groups:
            for each in group.outcomes:
                if each.decision_id:
                    cells = _outcome_cells(each, group.endpoint_id, batch.source)
                    rows.setdefault((each.decision_id, each.attempt), cells)
    return [(*name, *rows[name]) for name in sorted(rows)]


def _outcome_cells(each: Outcome, endpoint_id: str, source: str) -> Cells:
    """Return the columns of an outcome after its key."""
    tools = each.tools or _NO_TOOLS
    return (
        each.at_us,
        endpoint_id,
        source,
        each.result,
        _milliseconds(each.first_token_s),
        _milliseconds(each.duration_s),
        each.completion_tokens,
        _milliseconds(each.retry_after_s),
        tools.offered,
        tools.tool_calls,
        tools.invalid_json + tools.unknown_name + tools.schema_mismatch,
    )


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _claim_batches(
    connection: Connection, stream: str, batches: Mapping[_BatchName, OutcomeBatch]
) -> Sequence[_BatchName]:
    """Record batches as counted; return those that were not counted before.

    Waits for a concurrent claim of the same batch.
    """
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(evidence_batch)
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
    claimed = connection.execute(insert.on_conflict_do_nothing().returning(*columns), rows)
    return sorted((row.source, row.batch_id) for row in claimed)


def count_activity(
    connection: Connection, found: Iterable[tuple[int, str, int, ToolActivity]]
) -> None:
    """Count the decisions of tenants that offered tools, and store what they ignored.

    Each item has the decision's number in the stream, tenant, day and activity.
    """
    decisions: Counter[tuple[str, str, int]] = Counter()
    ignored: set[tuple[str, str, str, int]] = set()
    for _, tenant, day, activity in found:
        for model in activity.models:
            decisions[tenant, model, day] += 1
            ignored.update((tenant, model, target, day) for target in activity.ignored)
    add_up(connection, tenant_activity, sorted((*cell, count) for cell, count in decisions.items()))
    keep_first(connection, tenant_ignore, sorted(ignored))
