"""Storage of pool memory: read back equal, written once per tick, and only where it changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given, strategies as st
from sqlalchemy import Engine, func, insert, select
from tests.support.databases import record_policy

from assay.engine.errors import StoreUnavailable
from assay.engine.policy.verdict import RuleFinding
from assay.engine.snapshot.pool_memory import (
    EMPTY_MEMORY,
    EVICTED,
    MEMBER,
    PROBATION,
    DecayedCounts,
    ForgottenEvidence,
    PoolChange,
    PoolMemory,
    PoolState,
)
from assay.store.database import reading, writing
from assay.store.lease import Lease, LeaseLost, read_lease, return_lease, take_lease
from assay.store.pool_tables import pool_change, pool_state
from assay.store.pools import (
    TickResult,
    change_cells,
    change_of,
    last_hour,
    list_pool_changes,
    load_memory,
    save_tick,
    state_cells,
    state_of,
)
from assay.store.snapshots import Publication, StoredSnapshot, latest_published, published_at
from assay.store.tables import part, publication

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
FORGOTTEN = ForgottenEvidence(
    NOON, timedelta(hours=13, microseconds=7), DecayedCounts(0.1 + 0.2, 1e-300, 12345678.9)
)
HELD = PoolState(
    "exacto", "lab/one", "lab/one@b", EVICTED, NOON, 0.0, 0, None, 3, NOON + 24 * HOUR, FORGOTTEN
)  # fmt: skip
FAILING = PoolState("exacto", "lab/one", "lab/one@a", MEMBER, NOON, 5.999999999999999, 1, NOON)
NEW = PoolState("exacto-acme", "lab/two", "lab/two@ä", PROBATION, NOON + timedelta(microseconds=1))


@pytest.fixture
def lease(store: Engine) -> Lease:
    record_policy(store, "d1", {"exacto.yaml": "kind: RuleSet"}, now=NOON)
    taken = take_lease(store, "test", NOON + HOUR, seen=None)
    assert taken is not None
    return taken


def memory(*states: PoolState) -> PoolMemory:
    return PoolMemory({state.key: state for state in states})


def snapshot(*contents: bytes) -> StoredSnapshot:
    parts: Mapping[str, bytes] = {sha256(content).hexdigest(): content for content in contents}
    manifest = repr(sorted(parts)).encode()
    return StoredSnapshot(sha256(manifest).hexdigest(), NOON, 1, manifest, parts)


def change(
    endpoint_id: str, before: str, after: str, *, at: datetime = NOON, model: str = "lab/one"
) -> PoolChange:
    found = RuleFinding("tool_accuracy", "ACCURACY", "3 of 4 – “bad”", "false", "exacto")
    facts = {
        "tools.tool_call_requests": 0.1 + 0.2,
        "observed.requests": 2**53 + 1,
        "observed.sources": ["probe"],
        "model.id": model,
    }
    return PoolChange(
        at, "exacto", model, endpoint_id, before, after, "slow", "failed", (found,), facts
    )


def tick(
    *states: PoolState, before: PoolMemory = EMPTY_MEMORY, hour: int | None = 1, **given_: object
) -> TickResult:
    result = TickResult(snapshot(b"a", b"%d" % (hour or 0)), before, memory(*states), (), hour)
    return replace(result, **given_)  # type: ignore[arg-type]  # tests pass any field


def test_memory_is_read_back_equal(store: Engine, lease: Lease) -> None:
    assert load_memory(store) == EMPTY_MEMORY
    saved = save_tick(store, tick(HELD, FAILING, NEW), lease, now=NOON)
    assert saved.states == 3
    assert load_memory(store) == memory(HELD, FAILING, NEW)


def test_only_changed_states_are_written(store: Engine, lease: Lease) -> None:
    before = memory(HELD, FAILING, NEW)
    save_tick(store, tick(HELD, FAILING, NEW), lease, now=NOON)
    failed = replace(FAILING, slow_failures=2)
    saved = save_tick(store, tick(HELD, failed, before=before, hour=2), lease, now=NOON)
    assert saved.states == 2  # one changed, one gone
    assert load_memory(store) == memory(HELD, failed)
    repeated = save_tick(
        store, tick(HELD, failed, before=memory(HELD, failed), hour=3), lease, now=NOON
    )
    assert repeated.states == 0


def test_only_new_parts_are_written(store: Engine, lease: Lease) -> None:
    contents = [b"%d" % number for number in range(600)]
    first = save_tick(store, tick(snapshot=snapshot(*contents)), lease, now=NOON)
    other = save_tick(
        store, tick(snapshot=snapshot(*contents[1:], b"new"), hour=2), lease, now=NOON
    )
    same = save_tick(
        store, tick(snapshot=snapshot(*contents[1:], b"new"), hour=None), lease, now=NOON
    )
    assert (first.parts, other.parts, same.parts) == (600, 1, 0)
    assert (other.publication.sequence, same.publication.sequence) == (2, 2)


def test_a_lost_part_is_written_again(store: Engine, lease: Lease) -> None:
    whole = snapshot(b"a", b"b")
    save_tick(store, tick(snapshot=whole), lease, now=NOON)
    with writing(store) as connection:
        lost = sha256(b"b").hexdigest()
        statement = f"DELETE FROM snapshot_part WHERE digest = '{lost}'"  # noqa: S608 - a digest
        connection.exec_driver_sql(statement)
        connection.execute(part.delete().where(part.c.digest == lost))
    assert save_tick(store, tick(snapshot=whole, hour=None), lease, now=NOON).parts == 1


def test_changes_are_listed_by_pool_in_order(store: Engine, lease: Lease) -> None:
    first = (
        change("lab/one@a", "unknown", PROBATION),
        change("lab/one@a", PROBATION, MEMBER),
        change("lab/two@c", "unknown", PROBATION, model="lab/two"),
    )
    second = (change("lab/one@a", MEMBER, EVICTED, at=NOON + HOUR),)
    save_tick(store, tick(changes=first), lease, now=NOON)
    save_tick(store, tick(changes=second, hour=2), lease, now=NOON + HOUR)
    assert list_pool_changes(store, "exacto", "lab/one") == (*first[:2], *second)
    assert list_pool_changes(store, "exacto", "lab/two") == first[2:]
    assert list_pool_changes(store, "other", "lab/one") == ()
    with reading(store) as connection:
        rows = connection.execute(select(pool_change).order_by("change_id")).all()
    assert [(row.change_id, row.publication) for row in rows] == [(1, 1), (2, 1), (3, 1), (4, 2)]


def test_an_hour_is_closed_once(store: Engine, lease: Lease) -> None:
    assert last_hour(store) is None
    save_tick(store, tick(FAILING, hour=7), lease, now=NOON)
    assert last_hour(store) == 7
    with pytest.raises(StoreUnavailable):
        save_tick(
            store,
            tick(HELD, before=memory(FAILING), hour=7, snapshot=snapshot(b"x")),
            lease,
            now=NOON,
        )
    assert load_memory(store) == memory(FAILING)
    save_tick(store, tick(FAILING, before=memory(FAILING), hour=None), lease, now=NOON)
    assert last_hour(store) == 7


@pytest.mark.parametrize("lost", ["released", "taken by another", "never held"])
def test_without_the_lease_nothing_is_written(store: Engine, lease: Lease, lost: str) -> None:
    if lost == "released":
        assert return_lease(store, lease)
    elif lost == "taken by another":
        assert take_lease(store, "other", NOON + HOUR, seen=read_lease(store))
    else:
        lease = replace(lease, holder="other")
    with pytest.raises(LeaseLost, match=f"lease {lease.token} is lost"):
        save_tick(
            store, tick(FAILING, changes=(change("lab/one@a", "unknown", MEMBER),)), lease, now=NOON
        )
    with reading(store) as connection:
        counts = [
            connection.scalar(select(func.count()).select_from(t))
            for t in (part, publication, pool_change)
        ]
    assert counts == [0, 0, 0]
    assert (load_memory(store), last_hour(store)) == (EMPTY_MEMORY, None)


def test_the_publication_active_at_a_time_is_found(store: Engine, lease: Lease) -> None:
    for hour in (1, 2, 3):
        save_tick(store, tick(hour=hour), lease, now=NOON + hour * HOUR)
    found = {at: published_at(store, NOON + at * HOUR) for at in (0.99, 1, 1.5, 2, 99)}
    assert {at: each and each.sequence for at, each in found.items()} == {
        0.99: None,
        1: 1,
        1.5: 1,
        2: 2,
        99: 3,
    }
    assert (
        found[99]
        == latest_published(store)
        == Publication(3, tick(hour=3).snapshot.snapshot_id, NOON + 3 * HOUR)
    )


amounts = st.floats(0, 1e12, allow_nan=False)
FIRST, LAST = datetime(1971, 1, 1), datetime(2200, 1, 1)  # noqa: DTZ001 - hypothesis adds the zone
times = st.datetimes(FIRST, LAST, timezones=st.just(UTC))
states = st.builds(
    PoolState,
    binding=st.just("exacto"),
    model=st.just("lab/one"),
    endpoint_id=st.just("lab/one@a"),
    state=st.sampled_from((PROBATION, MEMBER, EVICTED)),
    since=times,
    cusum=amounts,
    slow_failures=st.integers(0, 5),
    failed_at=st.none() | times,
    evictions=st.integers(0, 100),
    held_until=st.none() | times,
    forgotten=st.none()
    | st.builds(
        ForgottenEvidence,
        times,
        st.timedeltas(timedelta(microseconds=1), timedelta(days=300)),
        st.builds(DecayedCounts, amounts, amounts, amounts),
    ),
)


@given(state=states)
def test_every_state_is_restored_from_its_columns(state: PoolState) -> None:
    cells = state_cells(state)
    assert set(cells) == {column.name for column in pool_state.columns}
    assert state_of(type("Row", (), cells)) == state  # type: ignore[arg-type]  # a fake row


def test_every_change_is_restored_from_its_columns(store: Engine) -> None:
    evicted = change("lab/one@a", MEMBER, EVICTED)
    cells = {**change_cells(evicted), "change_id": 1, "publication": 1}
    assert set(cells) == {column.name for column in pool_change.columns}
    with writing(store) as connection:
        connection.execute(insert(pool_change), cells)
        assert change_of(connection.execute(select(pool_change)).one()) == evicted
