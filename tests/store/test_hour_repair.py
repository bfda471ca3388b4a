"""Hours that a wrong clock closed are undone, and curating continues as if it had not happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from tests.support.commands import assay
from tests.support.curated_pool import (
    FIRST,
    HOUR,
    START,
    CuratorBench,
    import_observations,
    pool_changes,
    read_rows,
    read_state,
)
from tests.support.databases import NewDatabase

from assay.curator.curator import HoursClosedAhead
from assay.store.database import open_database
from assay.store.hour_repair import plan_hour_repair, repair_hours
from assay.store.pool_tables import pool_state
from assay.store.snapshots import latest_published

RIGHT = 12
JUMP = timedelta(days=95)


@pytest.fixture
def bench(store: Engine) -> CuratorBench:
    import_observations(store)
    bench = CuratorBench(store)
    for hour in range(1, RIGHT + 1):
        bench.work_until(hour)
    return bench


def active(bench: CuratorBench) -> str:
    publication = latest_published(bench.database)
    assert publication is not None
    return publication.snapshot_id


def close_hours_ahead(bench: CuratorBench, hours: int, jump: timedelta = JUMP) -> None:
    """Close hours to come, without those between, as a clock does that is ahead."""
    first = FIRST + 1 + (bench.now + jump - START) // HOUR
    for hour in range(first, first + hours):
        bench.curator.close_hour(bench.lease, bench.rules.policy, hour)


def standings(database: Engine) -> list[tuple[object, ...]]:
    """Return each state with its endpoint, since when, evictions and hold, without its counts."""
    counts = [column.name for column in pool_state.columns if column.name.startswith("forgotten")]
    return read_rows(database, pool_state, "cusum", "run", *counts)


def test_hours_closed_ahead_are_trouble_and_nothing_is_judged(bench: CuratorBench) -> None:
    close_hours_ahead(bench, 1)
    before = read_state(bench.database)
    bench.work_until(RIGHT + 1)
    assert isinstance(bench.curator.trouble, HoursClosedAhead)
    assert "run `assay curator repair`" in str(bench.curator.trouble)
    assert read_state(bench.database) == before


def test_a_repair_restores_hours_states_changes_and_the_active_snapshot(
    bench: CuratorBench,
) -> None:
    store, now = bench.database, bench.now
    snapshot, changes = active(bench), pool_changes(store)
    states = standings(store)
    close_hours_ahead(bench, 5)
    assert active(bench) != snapshot
    planned = plan_hour_repair(store, now)
    assert (planned.hours, planned.snapshot_id) == (5, snapshot)
    assert repair_hours(store, now) == planned
    assert active(bench) == snapshot
    assert pool_changes(store) == changes
    assert standings(store) == states
    assert not plan_hour_repair(store, now).is_needed


@pytest.mark.parametrize("jump", [timedelta(hours=2), JUMP])
def test_after_a_repair_the_same_hours_follow_as_without_the_wrong_clock(
    bench: CuratorBench, new_database: NewDatabase, jump: timedelta
) -> None:
    with new_database() as url:
        undisturbed = open_database(url)
        import_observations(undisturbed)
        other = CuratorBench(undisturbed)
        other.work_until(1)
        other.work_until(24)
        close_hours_ahead(bench, 5, jump)
        repair_hours(bench.database, bench.now)
        bench.work_until(24)
        assert bench.curator.trouble is None
        assert pool_changes(bench.database) == pool_changes(undisturbed)
        assert standings(bench.database) == standings(undisturbed)
        undisturbed.dispose()


def test_the_command_shows_what_it_would_do_and_then_does_it(
    database_url: str, store: Engine
) -> None:
    import_observations(store, datetime.now(UTC) - timedelta(hours=6), 5)
    bench = CuratorBench(store, datetime.now(UTC))
    bench.work()
    right = active(bench)
    close_hours_ahead(bench, 2)
    before = read_state(store)
    dry = assay("curator", "repair", "--database", database_url, "--json")
    assert (dry.code, dry.json["hours"], dry.json["applied"]) == (1, 2, False)
    assert dry.json["snapshot_id"] == right
    assert read_state(store) == before
    shown = assay("curator", "repair", "--database", database_url)
    assert shown.code == 1
    assert "would delete 2 hours" in shown.out
    assert "run it again with --apply" in shown.out
    done = assay("curator", "repair", "--apply", "--database", database_url)
    assert (done.code, "deleted 2 hours" in done.out) == (0, True)
    assert active(bench) == right
    again = assay("curator", "repair", "--database", database_url)
    assert (again.code, again.out) == (0, "nothing to repair: no hour is closed ahead of time\n")
