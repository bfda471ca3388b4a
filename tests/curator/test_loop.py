"""The curator loop works while it holds the lease, reports failures, and retries with backoff."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from sqlalchemy import Engine
from tests.support.curated_pool import START, CuratorBench, import_observations, pool_changes
from tests.support.waiting import eventually

from assay.curator.curator import Curator
from assay.curator.lease import RowLeaseClient
from assay.curator.loop import CuratorLoop, LeaseHolder
from assay.curator.supervised_loop import BACKOFF
from assay.engine.errors import StoreUnavailable
from assay.store.database import open_database
from assay.store.lease import Lease, return_lease
from assay.store.pool_tables import curator_tick

WITHOUT_JITTER = replace(BACKOFF, draw=lambda: 1.0)


@dataclass
class FakeLeaseClient:
    """A lease client whose answers the test sets."""

    free: bool = True
    ours: bool = True
    trouble: Exception | None = None
    words: list[str] = field(default_factory=list)

    def acquire(self) -> Lease | None:
        self.words.append("acquire")
        if self.trouble:
            raise self.trouble
        return Lease(len(self.words), "test", START) if self.free else None

    def renew(self, lease: Lease) -> bool:
        self.words.append(f"renew {lease.token}")
        if self.trouble:
            raise self.trouble
        return self.ours

    def release(self, lease: Lease) -> None:
        self.words.append(f"release {lease.token}")


def test_the_holder_acquires_renews_and_reacquires_its_lease() -> None:
    client = FakeLeaseClient(free=False)
    holder = LeaseHolder(client)
    holder.refresh()
    assert current_lease(holder) is None
    client.free = True
    holder.refresh()
    holder.refresh()
    client.ours = False
    holder.refresh()
    assert current_lease(holder) is None
    holder.refresh()
    holder.end()
    holder.refresh()
    assert client.words == [
        "acquire",
        "acquire",
        "renew 2",
        "renew 2",
        "acquire",
        "release 5",
    ]


def test_an_unavailable_database_is_reported_and_the_lease_is_kept() -> None:
    client = FakeLeaseClient()
    holder = LeaseHolder(client)
    holder.refresh()
    lease, client.trouble = holder.lease, StoreUnavailable("away")
    holder.refresh()
    assert (current_lease(holder), reported_trouble(holder)) == (lease, "away")
    client.trouble = None
    holder.refresh()
    assert (current_lease(holder), reported_trouble(holder)) == (lease, "")


def current_lease(holder: LeaseHolder) -> Lease | None:
    """The current lease."""
    return holder.lease


def reported_trouble(curating: LeaseHolder | CuratorLoop) -> str:
    """The reported trouble, or an empty string."""
    return str(curating.trouble or "")


@pytest.fixture
def bench(store: Engine) -> CuratorBench:
    import_observations(store)
    return CuratorBench(store)


@pytest.fixture
def start(bench: CuratorBench) -> Iterator[Callable[[str], CuratorLoop]]:
    """Curators of one database, each with its own connections, as separate processes have."""
    databases: list[Engine] = []

    def one(name: str) -> CuratorLoop:
        database = open_database(bench.database.url.render_as_string(hide_password=False))
        databases.append(database)
        curator = Curator(database, bench.rules, lambda: bench.now, bench.heard.append)
        return CuratorLoop(curator, RowLeaseClient(database, name, lambda: bench.now), 0.01)

    yield one
    for database in databases:
        database.dispose()


def test_the_loop_does_nothing_without_the_lease(bench: CuratorBench) -> None:
    loop = CuratorLoop(bench.curator, FakeLeaseClient(free=False), 0.01)
    loop.holder.refresh()
    loop.work()
    assert (bench.heard, reported_trouble(loop)) == ([], "")


def test_failures_are_reported_and_retried(bench: CuratorBench) -> None:
    now = 0.0
    client = FakeLeaseClient()
    loop = CuratorLoop(bench.curator, client, 0.01, WITHOUT_JITTER, lambda: now)
    loop.holder.lease = bench.lease
    for trouble in (StoreUnavailable("away"), ZeroDivisionError("a fault of ours")):
        bench.rules.trouble = trouble
        now += 100
        loop.work()
        assert reported_trouble(loop) == str(trouble)
    bench.rules.trouble = None
    loop.work()
    assert reported_trouble(loop)  # not retried yet
    now += 100
    loop.work()
    assert not reported_trouble(loop)
    assert len(bench.heard) == 1


def test_backoff_doubles_up_to_a_limit_and_resets_after_success(bench: CuratorBench) -> None:
    now = 0.0
    loop = CuratorLoop(bench.curator, FakeLeaseClient(), 0.01, WITHOUT_JITTER, lambda: now)
    loop.holder.lease = bench.lease
    waits = []
    for trouble in (*[StoreUnavailable("away")] * 8, None, StoreUnavailable("away again")):
        bench.rules.trouble = trouble
        loop.work()
        assert reported_trouble(loop) == str(trouble or "")
        if trouble is None:
            continue
        waits.append(loop._due_at - now)
        bench.rules.trouble = ZeroDivisionError("tried before it was due")
        loop.work()
        assert reported_trouble(loop) == str(trouble)
        now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 1]


def test_the_loop_drops_a_lease_that_a_tick_finds_lost(bench: CuratorBench) -> None:
    loop = CuratorLoop(bench.curator, FakeLeaseClient(), 0.01)
    loop.holder.lease = Lease(bench.lease.token - 1, "before", START)
    loop.work()
    assert (current_lease(loop.holder), reported_trouble(loop)) == (None, "")


def test_one_of_two_loops_works_and_the_other_takes_over_when_it_ends(
    bench: CuratorBench, start: Callable[[str], CuratorLoop]
) -> None:
    bench.work_until(1)
    assert return_lease(bench.database, bench.lease)
    alone = threading.active_count()
    one, other = start("one"), start("other")
    with other, one:
        eventually(lambda: one.holder.lease or other.holder.lease)
        # a loop that checks for the first time only now may find the lease expired
        bench.now = START.replace(hour=9, minute=5)
        eventually(lambda: len(ticks(bench)) == 9)
        eventually(lambda: (one.holder.lease is None) != (other.holder.lease is None))
        first, second = (one, other) if one.holder.lease else (other, one)
        assert one.trouble is other.trouble is None
        first.end()
        eventually(lambda: second.holder.lease)
        bench.now = START.replace(hour=12, minute=5)
        eventually(lambda: len(ticks(bench)) == 12)
    assert threading.active_count() <= alone
    assert {token for _, token in ticks(bench)[-3:]} != {token for _, token in ticks(bench)[:9]}
    moved = pool_changes(bench.database)
    assert len(moved) == len({(*each, n) for n, each in enumerate(moved)})


def ticks(bench: CuratorBench) -> list[tuple[int, int]]:
    """The processed hours with the fencing token of each."""
    with bench.database.connect() as connection:
        rows = connection.execute(curator_tick.select().order_by("hour")).all()
    return [(row.hour, row.token) for row in rows]
