"""Repair of a database whose hours were closed before they were over, by a clock that was ahead.

How it works
    Ticks, changes and snapshots that lie after `now` are the work of the wrong clock. Ticks and
    changes are deleted, so that the hours can be closed again when they are over.

    A pool's memory holds the present only. Where the wrong clock moved an endpoint, its state
    before is read from the first change that is deleted. Since when it had that state, and until
    when it was held out, is in the change before. Its hours that failed are forgotten. States that
    were not moved stay, except for failures counted in hours to come. Two things are lost: what
    the CUSUM had added up by then, if hours without evidence have taken it down; and what an
    eviction made the pool forget, if the wrong clock found that it had faded.

    Publications only grow, so that deciders never go back. The last snapshot that was judged in
    time is therefore published again, under the next number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, select, tuple_, update

from assay.engine.snapshot.pool_memory import (
    DEPARTED,
    EVICTED,
    UNKNOWN,
    PoolChange,
    PoolState,
    hold_in,
)
from assay.engine.world.clock import EPOCH, HOUR
from assay.store.database import reading, writing
from assay.store.pool_tables import curator_tick, pool_change, pool_state
from assay.store.pools import change_of, state_of, store_states
from assay.store.snapshots import publish
from assay.store.tables import publication, snapshot

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class HourRepair:
    """What a repair does, or has done.

    `last` is the end of the last hour that was closed ahead, `snapshot_id` the one that is
    published again, if any.
    """

    hours: int
    last: datetime | None
    changes: int
    endpoints: int
    snapshot_id: str | None

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to repair."""
        return self.hours > 0


def plan_hour_repair(database: Engine, now: datetime) -> HourRepair:
    """Return what a repair would do, and change nothing."""
    with reading(database) as connection:
        return _plan(connection, now)


def repair_hours(database: Engine, now: datetime) -> HourRepair:
    """Undo what a wrong clock has closed after `now`, in one transaction."""
    with writing(database) as connection:
        plan = _plan(connection, now)
        if plan.is_needed:
            _restore_states(connection, now)
            connection.execute(delete(pool_change).where(pool_change.c.at > now))
            connection.execute(delete(curator_tick).where(_is_ahead(now)))
            for column in (publication.c.published_at, snapshot.c.created_at):
                late = update(column.table).where(column > now)
                connection.execute(late.values({column.name: now}))
            if plan.snapshot_id is not None:
                publish(connection, plan.snapshot_id, now)
        return plan


def _plan(connection: Connection, now: datetime) -> HourRepair:
    hours, last = connection.execute(
        select(func.count(), func.max(curator_tick.c.hour)).where(_is_ahead(now))
    ).one()
    changed = select(pool_change.c.binding, pool_change.c.endpoint_id).where(pool_change.c.at > now)
    keys = [(row.binding, row.endpoint_id) for row in connection.execute(changed)]
    in_time = (
        select(publication.c.snapshot_id)
        .join(snapshot, snapshot.c.snapshot_id == publication.c.snapshot_id)
        .where(snapshot.c.as_of <= now)
        .order_by(publication.c.sequence.desc())
        .limit(1)
    )
    return HourRepair(
        hours=hours,
        last=None if last is None else EPOCH + last * HOUR,
        changes=len(keys),
        endpoints=len(set(keys)),
        snapshot_id=connection.scalar(in_time) if hours else None,
    )


def _is_ahead(now: datetime) -> ColumnElement[bool]:
    return curator_tick.c.hour > (now - EPOCH) // HOUR


def _restore_states(connection: Connection, now: datetime) -> None:
    own = tuple_(pool_change.c.binding, pool_change.c.endpoint_id)
    moved = select(pool_change.c.binding, pool_change.c.endpoint_id).where(pool_change.c.at > now)
    history: dict[_Key, list[PoolChange]] = {}
    rows = select(pool_change).where(own.in_(moved)).order_by(pool_change.c.change_id)
    for change in map(change_of, connection.execute(rows)):
        history.setdefault((change.binding, change.endpoint_id), []).append(change)
    states = {state.key: state for state in map(state_of, connection.execute(select(pool_state)))}
    after = {key: _without_future(state, now) for key, state in states.items()}
    for key, changes in history.items():
        restored = _state_before(changes, states.get(key), now)
        if restored is None:
            after.pop(key, None)
        else:
            after[key] = restored
    store_states(connection, states, after)


def _without_future(state: PoolState, now: datetime) -> PoolState:
    """Return a state that was not moved, without failures in hours to come."""
    if state.failed_at is None or state.failed_at <= now:
        return state
    return replace(state, slow_failures=0, failed_at=None)


def _state_before(
    changes: Sequence[PoolChange], stored: PoolState | None, now: datetime
) -> PoolState | None:
    """Return the state of an endpoint before the first change after `now`."""
    in_time = [change for change in changes if change.at <= now]
    ahead = [change for change in changes if change.at > now]
    before = ahead[0].before
    if before == UNKNOWN:
        return None
    last = in_time[-1] if in_time else ahead[0]
    forgotten = stored.forgotten if stored is not None else None
    return PoolState(
        binding=last.binding,
        model=last.model,
        endpoint_id=last.endpoint_id,
        state=before,
        since=min(last.at, now),
        evictions=_evictions(in_time),
        held_until=hold_in(last.message) if before == EVICTED else None,
        forgotten=forgotten if forgotten is not None and forgotten.at <= now else None,
    )


def _evictions(changes: Iterable[PoolChange]) -> int:
    """Return how many evictions there were since the endpoint last departed."""
    count = 0
    for change in changes:
        if change.cause == DEPARTED:
            count = 0
        elif change.after == EVICTED:
            count += 1
    return count
