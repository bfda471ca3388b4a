"""The memory and the changes of pools: one tick is written in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, bindparam, delete, func, insert, select, update

from assay.engine.policy.fact_schema import FORMER_NAMES
from assay.engine.policy.verdict import RuleFinding
from assay.engine.snapshot.pool_memory import (
    CountedHour,
    CountedHours,
    DecayedCounts,
    ForgottenEvidence,
    PoolChange,
    PoolMemory,
    PoolState,
)
from assay.store.database import reading, writing
from assay.store.lease import Lease, require_lease
from assay.store.pool_tables import curator_tick, pool_change, pool_state
from assay.store.snapshots import (
    Publication,
    StoredSnapshot,
    keep_snapshot,
    publish,
    require_digests,
)
from assay.store.types import MICROSECOND

_FINDING = ("rule", "rule_set", "reason", "message", "outcome")
_STATE = (
    "binding", "model", "endpoint_id", "state", "since", "cusum", "slow_failures", "failed_at",
    "evictions", "held_until",
)  # fmt: skip
_CHANGE = (
    "at", "binding", "model", "endpoint_id", "before", "after", "cause", "message",
)  # fmt: skip
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class TickResult:
    """The result of one tick: a snapshot to publish, the memory before and after, and the changes.

    `hour` is the hour that was closed; `None` if the pools were judged between ticks.
    """

    snapshot: StoredSnapshot
    before: PoolMemory
    after: PoolMemory
    changes: Sequence[PoolChange]
    hour: int | None


@dataclass(frozen=True, slots=True)
class SavedTick:
    """The publication of a tick, and how many parts and states were written."""

    publication: Publication
    parts: int
    states: int


def load_memory(database: Engine) -> PoolMemory:
    """Read the memory of all pools."""
    tick = curator_tick.c
    with reading(database) as connection:
        states = map(state_of, connection.execute(select(pool_state)))
        known = {(state.binding, state.endpoint_id): state for state in states}
        query = select(tick.hour, tick.counted).where(tick.counted.is_not(None))
        counted = {
            end - 1: {name: CountedHour(*counts) for name, counts in stored.items()}
            for end, stored in connection.execute(query.order_by(tick.hour))
        }
    return PoolMemory(known, counted)


def last_hour(database: Engine) -> int | None:
    """Return the last closed hour."""
    with reading(database) as connection:
        hour: int | None = connection.scalar(select(func.max(curator_tick.c.hour)))
    return hour


def save_tick(database: Engine, result: TickResult, lease: Lease, *, now: datetime) -> SavedTick:
    """Write a tick's states, changes, parts, publication and hour.

    Raises LeaseLost; then nothing is written.
    """
    require_digests(database, result.snapshot)
    with writing(database) as connection:
        require_lease(connection, lease)
        parts = keep_snapshot(connection, result.snapshot, now)
        publication = publish(connection, result.snapshot.snapshot_id, now)
        states = store_states(connection, result.before.states, result.after.states)
        _store_changes(connection, result.changes, publication.sequence)
        _store_counted(connection, result.before.counted, result.after.counted)
        if result.hour is not None:
            row = {
                "hour": result.hour,
                "ticked_at": now,
                "token": lease.token,
                "publication": publication.sequence,
                "changes": len(result.changes),
                "counted": result.after.counted.get(result.hour - 1),
            }
            connection.execute(insert(curator_tick), row)
    return SavedTick(publication, parts, states)


def store_states(
    connection: Connection, before: Mapping[_Key, PoolState], after: Mapping[_Key, PoolState]
) -> int:
    """Write the states that differ, and return how many."""
    changed = {key: state for key, state in after.items() if before.get(key) != state}
    gone = [key for key in before if key in changed or key not in after]
    if gone:
        own = (
            pool_state.c.binding == bindparam("of_binding"),
            pool_state.c.endpoint_id == bindparam("of_endpoint"),
        )
        keys = [dict(zip(("of_binding", "of_endpoint"), key, strict=True)) for key in gone]
        connection.execute(delete(pool_state).where(*own), keys)
    if changed:
        connection.execute(insert(pool_state), [state_cells(each) for each in changed.values()])
    return len(changed.keys() | set(gone))


def _store_changes(connection: Connection, changes: Iterable[PoolChange], sequence: int) -> None:
    newest = connection.scalar(select(func.max(pool_change.c.change_id))) or 0
    rows = [
        {**change_cells(change), "change_id": number, "publication": sequence}
        for number, change in enumerate(changes, newest + 1)
    ]
    if rows:
        connection.execute(insert(pool_change), rows)


def _store_counted(connection: Connection, before: CountedHours, after: CountedHours) -> None:
    """Write what has counted of hours that were closed before, where it differs."""
    for hour in before:
        if after.get(hour) != before[hour]:
            own = curator_tick.c.hour == hour + 1
            values = {"counted": after.get(hour)}
            connection.execute(update(curator_tick).where(own).values(values))


def list_pool_changes(database: Engine, binding: str, model: str) -> tuple[PoolChange, ...]:
    """Return every change of one pool, in order."""
    own = (pool_change.c.binding == binding, pool_change.c.model == model)
    query = select(pool_change).where(*own).order_by(pool_change.c.change_id)
    with reading(database) as connection:
        return tuple(map(change_of, connection.execute(query)))


def state_cells(state: PoolState) -> dict[str, object]:
    """Return a state as columns."""
    forgotten = state.forgotten
    return {
        **{name: getattr(state, name) for name in _STATE},
        "forgotten_at": forgotten and forgotten.at,
        "forgotten_half_life_us": forgotten and forgotten.half_life // MICROSECOND,
        "forgotten_requests": forgotten and forgotten.amounts.requests,
        "forgotten_calls": forgotten and forgotten.amounts.calls,
        "forgotten_errored": forgotten and forgotten.amounts.errored,
        "run": {tenant: list(both) for tenant, both in state.run.items()} or None,
    }


def state_of(row: Row[Any]) -> PoolState:
    """Read a state from its row."""
    forgotten = None
    if row.forgotten_at is not None:
        half_life = row.forgotten_half_life_us * MICROSECOND
        amounts = DecayedCounts(row.forgotten_requests, row.forgotten_calls, row.forgotten_errored)
        forgotten = ForgottenEvidence(row.forgotten_at, half_life, amounts)
    run = {tenant: (calls, errored) for tenant, (calls, errored) in (row.run or {}).items()}
    return PoolState(**{name: getattr(row, name) for name in _STATE}, forgotten=forgotten, run=run)


def change_cells(change: PoolChange) -> dict[str, object]:
    """Return a change as columns."""
    return {
        **{name: getattr(change, name) for name in _CHANGE},
        "reasons": [{name: getattr(found, name) for name in _FINDING} for found in change.reasons],
        "facts": dict(change.facts),
    }


def change_of(row: Row[Any]) -> PoolChange:
    """Read a change from its row."""
    return PoolChange(
        **{name: getattr(row, name) for name in _CHANGE},
        reasons=tuple(RuleFinding(**reason) for reason in row.reasons),
        facts={FORMER_NAMES.get(path, path): value for path, value in row.facts.items()},
    )
