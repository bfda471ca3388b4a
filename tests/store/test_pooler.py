"""Behind a pooler in transaction mode, the documented option makes everything work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import Engine, text
from tests.support.curated_pool import START, CuratorBench, import_observations
from tests.support.decision_rows import BEGIN, SPAN
from tests.support.decision_streams import Stream, make_rows, ship
from tests.support.transaction_pooler import transaction_pooler

from assay.curator.lease import RowLeaseClient
from assay.decision_log.queries import list_decisions
from assay.engine.errors import StoreUnavailable
from assay.store.database import open_database, reading
from assay.store.snapshots import latest_published


@pytest.fixture
def backend() -> str:
    return "postgresql"


@pytest.fixture
def pooled_url(database_url: str) -> Iterator[str]:
    # The path of a Unix socket is short.
    with TemporaryDirectory() as folder, transaction_pooler(database_url, Path(folder)) as url:
        yield url


@pytest.fixture
def clients(pooled_url: str) -> Iterator[list[Engine]]:
    """Two processes' connections to the pooler, with the documented option."""
    databases = [open_database(f"{pooled_url}&prepare_threshold=0") for _ in range(2)]
    yield databases
    for database in databases:
        database.dispose()


def test_without_the_option_prepared_statements_of_others_are_in_the_way(pooled_url: str) -> None:
    databases = [open_database(f"{pooled_url}&prepare_threshold=1") for _ in range(2)]

    def read_often() -> None:
        for number in range(40):
            with reading(databases[number % 2]) as connection:
                connection.scalar(text(f"SELECT {number % 3}"))

    with pytest.raises(StoreUnavailable, match="prepared statement"):
        read_often()
    for database in databases:
        database.dispose()


def test_each_transaction_has_its_limits_and_its_isolation(clients: list[Engine]) -> None:
    for number in range(40):
        with reading(clients[number % 2]) as connection:
            found = [
                connection.scalar(text(f"SHOW {name}"))
                for name in ("statement_timeout", "lock_timeout", "transaction_isolation")
            ]
            assert found == ["15s", "10s", "repeatable read"]


def test_curating_shipping_and_reading_work(clients: list[Engine]) -> None:
    one, other = clients
    import_observations(one)
    bench = CuratorBench(one)
    bench.work_until(1)
    bench.work_until(4)
    publication = latest_published(other)
    assert publication is not None
    assert publication.sequence == 4
    ship(other, Stream(), make_rows(200), batch=50)
    assert len(list_decisions(one, None, since=BEGIN, until=BEGIN + SPAN, limit=300)) > 100


def test_one_of_two_curators_holds_the_lease(clients: list[Engine]) -> None:
    one, other = (RowLeaseClient(each, str(id(each)), lambda: START) for each in clients)
    lease = one.acquire()
    assert lease is not None
    assert other.acquire() is None
    assert one.renew(lease)
    one.release(lease)
    assert other.acquire() is not None
