"""The curator's work: hours in order, each whole or not at all; between them what changed; nothing without a lease."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from sqlalchemy import Engine, select
from tests.support.curators import (
    ENDPOINTS,
    FIRST,
    HOUR,
    LATER,
    MODEL,
    START,
    Bench,
    Injected,
    done_before,
    edited,
    failing_at,
    lives,
    numbers,
    observed,
    rows,
    state,
    taken,
    watched,
    written,
)

from assay.curator.curator import KEPT as KEPT_FOR
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
def bench(store: Engine) -> Bench:
    watched(store)
    return Bench(store)


def hours(database: Engine) -> list[int]:
    with reading(database) as connection:
        return [
            hour - FIRST
            for hour in connection.execute(select(curator_tick.c.hour).order_by("hour")).scalars()
        ]


def members(bench: Bench) -> set[str]:
    pool = bench.heard[-1].snapshot.pools["exacto", MODEL]
    return {verdict.tag for verdict in pool.verdicts if verdict.admitted}


def test_the_first_tick_is_the_last_closed_hour(bench: Bench) -> None:
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


def test_missed_ticks_run_in_order(bench: Bench) -> None:
    bench.work_until(3)
    bench.work_until(9)
    assert hours(bench.database) == list(range(3, 10))
    assert [told.snapshot.as_of for told in bench.heard] == [START + n * HOUR for n in range(3, 10)]
    assert [told.publication.sequence for told in bench.heard] == list(range(1, 8))


def test_ticks_that_were_missed_change_pools_as_those_in_time(bench: Bench, store: Engine) -> None:
    bench.work_until(1)
    for hour in range(2, 25):
        bench.work_until(hour)
    in_time, published = lives(store), [told.snapshot.snapshot_id for told in bench.heard]
    clear(store)
    late = Bench(store)
    late.work_until(1)
    late.work_until(24)
    assert lives(store) == in_time
    assert [told.snapshot.snapshot_id for told in late.heard] == published
    assert ("sinking", MEMBER, EVICTED, "fast") in in_time
    assert ("late", "probation", MEMBER, "admitted") in in_time


def clear(database: Engine) -> None:
    """Forget all that was curated; policy revisions stay, since they are in manifests."""
    with database.connect() as connection:
        for table in (curator_tick, pool_change, pool_state, publication):
            connection.execute(table.delete())
        connection.commit()


def test_any_other_curator_goes_on_where_one_stopped(bench: Bench, store: Engine) -> None:
    bench.work_until(1)
    bench.work_until(24)
    alone = lives(store)
    clear(store)
    Bench(store).work_until(1)
    for hour in range(2, 25):
        Bench(store).work_until(hour)
    assert lives(store) == alone


def test_nothing_is_done_twice(bench: Bench) -> None:
    bench.work_until(3)
    before = state(bench.database)
    bench.work()
    bench.work_until(3)
    assert state(bench.database) == before
    assert len(bench.heard) == 1


def test_a_clock_that_was_set_back_makes_nothing_due(bench: Bench) -> None:
    bench.work_until(5)
    before = state(bench.database)
    bench.work_until(2)
    assert state(bench.database) == before


def test_between_ticks_other_rules_are_taken_up_as_of_the_last_hour(bench: Bench) -> None:
    bench.work_until(3)
    bench.rules.policy = edited("between")
    bench.now += LATER
    bench.work()
    assert [(told.publication.sequence, told.snapshot.policy.revision) for told in bench.heard] == [
        (1, 1),
        (2, 2),
    ]
    assert {told.snapshot.as_of for told in bench.heard} == {START + 3 * HOUR}
    assert hours(bench.database) == [3]
    bench.work()
    assert len(bench.heard) == 2


def test_between_ticks_a_new_endpoint_may_come_in_and_nobody_goes(bench: Bench) -> None:
    bench.work_until(7)
    before = members(bench)
    changed = observed(START - HOUR, 8)
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


def test_another_curator_judges_again_and_nothing_comes_of_it(bench: Bench, store: Engine) -> None:
    bench.work_until(7)
    moved = lives(store)
    for _ in range(2):
        Bench(
            store, bench.now
        ).work()  # whoever was admitted in that hour is judged as a member now
    publications = len(rows(store, publication))
    assert publications <= 2
    Bench(store, bench.now).work()
    assert (len(rows(store, publication)), lives(store), hours(store)) == (publications, moved, [7])


def test_only_what_changed_is_written(bench: Bench) -> None:
    bench.work_until(7)
    bench.work()
    parts, states = len(rows(bench.database, part)), load_memory(bench.database).states
    bench.rules.policy = edited("nothing else")
    bench.work()
    assert (
        len(rows(bench.database, part)) <= parts + 2
    )  # the rule files themselves, and who was just admitted
    assert load_memory(bench.database).states == states
    writes = written(bench.database, pool_state)
    bench.work_until(9)
    later = load_memory(bench.database).states
    differing = [key for key in later if states.get(key) != later[key]]
    assert differing
    assert len(writes) <= 2 * len(differing) < 2 * 2 * len(later)


def test_a_fault_anywhere_leaves_the_whole_tick_or_nothing(store: Engine) -> None:
    watched(store)
    bench = Bench(store)
    bench.work_until(7)
    before, seen = state(store), []
    bench.now += HOUR
    for number in numbers():
        end = failing_at(store, number)
        try:
            bench.work()
        except (Injected, StoreUnavailable):
            seen.append(state(store))
        finally:
            count = end()
        if count < number:
            break
    after = state(store)
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
    watched(store)
    seconds = iter(range(1000))
    bench = Bench(
        store, steady=lambda: next(seconds)
    )  # each tick takes a second, each look another one
    bench.work_until(3)
    for number in range(50):
        bench.rules.policy = edited(f"edit {number}")
        bench.work()
    again = len(bench.heard) - 1
    assert 50 / 6 <= again <= 50 / 3
    assert bench.heard[-1].snapshot.policy.revision == 1 + again
    bench.work_until(4)
    assert bench.heard[-1].snapshot.as_of == START + 4 * HOUR


def test_who_lost_the_lease_in_the_middle_of_a_tick_writes_nothing(
    bench: Bench, store: Engine
) -> None:
    bench.work_until(3)
    before = state(store)
    other = taken(store, "another")
    bench.rules.policy = edited("lost")
    with pytest.raises(LeaseLost):
        bench.work_until(4)
    assert state(store) == before
    assert len(bench.heard) == 1
    assert other.token == bench.lease.token + 1


def test_the_lease_is_asked_for_between_missed_ticks(bench: Bench) -> None:
    bench.work_until(1)
    left = iter([True, True, False])
    bench.now = START + 9 * HOUR + LATER
    bench.curator.work(bench.lease, lambda: next(left))
    assert hours(bench.database) == [1, 2, 3]


def test_faulty_rules_before_there_were_any_stand_in_the_way(bench: Bench) -> None:
    bench.rules.trouble = StoreUnavailable("no rules")
    before = state(bench.database)
    with pytest.raises(StoreUnavailable):
        bench.work_until(3)
    assert state(bench.database) == before


def test_changes_of_an_hour_are_those_of_one_after_the_other(bench: Bench) -> None:
    bench.work_until(1)
    bench.work_until(24)
    where = dict.fromkeys(ENDPOINTS, "unknown")
    for tag, before, after, _ in lives(bench.database):
        assert where[tag] == before
        where[tag] = after
    kept = {
        key[1].partition("@")[2]: value.state
        for key, value in load_memory(bench.database).states.items()
    }
    assert {tag: word for tag, word in where.items() if word != "unknown"} == kept


def test_publications_do_not_pile_up(bench: Bench, store: Engine) -> None:
    for hour in range(3):
        bench.work_until(hour)
    draft = StoredSnapshot(sha256(b"draft").hexdigest(), START, 1, b"draft", {})
    save_snapshot(store, draft, published=False, now=START)
    end = 24 * (KEPT_FOR.days + 1)
    done_before(store, FIRST + end - 1)
    bench.work_until(end)
    last, newest = bench.heard[-2:]
    with reading(store) as connection:
        sequences = (
            connection.execute(select(publication.c.sequence).order_by("sequence")).scalars().all()
        )
        kept = set(connection.execute(select(snapshot.c.snapshot_id)).scalars())
    assert sequences == [last.publication.sequence, newest.publication.sequence]
    assert kept == {last.snapshot.snapshot_id, newest.snapshot.snapshot_id, draft.snapshot_id}
    assert len(hours(store)) == 5
    assert lives(store)
