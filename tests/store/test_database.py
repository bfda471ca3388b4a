"""Access to the database: URLs, errors without passwords, transactions and stored values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select, text

from assay.engine.errors import BadData, StoreUnavailable
from assay.store.database import open_database, reading, writing
from assay.store.tables import provider

NOON = datetime(2026, 7, 4, 12, 0, 0, 123456, tzinfo=UTC)


def test_sqlite_creates_its_directory_and_is_set_up_for_concurrent_readers(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/a/b/assay.db")
    with reading(database) as connection:
        names = ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        found = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in names]
    database.dispose()
    assert found == ["wal", 1, 10_000, 2]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param(
            "postgresql://u:secret@127.0.0.1:1/d", "u:***@127.0.0.1:1/d: ", id="no server"
        ),
        pytest.param(
            "postgresql://127.0.0.1:1/d?user=u&password=secret",
            "password=***",
            id="password as a parameter",
        ),
        pytest.param(
            "mysql://u:secret@h/d",
            "unknown kind 'mysql', expected sqlite:///PATH or",
            id="unknown kind",
        ),
        pytest.param(
            "postgresql+psycopg2://u:secret@h/d",
            "unknown kind 'postgresql+psycopg2'",
            id="other driver",
        ),
        pytest.param("sqlite://", "SQLite needs a file", id="in memory"),
        pytest.param("sqlite:///x.db?timeout=x", "SQLite has no options after `?`", id="options"),
        pytest.param("sqlite:////dev/null/x/secret.db", "Not a directory", id="no directory"),
        pytest.param("sqlite:////proc/assay.db", "unable to open database file", id="no file"),
        pytest.param("u:secret@h", "the database URL is not valid, expected", id="no URL"),
        pytest.param(
            "postgresql://u:secret@h:port/d",
            "the database URL is not valid, expected",
            id="no port",
        ),
        pytest.param("", "the database URL is not valid, expected", id="empty text"),
    ],
)
def test_a_database_that_cannot_be_opened_is_reported_in_one_line(url: str, message: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        open_database(url)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value).replace("secret.db", "")


def test_a_file_that_is_not_a_database_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "assay.db"
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        open_database(f"sqlite:///{path}")


def test_a_failed_transaction_leaves_nothing(store: Engine) -> None:
    def write_and_fail() -> None:
        with writing(store) as connection:
            connection.execute(insert(provider), {"provider": "deepinfra", "created_at": NOON})
            raise InterruptedError

    with pytest.raises(InterruptedError):
        write_and_fail()
    with reading(store) as connection:
        assert connection.execute(select(provider)).all() == []


def test_a_reader_sees_one_state_during_concurrent_writes(store: Engine) -> None:
    with reading(store) as before:
        assert before.execute(select(provider)).all() == []
        with writing(store) as connection:
            connection.execute(insert(provider), {"provider": "deepinfra", "created_at": NOON})
        assert before.execute(select(provider)).all() == []


@pytest.mark.parametrize(
    "instant",
    [
        pytest.param(NOON, id="microseconds"),
        pytest.param(NOON.astimezone(timezone(timedelta(hours=5, minutes=30))), id="another zone"),
        pytest.param(datetime(1, 1, 1, tzinfo=UTC), id="first"),
        pytest.param(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), id="last"),
    ],
)
def test_instants_are_read_back_equal_and_in_utc(store: Engine, instant: datetime) -> None:
    with writing(store) as connection:
        connection.execute(insert(provider), {"provider": "deepinfra", "created_at": instant})
    with reading(store) as connection:
        found = connection.execute(select(provider.c.created_at)).scalar_one()
    assert found == instant
    assert found.tzinfo is UTC


def test_an_instant_without_a_zone_is_rejected(store: Engine) -> None:
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(BadData, match="time without a zone"), writing(store) as connection:
        connection.execute(insert(provider), {"provider": "deepinfra", "created_at": naive})


@pytest.mark.parametrize("name", [pytest.param("\ud83d", id="half a surrogate pair")])
def test_text_that_cannot_be_stored_is_bad_data(store: Engine, name: str) -> None:
    with pytest.raises(BadData, match="a value cannot be stored"), writing(store) as connection:
        connection.execute(insert(provider), {"provider": name, "created_at": NOON})


def test_names_sort_by_code_point(store: Engine) -> None:
    names = ["B", "Z", "_", "a", "a/b", "a-b", "é", "\U00010000"]
    with writing(store) as connection:
        connection.execute(
            insert(provider), [{"provider": name, "created_at": NOON} for name in names]
        )
    with reading(store) as connection:
        found = (
            connection.execute(select(provider.c.provider).order_by(provider.c.provider))
            .scalars()
            .all()
        )
    assert found == sorted(names)
