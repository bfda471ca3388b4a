"""What pools remember, and how they changed: one tick is written in one transaction, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, bindparam, delete, func, insert, select

from assay.engine.policy.fact_schema import FORMER_NAMES
from assay.engine.policy.verdict import RuleFinding
from assay.engine.snapshot.pool_memory import (
    DecayedCounts,
    ForgottenEvidence,
    PoolChange,
    PoolMemory,
    PoolState,
)
from assay.store.database import reading, writing
from assay.store.lease import Lease, require_lease
from assay.store.pool_tables import curator_tick, pool_change, pool_state
from assay.store.snapshots import Publication, StoredSnapshot, keep_snapshot, publish, verify

MICROSECOND = timedelta(microseconds=1)
FINDING = ("rule", "rule_set", "reason", "message", "outcome")
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class TickResult:
    """What came of one tick: the snapshot to publish, the memory before and after, and every change of it.

    `hour` is the hour that was closed; `None` where the pools were judged again between ticks.
    """

    snapshot: StoredSnapshot
    before: PoolMemory
    after: PoolMemory
    changes: Sequence[PoolChange]
    hour: int | None


@dataclass(frozen=True, slots=True)
class SavedTick:
    """How a tick came into force, and how much had to be written."""

    publication: Publication
    parts: int
    states: int


def load_memory(database: Engine) -> PoolMemory:
    """Read all that pools remember."""
    with reading(database) as connection:
        states = map(state_of, connection.execute(select(pool_state)))
        return PoolMemory({(state.binding, state.endpoint_id): state for state in states})


def last_hour(database: Engine) -> int | None:
    """Tell the last hour that was closed."""
    with reading(database) as connection:
        hour: int | None = connection.scalar(select(func.max(curator_tick.c.hour)))
    return hour


def save_tick(database: Engine, result: TickResult, lease: Lease, *, now: datetime) -> SavedTick:
    """Write a tick: states, changes, new parts, publication and hour; raises LeaseLost, and then wrote nothing."""
    verify(database, result.snapshot)
    with writing(database) as connection:
        require_lease(connection, lease)
        parts = keep_snapshot(connection, result.snapshot, now)
        publication = publish(connection, result.snapshot.snapshot_id, now)
        states = store_states(connection, result.before.states, result.after.states)
        store_changes(connection, result.changes, publication.sequence)
        if result.hour is not None:
            row = {
                "hour": result.hour,
                "ticked_at": now,
                "token": lease.token,
                "publication": publication.sequence,
                "changes": len(result.changes),
            }
            connection.execute(insert(curator_tick), row)
    return SavedTick(publication, parts, states)


def store_states(
    connection: Connection, before: Mapping[Key, PoolState], after: Mapping[Key, PoolState]
) -> int:
    """Write the states that differ; says how many."""
    changed = [state for key, state in after.items() if before.get(key) != state]
    gone = [key for key in before if key not in after or before[key] != after[key]]
    if gone:
        own = (
            pool_state.c.binding == bindparam("of_binding"),
            pool_state.c.endpoint_id == bindparam("of_endpoint"),
        )
        keys = [
            {"of_binding": binding, "of_endpoint": endpoint_id} for binding, endpoint_id in gone
        ]
        connection.execute(delete(pool_state).where(*own), keys)
    if changed:
        connection.execute(insert(pool_state), [state_cells(state) for state in changed])
    return len({*gone, *((state.binding, state.endpoint_id) for state in changed)})


def store_changes(connection: Connection, changes: Iterable[PoolChange], sequence: int) -> None:
    """Add changes in their order."""
    newest = connection.scalar(select(func.max(pool_change.c.change_id))) or 0
    rows = [
        {**change_cells(change), "change_id": number, "publication": sequence}
        for number, change in enumerate(changes, newest + 1)
    ]
    if rows:
        connection.execute(insert(pool_change), rows)


def pool_changes(database: Engine, binding: str, model: str) -> tuple[PoolChange, ...]:
    """Every change of one pool, in the order in which they came."""
    own = (pool_change.c.binding == binding, pool_change.c.model == model)
    with reading(database) as connection:
        rows = connection.execute(select(pool_change).where(*own).order_by(pool_change.c.change_id))
        return tuple(map(change_of, rows))


def state_cells(state: PoolState) -> dict[str, object]:
    """Spell a state as columns."""
    forgotten = state.forgotten
    return {
        "binding": state.binding,
        "model": state.model,
        "endpoint_id": state.endpoint_id,
        "state": state.state,
        "since": state.since,
        "cusum": state.cusum,
        "slow_failures": state.slow_failures,
        "failed_at": state.failed_at,
        "evictions": state.evictions,
        "held_until": state.held_until,
        "forgotten_at": forgotten and forgotten.at,
        "forgotten_half_life_us": forgotten and forgotten.half_life // MICROSECOND,
        "forgotten_requests": forgotten and forgotten.amounts.requests,
        "forgotten_calls": forgotten and forgotten.amounts.calls,
        "forgotten_errored": forgotten and forgotten.amounts.errored,
    }


def state_of(row: Row[Any]) -> PoolState:
    """Read a state."""
    forgotten = None
    if row.forgotten_at is not None:
        half_life = row.forgotten_half_life_us * MICROSECOND
        amounts = DecayedCounts(row.forgotten_requests, row.forgotten_calls, row.forgotten_errored)
        forgotten = ForgottenEvidence(row.forgotten_at, half_life, amounts)
    return PoolState(
        binding=row.binding,
        model=row.model,
        endpoint_id=row.endpoint_id,
        state=row.state,
        since=row.since,
        cusum=row.cusum,
        slow_failures=row.slow_failures,
        failed_at=row.failed_at,
        evictions=row.evictions,
        held_until=row.held_until,
        forgotten=forgotten,
    )


def change_cells(change: PoolChange) -> dict[str, object]:
    """Spell a change as columns."""
    return {
        "at": change.at,
        "binding": change.binding,
        "model": change.model,
        "endpoint_id": change.endpoint_id,
        "before": change.before,
        "after": change.after,
        "cause": change.cause,
        "message": change.message,
        "reasons": [{name: getattr(found, name) for name in FINDING} for found in change.reasons],
        "facts": dict(change.facts),
    }


def change_of(row: Row[Any]) -> PoolChange:
    """Read a change."""
    return PoolChange(
        at=row.at,
        binding=row.binding,
        model=row.model,
        endpoint_id=row.endpoint_id,
        before=row.before,
        after=row.after,
        cause=row.cause,
        message=row.message,
        reasons=tuple(RuleFinding(**reason) for reason in row.reasons),
        facts={FORMER_NAMES.get(path, path): value for path, value in row.facts.items()},
    )
