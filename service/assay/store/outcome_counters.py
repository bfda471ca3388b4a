"""Counters of outcomes in SQL.

Each batch is counted once, and in it each attempt of a decision; decisions add to the activity of
their tenants. All of it runs in the shipper's transaction. INVARIANT: tables and rows are always
written in the same order, so two shippers cannot deadlock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from assay.engine.world.clock import EPOCH, HOURS_PER_DAY
from assay.outcomes.checks import Attempt, BatchName
from assay.outcomes.counting import EvidenceCell, OutcomeCounts
from assay.outcomes.outcome import Outcome, ToolUse
from assay.store.evidence_tables import (
    capability_counter,
    evidence_batch,
    evidence_counter,
    evidence_day,
    outcome,
    service_counter,
    tenant_activity,
    tenant_ignore,
    tenant_provider,
    uncounted_outcome,
)
from assay.store.upserts import Cells, add_up, insert_new, keep_first

_NO_TOOLS = ToolUse(0)

UncountedCell = tuple[int, str, str, str]
"""Day, kind, source and endpoint of outcomes that moved nothing."""


class ToolActivity(NamedTuple):
    """The models that a tenant requested with tools, without routing variants, and its ignores."""

    models: tuple[str, ...]
    ignored: tuple[str, ...]


class AttemptReport(NamedTuple):
    """An outcome that names the attempt of a decision; reports sort by attempt, then by age."""

    decision_id: str
    attempt: int
    received_us: int
    fingerprint: int
    source: str
    tenant: str
    endpoint_id: str
    provider: str
    outcome: Outcome

    @property
    def key(self) -> Attempt:
        """The attempt."""
        return self.decision_id, self.attempt


def claim_batches(
    connection: Connection, stream: str, received: Mapping[BatchName, int]
) -> Sequence[BatchName]:
    """Record batches as counted; return those that were not counted before.

    `received` are times of receipt in microseconds. Waits for a concurrent claim of the same batch.
    """
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(evidence_batch)
    columns = evidence_batch.c.source, evidence_batch.c.batch_id
    rows = [
        {
            "source": source,
            "batch_id": batch_id,
            "stream": stream,
            "received_at": EPOCH + timedelta(microseconds=received_us),
        }
        for (source, batch_id), received_us in sorted(received.items())
    ]
    claimed = connection.execute(insert.on_conflict_do_nothing().returning(*columns), rows)
    return sorted((row.source, row.batch_id) for row in claimed)


def claim_attempts(connection: Connection, reports: Iterable[AttemptReport]) -> set[Attempt]:
    """Store the outcomes of attempts; return the attempts that had none before.

    Reports are sorted, and each attempt occurs once.
    """
    return insert_new(connection, outcome, [_outcome_cells(report) for report in reports])


def add_counts(connection: Connection, counts: OutcomeCounts) -> None:
    """Add counts to all counters of outcomes."""
    for table, rows in (
        (evidence_counter, sorted((*cell, *each) for cell, each in counts.evidence.items())),
        (evidence_day, count_days(counts.evidence)),
        (service_counter, sorted((*cell, count) for cell, count in counts.service.items())),
        (tenant_provider, sorted((*cell, count) for cell, count in counts.providers.items())),
        (capability_counter, sorted((*cell, *each) for cell, each in counts.capabilities.items())),
    ):
        add_up(connection, table, rows)


def add_uncounted(connection: Connection, cells: Mapping[UncountedCell, int]) -> None:
    """Count outcomes that moved nothing."""
    add_up(connection, uncounted_outcome, sorted((*cell, n) for cell, n in cells.items()))


def count_days(hours: Mapping[EvidenceCell, Sequence[int]]) -> Sequence[Cells]:
    """Return the rows of the same counts by day."""
    days: dict[EvidenceCell, Sequence[int]] = {}
    for (endpoint_id, source, tenant, stratum, hour), counts in sorted(hours.items()):
        key = (endpoint_id, source, tenant, stratum, hour // HOURS_PER_DAY)
        before = days.get(key, (0,) * len(counts))
        days[key] = [a + b for a, b in zip(before, counts, strict=True)]
    return [(*key, *counts) for key, counts in days.items()]


def _outcome_cells(report: AttemptReport) -> Cells:
    each, tools = report.outcome, report.outcome.tools or _NO_TOOLS
    return (
        report.decision_id,
        report.attempt,
        each.at_us,
        report.endpoint_id,
        report.source,
        each.result,
        _milliseconds(each.first_token_s),
        _milliseconds(each.duration_s),
        each.completion_tokens,
        _milliseconds(each.retry_after_s),
        tools.offered,
        tools.tool_calls,
        # A check that was given up has an errored request without a kind.
        max(
            tools.invalid_json + tools.unknown_name + tools.schema_mismatch, tools.errored_requests
        ),
        report.fingerprint,
    )


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


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
