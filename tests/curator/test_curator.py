"""The curator processes hours in order, each atomically, and writes only with a lease."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from sqlalchemy import Engine, select
from tests.support.curated_pool import (
    ENDPOINTS,
    FIRST,
    HOUR,
    LATER,
    MODEL,
    START,
    CuratorBench,
    Injected,
    close_hour,
    edited_policy,
    failing_at,
    import_observations,
    numbers,
    observations_by_hour,
    pool_changes,
    read_rows,
    read_state,
    record_writes,
    take_any_lease,
)

from assay.curator.curator import KEPT as KEPT_FOR, JudgedSnapshot
from assay.engine.errors import StoreUnavailable
from assay.engine.snapshot.pool_memory import EVICTED, MEMBER
from assay.store.database import reading
from assay.store.imports.observations import apply_observations
from assay.store.lease import LeaseLost
from assay.store.pool_tables import curator_tick, pool_change, pool_state
from assay.store.pools import load_memory
from assay.store.snapshots import StoredSnapshot, latest_published, load_snapshot, save_snapshot
from assay.store.tables import part, publication, snapshot


@pytest.fixture
def bench(store: Engine) -> CuratorBench:
    import_observations(store)
    return CuratorBench(store)


def hours(database: Engine) -> list[int]:
    with reading(database) as connection:
        return [
            hour - FIRST
            for hour in connection.execute(select(curator_tick.c.hour).order_by("hour")).scalars()
        ]


def sequence(told: JudgedSnapshot) -> int:
    assert told.publication is not None
    return told.publication.sequence


def members(bench: CuratorBench) -> set[str]:
    pool = bench.heard[-1].snapshot.pools["exacto", MODEL]
    return {verdict.tag for verdict in pool.verdicts if verdict.admitted}


def test_the_first_tick_is_the_last_closed_hour(bench: CuratorBench) -> None:
    bench.work_until(3)
    assert hours(bench.database) == [3]
    (told,) = bench.heard
    assert told.snapshot.as_of == START + 3 * HOUR
    assert members(bench) == {"steady", "sinking", "wavering"}
    newest = latest_published(bench.database)
    assert newest == told.publication
    stored = load_snapshot(bench.database, told.snapshot.snapshot_id)
    assert stored is not None
    assert (stored.manifest, stored.policy_revision) == (told.snapshot.manifest, 1)


def test_missed_ticks_run_in_order(bench: CuratorBench) -> None:
    bench.work_until(3)
    bench.work_until(9)
    assert hours(bench.database) == list(range(3, 10))
    assert [told.snapshot.as_of for told in bench.heard] == [START + n * HOUR for n in range(3, 10)]
    assert [sequence(told) for told in bench.heard] == list(range(1, 8))


def test_ticks_that_were_missed_change_pools_as_those_in_time(
    bench: CuratorBench, store: Engine
) -> None:
    bench.work_until(1)
    for hour in range(2, 25):
        bench.work_until(hour)
    in_time, published = pool_changes(store), [told.snapshot.snapshot_id for told in bench.heard]
    clear(store)
    late = CuratorBench(store)
    late.work_until(1)
    late.work_until(24)
    assert pool_changes(store) == in_time
    assert [told.snapshot.snapshot_id for told in late.heard] == published
    assert ("sinking", MEMBER, EVICTED, "fast") in in_time
    assert ("late", "probation", MEMBER, "admitted") in in_time


def clear(database: Engine) -> None:
    """Forget all that was curated; policy revisions stay, since they are in manifests."""
    with database.connect() as connection:
        for table in (curator_tick, pool_change, pool_state, publication):
            connection.execute(table.delete())
        connection.commit()


def test_any_other_curator_goes_on_where_one_stopped(bench: CuratorBench, store: Engine) -> None:
    bench.work_until(1)
    bench.work_until(24)
    alone = pool_changes(store)
    clear(store)
    CuratorBench(store).work_until(1)
    for hour in range(2, 25):
        CuratorBench(store).work_until(hour)
    assert pool_changes(store) == alone


def test_nothing_is_done_twice(bench: CuratorBench) -> None:
    bench.work_until(3)
    before = read_state(bench.database)
    bench.work()
    bench.work_until(3)
    assert read_state(bench.database) == before
    assert len(bench.heard) == 1


def test_a_clock_that_was_set_back_makes_nothing_due(bench: CuratorBench) -> None:
    bench.work_until(5)
    before = read_state(bench.database)
    bench.work_until(2)
    assert read_state(bench.database) == before


def test_between_ticks_other_rules_are_taken_up_as_of_the_last_hour(bench: CuratorBench) -> None:
    bench.work_until(3)
    bench.rules.policy = edited_policy("between")
    bench.now += LATER
    bench.work()
    assert [(sequence(told), told.snapshot.policy.revision) for told in bench.heard] == [
        (1, 1),
        (2, 2),
    ]
    assert {told.snapshot.as_of for told in bench.heard} == {START + 3 * HOUR}
    assert hours(bench.database) == [3]
    bench.work()
    assert len(bench.heard) == 2


def test_between_ticks_a_new_endpoint_may_come_in_and_nobody_goes(bench: CuratorBench) -> None:
    bench.work_until(7)
    before = members(bench)
    changed = observations_by_hour(START - HOUR, 8)
    seen = [
        replace(row, observation=replace(row.observation, source="other")) for row in changed.rows
    ]
    bad = [
        replace(row, observation=replace(row.observation, errored_requests=150))
        if row.tag == "steady"
        else replace(
            row,
            tag="new",
            provider="new",
            observation=replace(row.observation, endpoint_id=f"{MODEL}@new"),
        )
        for row in seen
        if row.tag in {"steady", "wavering"}
    ]
    apply_observations(
        bench.database,
        replace(changed, digest="other", rows=tuple(bad)),
        create_endpoints=True,
        now=START,
    )
    bench.work()
    assert members(bench) == before | {"new"}
    assert hours(bench.database) == [7]
    bench.work_until(9)
    assert "steady" not in members(bench)


def test_another_curator_judges_again_and_nothing_comes_of_it(
    bench: CuratorBench, store: Engine
) -> None:
    bench.work_until(7)
    moved = pool_changes(store)
    for _ in range(2):
        CuratorBench(
            store, bench.now
        ).work()  # endpoints admitted in that hour are judged as members now
    publications = len(read_rows(store, publication))
    assert publications <= 2
    CuratorBench(store, bench.now).work()
    assert (len(read_rows(store, publication)), pool_changes(store), hours(store)) == (
        publications,
        moved,
        [7],
    )


def test_only_what_changed_is_written(bench: CuratorBench) -> None:
    bench.work_until(7)
    bench.work()
    parts, states = len(read_rows(bench.database, part)), load_memory(bench.database).states
    bench.rules.policy = edited_policy("nothing else")
    bench.work()
    assert (
        len(read_rows(bench.database, part)) <= parts + 2
    )  # the rule files themselves, and who was just admitted
    assert load_memory(bench.database).states == states
    writes = record_writes(bench.database, pool_state)
    bench.work_until(9)
    later = load_memory(bench.database).states
    differing = [key for key in later if states.get(key) != later[key]]
    assert differing
    assert len(writes) <= 2 * len(differing) < 2 * 2 * len(later)


def test_a_fault_anywhere_leaves_the_whole_tick_or_nothing(store: Engine) -> None:
    import_observations(store)
    bench = CuratorBench(store)
    bench.work_until(7)
    before, seen = read_state(store), []
    bench.now += HOUR
    for number in numbers():
        end = failing_at(store, number)
        try:
            bench.work()
        except (Injected, StoreUnavailable):
            seen.append(read_state(store))
        finally:
            count = end()
        if count < number:
            break
    after = read_state(store)
    assert {name for name in after if after[name] != before[name]} >= {
        "curator_tick",
        "publication",
        "snapshot",
        "part",
    }
    assert seen.count(before) > 20
    assert all(each in (before, after) for each in seen)
    assert [told.snapshot.as_of for told in bench.heard] == [START + 7 * HOUR, START + 8 * HOUR]


def test_changes_without_end_do_not_keep_it_busy(store: Engine) -> None:
    import_observations(store)
    seconds = iter(range(1000))
    bench = CuratorBench(
        store, steady=lambda: next(seconds)
    )  # each tick takes a second, each look another one
    bench.work_until(3)
    for number in range(50):
        bench.rules.policy = edited_policy(f"edit {number}")
        bench.work()
    again = len(bench.heard) - 1
    assert 50 / 6 <= again <= 50 / 3
    assert bench.heard[-1].snapshot.policy.revision == 1 + again
    bench.work_until(4)
    assert bench.heard[-1].snapshot.as_of == START + 4 * HOUR


def test_who_lost_the_lease_in_the_middle_of_a_tick_writes_nothing(
    bench: CuratorBench, store: Engine
) -> None:
    bench.work_until(3)
    before = read_state(store)
    other = take_any_lease(store, "another")
    bench.rules.policy = edited_policy("lost")
    with pytest.raises(LeaseLost):
        bench.work_until(4)
    assert read_state(store) == before
    assert len(bench.heard) == 1
    assert other.token == bench.lease.token + 1


def test_the_lease_is_asked_for_between_missed_ticks(bench: CuratorBench) -> None:
    bench.work_until(1)
    left = iter([True, True, False])
    bench.now = START + 9 * HOUR + LATER
    bench.curator.curate(bench.lease, lambda: next(left))
    assert hours(bench.database) == [1, 2, 3]


def test_faulty_rules_before_there_were_any_stand_in_the_way(bench: CuratorBench) -> None:
    bench.rules.trouble = StoreUnavailable("no rules")
    before = read_state(bench.database)
    with pytest.raises(StoreUnavailable):
        bench.work_until(3)
    assert read_state(bench.database) == before


def test_changes_of_an_hour_are_those_of_one_after_the_other(bench: CuratorBench) -> None:
    bench.work_until(1)
    bench.work_until(24)
    where = dict.fromkeys(ENDPOINTS, "unknown")
    for tag, before, after, _ in pool_changes(bench.database):
        assert where[tag] == before
        where[tag] = after
    kept = {
        key[1].partition("@")[2]: value.state
        for key, value in load_memory(bench.database).states.items()
    }
    assert {tag: word for tag, word in where.items() if word != "unknown"} == kept


def test_publications_do_not_pile_up(bench: CuratorBench, store: Engine) -> None:
    for hour in range(3):
        bench.work_until(hour)
    draft = StoredSnapshot(sha256(b"draft").hexdigest(), START, 1, b"draft", {})
    save_snapshot(store, draft, published=False, now=START)
    end = 24 * (KEPT_FOR.days + 1)
    close_hour(store, FIRST + end - 1)
    bench.work_until(end)
    last, newest = bench.heard[-2:]
    with reading(store) as connection:
        sequences = (
            connection.execute(select(publication.c.sequence).order_by("sequence")).scalars().all()
        )
        kept = set(connection.execute(select(snapshot.c.snapshot_id)).scalars())
    assert sequences == [sequence(last), sequence(newest)]
    assert kept == {last.snapshot.snapshot_id, newest.snapshot.snapshot_id, draft.snapshot_id}
    assert len(hours(store)) == 5
    assert pool_changes(store)
