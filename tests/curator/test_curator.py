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
from tests.support.decision_streams import Stream, make_sink
from tests.support.outcomes import SOUND, make_batch, report_outcome

from assay.curator.curator import KEPT as KEPT_FOR, JudgedSnapshot
from assay.decision_log.record import to_micros
from assay.engine.errors import StoreUnavailable
from assay.engine.snapshot.pool_memory import EVICTED, MEMBER
from assay.journal.sink import RecordKind
from assay.outcomes.outcome import encode_outcomes
from assay.store.database import reading
from assay.store.evidence_tables import waiting_outcome
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


def sequence(judged: JudgedSnapshot) -> int:
    assert judged.publication is not None
    return judged.publication.sequence


def members(bench: CuratorBench) -> set[str]:
    pool = bench.heard[-1].snapshot.pools["exacto", MODEL]
    return {verdict.tag for verdict in pool.verdicts if verdict.admitted}


def test_the_first_tick_closes_the_last_hour(bench: CuratorBench) -> None:
    bench.work_until(3)
    assert hours(bench.database) == [3]
    (judged,) = bench.heard
    assert judged.snapshot.as_of == START + 3 * HOUR
    assert members(bench) == {"steady", "sinking", "wavering"}
    newest = latest_published(bench.database)
    assert newest == judged.publication
    stored = load_snapshot(bench.database, judged.snapshot.snapshot_id)
    assert stored is not None
    assert (stored.manifest, stored.policy_revision) == (judged.snapshot.manifest, 1)


def test_missed_ticks_run_in_order(bench: CuratorBench) -> None:
    bench.work_until(3)
    bench.work_until(9)
    assert hours(bench.database) == list(range(3, 10))
    assert [judged.snapshot.as_of for judged in bench.heard] == [
        START + n * HOUR for n in range(3, 10)
    ]
    assert [sequence(judged) for judged in bench.heard] == list(range(1, 8))


def test_late_ticks_change_pools_as_ticks_in_time_do(bench: CuratorBench, store: Engine) -> None:
    bench.work_until(1)
    for hour in range(2, 25):
        bench.work_until(hour)
    in_time, published = (
        pool_changes(store),
        [judged.snapshot.snapshot_id for judged in bench.heard],
    )
    clear(store)
    late = CuratorBench(store)
    late.work_until(1)
    late.work_until(24)
    assert pool_changes(store) == in_time
    assert [judged.snapshot.snapshot_id for judged in late.heard] == published
    assert ("sinking", MEMBER, EVICTED, "fast") in in_time
    assert ("late", "probation", MEMBER, "admitted") in in_time


def test_closing_an_hour_gives_up_the_outcomes_that_have_waited_for_a_day(
    bench: CuratorBench,
) -> None:
    batch = make_batch([report_outcome(SOUND)], "b")._replace(received_us=to_micros(START))
    stream = Stream()
    sent = stream.unchained(RecordKind.OUTCOMES, encode_outcomes(batch))
    stream.into(make_sink(bench.database), [sent])
    bench.work_until(23)
    assert (waiting(bench.database), bench.curator.uncounted) == (1, {})
    bench.work_until(25)
    assert (waiting(bench.database), bench.curator.uncounted) == (0, {"unknown-decision": 1})


def waiting(database: Engine) -> int:
    with reading(database) as connection:
        return len(connection.execute(select(waiting_outcome)).all())


def clear(database: Engine) -> None:
    """Delete all curated state except policy revisions, which manifests refer to."""
    with database.connect() as connection:
        for table in (curator_tick, pool_change, pool_state, publication):
            connection.execute(table.delete())
        connection.commit()


def test_another_curator_continues_where_one_stopped(bench: CuratorBench, store: Engine) -> None:
    bench.work_until(1)
    bench.work_until(24)
    alone = pool_changes(store)
    clear(store)
    CuratorBench(store).work_until(1)
    for hour in range(2, 25):
        CuratorBench(store).work_until(hour)
    assert pool_changes(store) == alone


