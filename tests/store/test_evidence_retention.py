"""Retention of evidence: old rows are deleted, rows that may still be needed stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, Table, insert, select
from tests.support.decision_streams import Stream, make_sink
from tests.support.outcomes import NOW_US, SOUND, change_outcome, make_batch, report_outcome

from assay.journal.sink import RecordKind
from assay.outcomes.outcome import encode_outcomes
from assay.store.database import reading, writing
from assay.store.evidence_retention import prune_outcomes
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

NOW = datetime.fromtimestamp(NOW_US / 1_000_000, UTC)
DAY = timedelta(days=1)
TODAY = NOW_US // 86_400_000_000


def count(database: Engine, table: Table) -> int:
    with reading(database) as connection:
        return len(connection.execute(select(table)).all())


@pytest.fixture
def filled(store: Engine) -> Engine:
    """Store one outcome, one batch and the activity of tenants per day for 90 days."""
    stream = Stream()
    for age in range(90):
        at_us = NOW_US - age * 86_400_000_000
        reports = [report_outcome(change_outcome(at_us=at_us, attempt=age + 1))]
        batch = make_batch(reports, f"b-{age}")._replace(received_us=at_us)
        stream.into(
            make_sink(store), [stream.unchained(RecordKind.OUTCOMES, encode_outcomes(batch))]
        )
    days = [{"tenant": "p", "model": "m", "day": TODAY - age} for age in range(90)]
    with writing(store) as connection:
        connection.execute(insert(tenant_activity), [{**day, "tool_decisions": 1} for day in days])
        connection.execute(insert(tenant_ignore), [{**day, "target": "x"} for day in days])
    return store


@pytest.mark.parametrize(
    ("age", "left"),
    [
        pytest.param(
            10,
            {outcome: 11, evidence_batch: 31, tenant_activity: 61, tenant_provider: 61},
            id="10 days",
        ),
        pytest.param(
            45,
            {outcome: 46, evidence_batch: 46, tenant_activity: 61, tenant_ignore: 61},
            id="45 days",
        ),
        pytest.param(
            80,
            {outcome: 81, evidence_batch: 81, tenant_activity: 81, tenant_ignore: 81},
            id="80 days",
        ),
    ],
)
def test_each_table_keeps_its_rows_as_long_as_they_are_needed(
    filled: Engine, age: int, left: dict[Table, int]
) -> None:
    counters = [count(filled, table) for table in (evidence_counter, evidence_day, service_counter)]
    removed = prune_outcomes(filled, NOW - age * DAY, now=NOW, batch=7)
    assert removed == 90 - left[outcome]
    assert {table: count(filled, table) for table in left} == left
    assert [
        count(filled, table) for table in (evidence_counter, evidence_day, service_counter)
    ] == counters
    assert prune_outcomes(filled, NOW - age * DAY, now=NOW) == 0


def test_a_counted_batch_is_not_counted_again_after_pruning(filled: Engine) -> None:
    before = count(filled, evidence_counter)
    prune_outcomes(filled, NOW, now=NOW)
    stream = Stream("c" * 32)
    repeated = make_batch([report_outcome(SOUND, "lab/m1@two")], "b-29")
    stream.into(
        make_sink(filled), [stream.unchained(RecordKind.OUTCOMES, encode_outcomes(repeated))]
    )
    assert count(filled, evidence_counter) == before
