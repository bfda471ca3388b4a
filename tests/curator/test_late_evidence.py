"""Outcomes that are shipped after their hour was closed count in the next, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, delete, insert, select, update
from tests.support.curated_pool import (
    HOUR,
    MODEL,
    START,
    CuratorBench,
    import_observations,
    pool_changes,
    read_rows,
)

from assay.decision_log.record import to_micros
from assay.engine.snapshot.pool_memory import LATE_HOURS
from assay.outcomes.counting import count_outcomes
from assay.outcomes.outcome import ANSWERED, Outcome, OutcomeBatch, OutcomeGroup, ToolUse
from assay.store.database import reading, writing
from assay.store.evidence_tables import evidence_counter, evidence_day
from assay.store.outcome_counters import add_counts
from assay.store.pool_tables import curator_tick, pool_change, pool_state
from assay.store.pools import load_memory

STEADY = f"{MODEL}@steady"
EVICTED = ("steady", "member", "evicted", "fast")


@pytest.fixture
def bench(store: Engine) -> CuratorBench:
    import_observations(store, hours=5)
    bench = CuratorBench(store)
    for hour in range(1, 7):
        bench.work_until(hour)
    return bench


def ship(database: Engine, hour: int, calls: int, errored: int) -> None:
    """Count outcomes of this hour of the day, as the sink does."""
    at_us = to_micros(START + hour * HOUR) + 1
    tools = ToolUse(
        3, "auto", tool_call_requests=calls, errored_requests=errored, tool_calls=calls,
        invalid_json=errored,
    )  # fmt: skip
    done = Outcome(at_us, ANSWERED, requests=calls, tools=tools)
    batch = OutcomeBatch("gateway", "b", at_us, [OutcomeGroup("", STEADY, "steady", [done])])
    with writing(database) as connection:
        add_counts(connection, count_outcomes([batch]))


def test_bad_calls_that_are_shipped_after_their_hour_evict_at_the_next_tick(
    bench: CuratorBench, store: Engine
) -> None:
    ship(store, 5, 500, 400)
    assert EVICTED not in pool_changes(store)
    bench.work_until(7)
    assert pool_changes(store)[-1] == EVICTED


@pytest.mark.usefixtures("bench")
def test_another_curator_counts_them_too(store: Engine) -> None:
    ship(store, 4, 500, 400)
    other = CuratorBench(store)
    other.work_until(7)
    assert pool_changes(store)[-1] == EVICTED


PARTS = ((4, 120, 30), (5, 100, 9), (5, 60, 11), (6, 200, 2))


@pytest.mark.usefixtures("bench")
def test_the_order_of_late_outcomes_does_not_matter(store: Engine) -> None:
    found = set()
    tables = (evidence_counter, evidence_day, curator_tick, pool_state, pool_change)
    before = {table: read_rows(store, table) for table in tables}
    for order in (PARTS, PARTS[::-1], PARTS[2:] + PARTS[:2]):
        for part in order:
            ship(store, *part)
        other = CuratorBench(store)
        other.work_until(7)
        found.add((str(load_memory(store)), other.heard[-1].snapshot.snapshot_id))
        with writing(store) as connection:
            for table, rows in before.items():
                connection.execute(delete(table))
                names = [column.name for column in table.columns]
                cells = [dict(zip(names, row, strict=True)) for row in rows]
                if cells:
                    connection.execute(insert(table), cells)
    assert len(found) == 1


def test_hours_closed_by_an_earlier_version_do_not_count_again(
    bench: CuratorBench, store: Engine
) -> None:
    with writing(store) as connection:
        connection.execute(update(curator_tick).values(counted=None))
    ship(store, 5, 500, 400)
    bench.work_until(7)
    assert EVICTED not in pool_changes(store)


def test_only_the_last_day_is_remembered(bench: CuratorBench, store: Engine) -> None:
    bench.work_until(40)
    with reading(store) as connection:
        query = select(curator_tick.c.hour).where(curator_tick.c.counted.is_not(None))
        kept = list(connection.execute(query.order_by(curator_tick.c.hour)).scalars())
    assert len(kept) == LATE_HOURS - 1
    assert kept[-1] - kept[0] == LATE_HOURS - 2
