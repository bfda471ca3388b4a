"""One process holds the lease; failover takes seconds, and a process without it cannot commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
import pytest
from sqlalchemy import Engine, create_engine
from tests.support.curated_pool import START

from assay.curator.lease import (
    LIFETIME,
    AdvisoryLeaseClient,
    LeaseClient,
    RowLeaseClient,
    lease_client,
)
from assay.engine.errors import StoreUnavailable
from assay.store.database import open_database, writing
from assay.store.lease import Lease, LeaseLost, read_lease, require_lease

DEADLINE_S = 15.0


@dataclass
class Clock:
    """Wall clock and monotonic clock of a test, set by the test."""

    now: datetime = START
    seconds: float = 0.0

    def __call__(self) -> datetime:
        return self.now

    def steady(self) -> float:
        return self.seconds

    def pass_(self, span: timedelta) -> None:
        self.now += span
        self.seconds += span.total_seconds()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(database_url: str, clock: Clock) -> Iterator[Callable[[str], LeaseClient]]:
    """Clients of one database, each with its own connections, as separate processes have."""
    made: list[tuple[Engine, LeaseClient]] = []

    def one(holder: str) -> LeaseClient:
        database = open_database(database_url)
        sqlite = database.dialect.name == "sqlite"
        client = (
            RowLeaseClient(database, holder, clock, clock.steady)
            if sqlite
            else lease_client(database, holder, clock)
        )
        made.append((database, client))
        return client

    yield one
    for database, client in made:
        client.close()
        database.dispose()


def taken(leasing_: LeaseClient) -> Lease:
    lease = leasing_.acquire()
    assert lease is not None
    return lease


def fenced(store: Engine, lease: Lease) -> bool:
    """Whether a transaction under this lease is rejected."""
    try:
        with writing(store) as connection:
            require_lease(connection, lease)
    except LeaseLost:
        return True
    return False


def test_one_of_two_processes_holds_the_lease(
    make: Callable[[str], LeaseClient], store: Engine, clock: Clock
) -> None:
    one, other = make("one"), make("other")
    lease = taken(one)
    assert lease.holder == "one"
    for _ in range(20):
        assert other.acquire() is None
        clock.pass_(LIFETIME / 4)
        assert one.renew(lease)
    assert not fenced(store, lease)
    one.release(lease)


def test_a_released_lease_is_free_at_once(
    make: Callable[[str], LeaseClient], store: Engine
) -> None:
    one, other = make("one"), make("other")
    first = taken(one)
    one.release(first)
    assert fenced(store, first)
    second = taken(other)
    assert second.token == first.token + 1
    assert not one.renew(first)
    assert one.acquire() is None
    assert not fenced(store, second)
    other.release(second)


def test_the_former_holder_may_acquire_the_lease_again(
    make: Callable[[str], LeaseClient], store: Engine
) -> None:
    one = make("one")
    first = taken(one)
    one.release(first)
    second = taken(one)
    assert fenced(store, first)
    assert not fenced(store, second)
    one.release(second)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_lease_row_expires_unless_it_is_renewed(
    make: Callable[[str], LeaseClient], store: Engine, clock: Clock
) -> None:
    one, other = make("one"), make("other")
    lease = taken(one)
    clock.pass_(LIFETIME - timedelta(seconds=1))
    assert other.acquire() is None
    clock.pass_(timedelta(seconds=1))
    assert one.renew(lease)  # late, but no other had taken it
    clock.pass_(LIFETIME)
    second = taken(other)
    assert not one.renew(lease)
    assert fenced(store, lease)
    assert not fenced(store, second)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_clock_that_is_set_back_does_not_block_failover(
    make: Callable[[str], LeaseClient], clock: Clock
) -> None:
    one, other = make("one"), make("other")
    taken(one)
    clock.now -= timedelta(days=1)
    assert other.acquire() is None
    clock.pass_(LIFETIME)
    assert taken(other).holder == "other"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_lost_connection_releases_the_advisory_lock(
    make: Callable[[str], LeaseClient], store: Engine, database_url: str
) -> None:
    one, other = make("one"), make("other")
    lease = taken(one)
    assert other.acquire() is None
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND "
            "granted AND pid <> pg_backend_pid() AND database = (SELECT oid FROM pg_database "
            "WHERE datname = current_database())"
        )
    second = eventually(other.acquire)
    assert second.token == lease.token + 1
    assert not one.renew(lease)
    assert fenced(store, lease)
    assert one.acquire() is None
    other.release(second)
    assert (
        eventually(one.acquire).token == second.token + 1
    )  # the server releases the lock with a delay


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_the_server_disconnects_a_holder_that_hangs(
    make: Callable[[str], LeaseClient], store: Engine
) -> None:
    one, other = make("one"), make("other")
    lease = taken(one)
    started = time.monotonic()
    second = eventually(other.acquire)
    assert LIFETIME.total_seconds() - 1 < time.monotonic() - started < DEADLINE_S
    assert fenced(store, lease)
    assert not one.renew(lease)
    assert not fenced(store, second)


def eventually(acquire: Callable[[], Lease | None]) -> Lease:
    """Retry until the lease is acquired."""
    deadline = time.monotonic() + DEADLINE_S
    while (lease := acquire()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return lease


def test_an_acquired_lease_is_stored_with_token_holder_and_expiry(
    store: Engine, clock: Clock, backend: str
) -> None:
    kind = AdvisoryLeaseClient if backend == "postgresql" else RowLeaseClient
    one = kind(store, "one", clock)
    lease = taken(one)
    assert read_lease(store) == lease
    assert (lease.token, lease.holder, lease.expires_at) == (1, "one", START + LIFETIME)
    one.release(lease)


def test_an_unreachable_database_is_an_error_and_not_a_held_lease(clock: Clock) -> None:
    database = create_engine("postgresql+psycopg://assay@127.0.0.1:1/none")
    client = lease_client(database, "one", clock)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            client.acquire()
    client.close()
    database.dispose()