def test_a_closed_hour_is_processed_once(bench: CuratorBench) -> None:
    bench.work_until(3)
    before = read_state(bench.database)
    bench.work()
    bench.work_until(3)
    assert read_state(bench.database) == before
    assert len(bench.heard) == 1


def test_no_hour_is_due_after_the_clock_is_set_back(bench: CuratorBench) -> None:
    bench.work_until(5)
    before = read_state(bench.database)
    bench.work_until(2)
    assert read_state(bench.database) == before


def test_changed_rules_are_applied_between_ticks_as_of_the_last_hour(bench: CuratorBench) -> None:
    bench.work_until(3)
    bench.rules.policy = edited_policy("between")
    bench.now += LATER
    bench.work()
    assert [(sequence(judged), judged.snapshot.policy.revision) for judged in bench.heard] == [
        (1, 1),
        (2, 2),
    ]
    assert {judged.snapshot.as_of for judged in bench.heard} == {START + 3 * HOUR}
    assert hours(bench.database) == [3]
    bench.work()
    assert len(bench.heard) == 2


def test_between_ticks_endpoints_are_admitted_but_not_evicted(bench: CuratorBench) -> None:
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


def test_rejudging_by_another_curator_changes_nothing(bench: CuratorBench, store: Engine) -> None:
    bench.work_until(7)
    moved = pool_changes(store)
    for _ in range(2):  # endpoints admitted in that hour are judged as members now
        CuratorBench(store, bench.now).work()
    publications = len(read_rows(store, publication))
    assert publications <= 2
    CuratorBench(store, bench.now).work()
    assert (len(read_rows(store, publication)), pool_changes(store), hours(store)) == (
        publications,
        moved,
        [7],
    )


def test_only_changed_parts_and_states_are_written(bench: CuratorBench) -> None:
    bench.work_until(7)
    bench.work()
    parts, states = len(read_rows(bench.database, part)), load_memory(bench.database).states
    bench.rules.policy = edited_policy("nothing else")
    bench.work()
    # one part for the rule files, one for the endpoints just admitted
    assert len(read_rows(bench.database, part)) <= parts + 2
    assert load_memory(bench.database).states == states
    writes = record_writes(bench.database, pool_state)
    bench.work_until(9)
    later = load_memory(bench.database).states
    differing = [key for key in later if states.get(key) != later[key]]
    assert differing
    assert len(writes) <= 2 * len(differing) < 2 * 2 * len(later)


def test_a_tick_is_atomic_at_every_point_of_failure(store: Engine) -> None:
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
    assert [judged.snapshot.as_of for judged in bench.heard] == [START + 7 * HOUR, START + 8 * HOUR]


def test_rejudging_is_limited_when_rules_change_constantly(store: Engine) -> None:
    import_observations(store)
    seconds = iter(range(1000))
    # each tick takes a second, and each check another one
    bench = CuratorBench(store, steady=lambda: next(seconds))
    bench.work_until(3)
    for number in range(50):
        bench.rules.policy = edited_policy(f"edit {number}")
        bench.work()
    rejudged = len(bench.heard) - 1
    assert 50 / 6 <= rejudged <= 50 / 3
    assert bench.heard[-1].snapshot.policy.revision == 1 + rejudged
    bench.work_until(4)
    assert bench.heard[-1].snapshot.as_of == START + 4 * HOUR


def test_a_curator_that_loses_the_lease_during_a_tick_writes_nothing(
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


def test_the_lease_is_checked_between_missed_ticks(bench: CuratorBench) -> None:
    bench.work_until(1)
    left = iter([True, True, False])
    bench.now = START + 9 * HOUR + LATER
    bench.curator.curate(bench.lease, lambda: next(left))
    assert hours(bench.database) == [1, 2, 3]


def test_curating_fails_without_any_valid_policy(bench: CuratorBench) -> None:
    bench.rules.trouble = StoreUnavailable("no rules")
    before = read_state(bench.database)
    with pytest.raises(StoreUnavailable):
        bench.work_until(3)
    assert read_state(bench.database) == before


def test_stored_changes_form_a_consistent_sequence(bench: CuratorBench) -> None:
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


def test_old_publications_and_snapshots_are_deleted(bench: CuratorBench, store: Engine) -> None:
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
