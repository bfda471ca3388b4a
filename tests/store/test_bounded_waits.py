"""No wait for the database is endless, whatever stands still: a server, a writer, a lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import Connection, Engine, insert, select, text
from sqlalchemy.exc import DBAPIError
from tests.support.databases import create_database, execute, migrate_all, running_postgresql
from tests.support.suspended_postgresql import suspended_postgresql
from tests.support.waiting import eventually

from assay.engine.errors import StoreUnavailable
from assay.store.database import (
    DatabaseUnreachable,
    end_waits,
    open_database,
    reading,
    with_limits,
    writing,
    writing_concurrently,
)
from assay.store.postgresql import WatchedConnection
from assay.store.tables import provider
from assay.store.time_limits import PATIENT, SERVING

SHORT = replace(SERVING, statement=0.5, lock=0.3, idle=0.3, idle_reader=0.3)
ONLY_POSTGRESQL = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@pytest.fixture
def own_server() -> Iterator[str]:
    """A migrated database on a server that the test may stop."""
    with running_postgresql() as postgresql:
        url = create_database(postgresql.url, "stopped")
        migrate_all(url)
        yield url


def test_a_server_that_stands_still_is_an_error_within_seconds_and_is_used_again(
    own_server: str,
) -> None:
    database = open_database(own_server)
    with suspended_postgresql(own_server):
        with pytest.raises(DatabaseUnreachable), reading(database) as connection:
            connection.execute(select(provider))
        end_waits(database, 0.5)
        with pytest.raises(DatabaseUnreachable), reading(database) as connection:
            connection.execute(select(provider))
    end_waits(database, 60.0)
    with reading(database) as connection:
        assert connection.execute(select(provider)).all() == []
    database.dispose()


def test_a_process_that_stops_ends_a_wait_that_has_already_begun(own_server: str) -> None:
    database = open_database(own_server)
    failures: list[Exception] = []

    def wait() -> None:
        try:
            with reading(database) as connection:
                connection.execute(text("SELECT pg_sleep(60)"))
        except StoreUnavailable as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    with psycopg.connect(own_server, autocommit=True) as other:
        eventually(lambda: other.execute(sleeping).fetchone(), lambda row: row == (1,))
    end_waits(database, 0.2)
    thread.join()
    assert "the server has not answered" in str(failures[0])
    database.dispose()


Hold = Callable[[Engine], AbstractContextManager[Connection]]


@ONLY_POSTGRESQL
@pytest.mark.parametrize("hold", [writing, writing_concurrently])
def test_a_writer_that_stands_still_loses_its_transaction_and_blocks_others_for_seconds_only(
    store: Engine, hold: Hold
) -> None:
    impatient = with_limits(store, SHORT)
    row = {"provider": "held", "created_at": text("now()")}

    def stand_still() -> None:
        with hold(impatient) as connection:
            connection.execute(insert(provider).values(**row))
            eventually(lambda: _sessions(store, "idle in transaction") == 0)
            connection.execute(select(provider))

    with pytest.raises((StoreUnavailable, DBAPIError), match="idle-in-transaction"):
        stand_still()
    with writing(store) as connection:
        connection.execute(insert(provider).values(**row))


def _sessions(database: Engine, state: str) -> int:
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = :s"
    )
    with reading(database) as connection:
        return int(connection.scalar(text(query), {"s": state}) or 0)


@ONLY_POSTGRESQL
def test_a_writer_waits_for_another_only_for_the_stated_time(store: Engine) -> None:
    impatient = with_limits(store, SHORT)
    with (
        writing(store),
        pytest.raises(StoreUnavailable, match="gave up waiting for a lock that another session"),
        writing(impatient),
    ):
        pass


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_process_that_stops_waits_no_longer_for_the_write_lock_of_sqlite(store: Engine) -> None:
    other = open_database(store.url.render_as_string(hide_password=False))
    end_waits(other, 0.0)
    with writing(store), pytest.raises(StoreUnavailable, match="locked"), writing(other):
        pass
    other.dispose()


@ONLY_POSTGRESQL
def test_a_statement_that_takes_too_long_is_stopped_by_the_server(store: Engine) -> None:
    with (
        pytest.raises(StoreUnavailable, match="stopped a statement that took too long"),
        reading(with_limits(store, SHORT)) as connection,
    ):
        connection.execute(text("SELECT pg_sleep(60)"))


@ONLY_POSTGRESQL
@pytest.mark.parametrize("options", ["", "?prepare_threshold=0"])
def test_every_transaction_has_limits_also_behind_a_pooler_that_loses_those_of_a_session(
    database_url: str, options: str
) -> None:
    joined = f"{database_url}&{options[1:]}" if "?" in database_url else database_url + options
    database = open_database(joined)
    assert _limits(database) == ["15s", "10s", "8s"]
    assert _limits(with_limits(database, PATIENT)) == ["2min", "10s", "5min"]
    if options:
        execute(database_url, f"ALTER DATABASE {database.url.database} SET lock_timeout = 0")
        database.dispose()
        assert _limits(database) == ["15s", "10s", "8s"]
        execute(database_url, f"ALTER DATABASE {database.url.database} RESET lock_timeout")
    database.dispose()


def _limits(database: Engine) -> list[str]:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    with reading(database) as connection:
        return [str(connection.scalar(text(f"SHOW {name}"))) for name in names]


@ONLY_POSTGRESQL
def test_progress_is_not_silence(store: Engine) -> None:
    """Many statements in one pipeline may take longer together than one may."""
    with writing(store) as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, WatchedConnection)
        driver.silence_s = 0.4
        started = time.monotonic()
        with driver.cursor() as cursor:
            # The answers of a pipeline are sent once they fill a buffer.
            query = "SELECT pg_sleep(%s), repeat('x', 10000)"
            cursor.executemany(query, [(0.05,)] * 20)
        assert time.monotonic() - started > driver.silence_s
