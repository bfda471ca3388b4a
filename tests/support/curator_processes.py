"""A pool that changes hour by hour up to now, for curators and deciders that run as processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, select
from tests.support.curated_pool import HOUR, close_hour, import_observations, read_rows
from tests.support.processes import AssayProcess

from assay.curator.lease import RowLeaseClient
from assay.curator.loop import LeaseHolder
from assay.engine.world.clock import EPOCH
from assay.store.database import reading
from assay.store.lease import read_lease
from assay.store.pool_tables import curator_tick, pool_change, pool_state
from assay.store.tables import publication

HOURS = 60
Rows = list[tuple[object, ...]]


def import_missed_hours(database: Engine) -> range:
    """Import evidence of many hours until now, and return the hours that a curator has to close."""
    last = (datetime.now(UTC) - timedelta(minutes=2) - EPOCH) // HOUR
    first = last - HOURS
    import_observations(database, EPOCH + (first - 1) * HOUR, HOURS + 1)
    close_hour(database, first)
    return range(first + 1, last + 1)


@contextmanager
def holding_lease(database: Engine) -> Iterator[Callable[[], None]]:
    """Hold the lease, so that no process curates until the yielded function is called."""
    client = RowLeaseClient(database, "test:0:test", lambda: datetime.now(UTC))
    holder = LeaseHolder(client)
    holder.refresh()
    assert holder.lease is not None
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(1.0):
            holder.refresh()

    thread = threading.Thread(target=keep)
    thread.start()

    def release() -> None:
        ended.set()
        thread.join()
        holder.end()

    try:
        yield release
    finally:
        release()


def lease_holder(database: Engine) -> int:
    """Return the id of the process that curates, or 0."""
    lease = read_lease(database)
    return int(lease.holder.split(":")[-2]) if lease and lease.holder else 0


def event_times(served: AssayProcess, name: str) -> list[datetime]:
    """Return the times at which a server logged an event."""
    return [
        datetime.fromisoformat(line["timestamp"])
        for line in list(served.log)
        if line["event"] == name
    ]


def closed_hours(database: Engine) -> list[int]:
    """Return the closed hours, in order, as hours since 1970."""
    with reading(database) as connection:
        return list(
            connection.execute(select(curator_tick.c.hour).order_by(curator_tick.c.hour)).scalars()
        )


def pools_by_hour(database: Engine) -> dict[str, Rows]:
    """Return states, changes and hours of all pools; none may depend on which process curated."""
    by_hour = select(curator_tick.c.hour, curator_tick.c.changes, publication.c.snapshot_id).join(
        publication, publication.c.sequence == curator_tick.c.publication
    )
    with reading(database) as connection:
        hours = [tuple(row) for row in connection.execute(by_hour.order_by(curator_tick.c.hour))]
    return {
        "states": read_rows(database, pool_state),
        "changes": read_rows(database, pool_change, "publication"),
        "hours": hours,
    }
