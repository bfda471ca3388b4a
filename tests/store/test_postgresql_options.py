"""Options of PostgreSQL URLs have a type, and unknown ones are rejected by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, make_url, text
from tests.support.curated_pool import START
from tests.support.databases import execute
from tests.support.waiting import eventually

from assay.engine.errors import StoreUnavailable
from assay.store.database import open_database, prepare_database, reading, writing
from assay.store.lease import LeaseLost, require_lease, take_lease


@pytest.fixture
def backend() -> str:
    return "postgresql"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param("connect_timeout=abc", "option connect_timeout: 'abc', expected", id="text"),
        pytest.param("connect_timeout=0", "from 1 to 3600", id="no limit"),
        pytest.param("prepare_threshold=-1", "option prepare_threshold: '-1'", id="negative"),
        pytest.param("keepalives=yes", "option keepalives: 'yes'", id="not a number"),
        pytest.param("conect_timeout=5", "unknown option 'conect_timeout'", id="unknown"),
        pytest.param(
            "connect_timeout=5&connect_timeout=6", "given more than once", id="given twice"
        ),
    ],
)
def test_an_option_that_is_not_valid_is_rejected_by_name(options: str, message: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        prepare_database(f"postgresql://u:secret@127.0.0.1:1/d?{options}")
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("prepare_threshold=0", id="nothing prepared"),
        pytest.param("prepare_threshold=3", id="prepared later"),
        pytest.param("connect_timeout=3&keepalives_idle=5&tcp_user_timeout=9000", id="limits"),
        pytest.param("application_name=mine&target_session_attrs=read-write", id="of libpq"),
    ],
)
def test_valid_options_are_accepted(database_url: str, options: str) -> None:
    database = open_database(f"{database_url}&{options}")
    for _ in range(20):
        with reading(database) as connection:
            assert connection.scalar(text("SELECT 1")) == 1
    with reading(database) as connection:
        count = "SELECT count(*) > 0 FROM pg_prepared_statements"
        is_prepared = connection.scalar(text(count))
        name = connection.scalar(text("SHOW application_name"))
    if "prepare_threshold" in options:
        assert is_prepared == (not options.endswith("=0"))
    assert name == ("mine" if "mine" in options else "assay")
    database.dispose()


@pytest.fixture
def repeatable_read(database_url: str) -> Iterator[Engine]:
    """A database whose transactions are REPEATABLE READ unless they say otherwise."""
    name = make_url(database_url).database
    setting = "default_transaction_isolation"
    execute(database_url, f"ALTER DATABASE {name} SET {setting} = 'repeatable read'")
    database = open_database(database_url)
    yield database
    database.dispose()
    execute(database_url, f"ALTER DATABASE {name} RESET {setting}")


def test_a_writer_that_waited_notices_that_it_lost_the_lease_meanwhile(
    repeatable_read: Engine,
) -> None:
    lease = take_lease(repeatable_read, "one", START, seen=None)
    assert lease is not None
    errors: list[LeaseLost] = []

    def write() -> None:
        try:
            with writing(repeatable_read) as connection:
                require_lease(connection, lease)
        except LeaseLost as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    with writing(repeatable_read) as other:
        thread.start()
        eventually(lambda: _waiting_for_lock(repeatable_read))
        other.execute(text("UPDATE curator_lease SET token = token + 1"))
    thread.join()
    assert [error.token for error in errors] == [lease.token]


def _waiting_for_lock(database: Engine) -> bool:
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with reading(database) as connection:
        return bool(connection.scalar(text(query)))
