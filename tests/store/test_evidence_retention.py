"""Retention of evidence: old rows are deleted, rows that may still be needed stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, Table, delete, insert, select
from tests.support.decision_streams import Stream, make_sink, payloads
from tests.support.outcomes import (
    ALONE,
    NOW_US,
    SOUND,
    change_outcome,
    make_batch,
    make_decision,
    report_outcome,
)

from assay.decision_log.tables import decision, journal_record
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
    uncounted_outcome,
)

NOW = datetime.fromtimestamp(NOW_US / 1_000_000, UTC)
DAY = timedelta(days=1)
TODAY = NOW_US // 86_400_000_000


def count(database: Engine, table: Table) -> int:
    with reading(database) as connection:
        return len(connection.execute(select(table)).all())


@pytest.fixture
def filled(store: Engine) -> Engine:
    """Store one outcome, one batch and the activity of tenants per day for 90 days.

    The decisions of the outcomes are gone.
    """
    stream = Stream()
    for age in range(90):
        at_us = NOW_US - age * 86_400_000_000
        own_id = f"0198f2a4-5b6c-7d8e-9f01-{age:012x}"
        made = make_decision("lab/m0@one", decision_id=own_id, decided_us=at_us)
        reports = [report_outcome(change_outcome(at_us=at_us, decision_id=own_id))]
        batch = make_batch(reports, f"b-{age}")._replace(received_us=at_us)
        decisions = stream.records(payloads([made]))
        outcomes = stream.unchained(RecordKind.OUTCOMES, encode_outcomes(batch))
        stream.into(make_sink(store), [*decisions, outcomes])
    delete_decisions(store)
    days = [{"tenant": "p", "model": "m", "day": TODAY - age} for age in range(90)]
    with writing(store) as connection:
        connection.execute(insert(tenant_activity), [{**day, "tool_decisions": 1} for day in days])
        connection.execute(insert(tenant_ignore), [{**day, "target": "x"} for day in days])
        tallied = [{"day": TODAY - age, "kind": "late", "source": "gw"} for age in range(90)]
        rows = [{**each, "endpoint_id": "lab/m0@one", "count": 1} for each in tallied]
        connection.execute(insert(uncounted_outcome), rows)
    return store


def delete_decisions(database: Engine) -> None:
    with writing(database) as connection:
        for table in (decision, journal_record):
            connection.execute(delete(table))


@pytest.mark.parametrize(
    ("age", "left"),
    [
        pytest.param(
            10,
            {outcome: 11, evidence_batch: 31, tenant_provider: 61, uncounted_outcome: 61},
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


def test_an_outcome_stays_as_long_as_its_decision_so_that_no_repeated_report_counts(
    store: Engine,
) -> None:
    stream, sink = Stream(), make_sink(store)
    stream.into(sink, stream.records(payloads([make_decision()])))

    def report(batch_id: str) -> None:
        batch = make_batch([report_outcome(SOUND)], batch_id)
        stream.into(sink, [stream.unchained(RecordKind.OUTCOMES, encode_outcomes(batch))])

    report("b-1")
    assert prune_outcomes(store, NOW + DAY, now=NOW + DAY) == 0
    report("b-2")
    with reading(store) as connection:
        counted, tallied = (
            connection.execute(select(table.c[name])).scalars().all()
            for table, name in ((evidence_counter, "requests"), (uncounted_outcome, "count"))
        )
    assert (counted, tallied) == ([1], [1])
    delete_decisions(store)
    assert prune_outcomes(store, NOW + DAY, now=NOW + DAY) == 1


def test_a_counted_batch_is_not_counted_again_after_pruning(filled: Engine) -> None:
    before = count(filled, evidence_counter)
    prune_outcomes(filled, NOW, now=NOW)
    stream = Stream("c" * 32)
    repeated = make_batch([report_outcome(ALONE, "lab/m1@two")], "b-29")
    stream.into(
        make_sink(filled), [stream.unchained(RecordKind.OUTCOMES, encode_outcomes(repeated))]
    )
    assert count(filled, evidence_counter) == before
