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
    """Wall and steady clock of a test, moved by hand."""

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
    """Curators of one database, each with an engine of its own as processes have."""
    made: list[tuple[Engine, LeaseClient]] = []

    def one(holder: str) -> LeaseClient:
        database = open_database(database_url)
        sqlite = database.dialect.name == "sqlite"
        way = (
            RowLeaseClient(database, holder, clock, clock.steady)
            if sqlite
            else lease_client(database, holder, clock)
        )
        made.append((database, way))
        return way

    yield one
    for database, way in made:
        way.close()
        database.dispose()


def taken(leasing_: LeaseClient) -> Lease:
    lease = leasing_.acquire()
    assert lease is not None
    return lease


def fenced(store: Engine, lease: Lease) -> bool:
    """Whether a transaction under this lease is refused."""
    try:
        with writing(store) as connection:
            require_lease(connection, lease)
    except LeaseLost:
        return True
    return False


def test_one_of_two_has_it(make: Callable[[str], LeaseClient], store: Engine, clock: Clock) -> None:
    one, other = make("one"), make("other")
    lease = taken(one)
    assert lease.holder == "one"
    for _ in range(20):
        assert other.acquire() is None
        clock.pass_(LIFETIME / 4)
        assert one.renew(lease)
    assert not fenced(store, lease)
    one.release(lease)


def test_given_back_it_is_the_others_at_once(
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


def test_the_same_one_may_take_it_again(make: Callable[[str], LeaseClient], store: Engine) -> None:
    one = make("one")
    first = taken(one)
    one.release(first)
    second = taken(one)
    assert fenced(store, first)
    assert not fenced(store, second)
    one.release(second)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_row_that_is_not_renewed_runs_out(
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
def test_a_clock_that_was_set_back_holds_nobody_up(
    make: Callable[[str], LeaseClient], clock: Clock
) -> None:
    one, other = make("one"), make("other")
    taken(one)
    clock.now -= timedelta(days=1)
    assert other.acquire() is None
    clock.pass_(LIFETIME)
    assert taken(other).holder == "other"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_the_lock_goes_with_its_connection(
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
    assert eventually(one.acquire).token == second.token + 1  # the server lets go in its own time


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_the_server_hangs_up_on_a_holder_that_stands_still(
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
    """Try until it is to be had."""
    deadline = time.monotonic() + DEADLINE_S
    while (lease := acquire()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return lease


def test_nobody_takes_what_changed_meanwhile(store: Engine, clock: Clock, backend: str) -> None:
    kind = AdvisoryLeaseClient if backend == "postgresql" else RowLeaseClient
    one = kind(store, "one", clock)
    lease = taken(one)
    assert read_lease(store) == lease
    assert (lease.token, lease.holder, lease.expires_at) == (1, "one", START + LIFETIME)
    one.release(lease)


def test_a_failing_lease_is_an_error_and_not_held_by_another(clock: Clock) -> None:
    database = create_engine("postgresql+psycopg://assay@127.0.0.1:1/none")
    client = lease_client(database, "one", clock)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            client.acquire()
    client.close()
    database.dispose()
