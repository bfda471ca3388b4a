"""One process holds the lease; failover takes seconds, and a process without it cannot commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, create_engine
from tests.support.curated_pool import START

from assay.curator.lease import LIFETIME, LeaseClient, RowLeaseClient
from assay.engine.errors import StoreUnavailable
from assay.store.database import open_database, writing
from assay.store.lease import Lease, LeaseLost, read_lease, require_lease


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
    databases: list[Engine] = []

    def one(holder: str) -> LeaseClient:
        databases.append(open_database(database_url))
        return RowLeaseClient(databases[-1], holder, clock, clock.steady)

    yield one
    for database in databases:
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


def test_a_clock_that_is_set_back_does_not_block_failover(
    make: Callable[[str], LeaseClient], clock: Clock
) -> None:
    one, other = make("one"), make("other")
    taken(one)
    clock.now -= timedelta(days=1)
    assert other.acquire() is None
    clock.pass_(LIFETIME)
    assert taken(other).holder == "other"


def test_an_acquired_lease_is_stored_with_token_holder_and_expiry(
    store: Engine, clock: Clock
) -> None:
    one = RowLeaseClient(store, "one", clock)
    lease = taken(one)
    assert read_lease(store) == lease
    assert (lease.token, lease.holder, lease.expires_at) == (1, "one", START + LIFETIME)
    one.release(lease)


def test_an_unreachable_database_is_an_error_and_not_a_held_lease(clock: Clock) -> None:
    database = create_engine("postgresql+psycopg://assay@127.0.0.1:1/none")
    client = RowLeaseClient(database, "one", clock)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            client.acquire()
    database.dispose()
