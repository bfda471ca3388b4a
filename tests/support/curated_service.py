"""A world that changes by the hour up to now, and curators and deciders at work on it as processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, select
from tests.support.commands import DEADLINE_SECONDS, Served, environment
from tests.support.curators import HOUR, done_before, rows, watched

from assay.curator.lease import lease_client
from assay.curator.loop import LeaseHolder
from assay.engine.world.clock import EPOCH
from assay.store.database import reading
from assay.store.lease import read_lease
from assay.store.pool_tables import curator_tick, pool_change, pool_state
from assay.store.tables import publication

HOURS = 60


def missed_hours(database: Engine) -> range:
    """Have evidence of many hours until now, none of them closed yet but the one before; gives those to close."""
    last = (datetime.now(UTC) - timedelta(minutes=2) - EPOCH) // HOUR
    first = last - HOURS
    watched(database, EPOCH + (first - 1) * HOUR, HOURS + 1)
    done_before(database, first)
    return range(first + 1, last + 1)


@contextmanager
def held_back(database: Engine) -> Iterator[Callable[[], None]]:
    """Nobody else curates until the function given is called."""
    way = lease_client(database, "test:0:test", lambda: datetime.now(UTC))
    keeper = LeaseHolder(way)
    keeper.look()
    assert keeper.lease is not None
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(1.0):
            keeper.look()

    thread = threading.Thread(target=keep)
    thread.start()

    def let_go() -> None:
        ended.set()
        thread.join()
        keeper.end()

    try:
        yield let_go
    finally:
        let_go()


@contextmanager
def process(*arguments: object) -> Iterator[Served]:
    """`assay serve` as a process that may be killed; whatever became of it, it is gone at the end."""
    command = [
        sys.executable,
        "-m",
        "assay.cli",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--poll-interval",
        "0.1",
    ]
    with subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as started:  # fmt: skip
        assert started.stderr is not None
        served = Served(started, "")
        reader = threading.Thread(target=take, args=(started.stderr, served))
        try:
            take_until_serving(started.stderr, served)
            reader.start()
            yield served
        finally:
            started.kill()
            if reader.ident is not None:
                reader.join(DEADLINE_SECONDS)


def take(lines: Iterator[str], served: Served) -> None:
    """Take every further line, so that the process never waits for its reader."""
    served.log.extend(json.loads(line) for line in lines)


def take_until_serving(lines: Iterator[str], served: Served) -> None:
    for line in lines:
        assert line.startswith("{"), line
        served.log.append(json.loads(line))
        if served.log[-1]["event"] == "serving":
            served.address = served.log[-1]["listen"][0]
            return
    raise AssertionError(f"the server ended: {served.log}")


def holder(database: Engine) -> int:
    """The process that curates, 0 while there is none."""
    lease = read_lease(database)
    return int(lease.holder.split(":")[-2]) if lease and lease.holder else 0


def events(served: Served, name: str) -> list[datetime]:
    """When a server logged an event."""
    return [
        datetime.fromisoformat(line["timestamp"])
        for line in list(served.log)
        if line["event"] == name
    ]


def ticks(database: Engine) -> list[int]:
    """The hours that were closed, in order, by numbers since 1970."""
    with reading(database) as connection:
        return list(
            connection.execute(select(curator_tick.c.hour).order_by(curator_tick.c.hour)).scalars()
        )


def judged(database: Engine) -> dict[str, object]:
    """What pools have become and how, hour by hour: all that must not depend on who curated."""
    by_hour = select(curator_tick.c.hour, curator_tick.c.changes, publication.c.snapshot_id).join(
        publication, publication.c.sequence == curator_tick.c.publication
    )
    with reading(database) as connection:
        hours = [tuple(row) for row in connection.execute(by_hour.order_by(curator_tick.c.hour))]
    return {
        "states": rows(database, pool_state),
        "changes": rows(database, pool_change, "publication"),
        "hours": hours,
    }
