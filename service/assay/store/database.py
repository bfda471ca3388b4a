"""Access to the database.

Opens it by URL, reads one consistent state, writes one transaction, and translates errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    StatementError,
    TimeoutError as PoolTimeout,
)

from assay.engine.errors import BadData, StoreUnavailable, quoted

BUSY_TIMEOUT_S = 10
_CONNECT_TIMEOUT_S = 10
_WRITE_LOCK = 0x41_73_73_61_79  # "Assay": the advisory lock of PostgreSQL's exclusive writers
_UNSTORABLE = (DataError, OverflowError, UnicodeError)  # out of range, NUL or a lone surrogate
_SQLITE_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a commit is the only copy: the journal deletes shipped records
    "PRAGMA foreign_keys = ON",
)
_EXPECTED = "expected sqlite:///PATH or postgresql://USER@HOST/DATABASE"


def open_database(url: str) -> Engine:
    """Open a database by its URL and check that it answers; raise StoreUnavailable."""
    parsed = _parse_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    database = _open_sqlite(parsed) if is_sqlite else _open_postgresql(parsed)
    try:
        with reading(database) as connection:
            connection.execute(text("SELECT 1"))
    except StoreUnavailable:
        database.dispose()
        raise
    return database


def _parse_url(url: str) -> URL:
    """Parse the URL, with psycopg 3 as PostgreSQL's driver."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # not quoted: the URL may hold a password
        raise StoreUnavailable(f"the database URL is not valid, {_EXPECTED}") from error
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    fault = None
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        fault = f"unknown kind {quoted(parsed.drivername)}"
    elif parsed.get_backend_name() == "sqlite" and parsed.query:
        fault = "SQLite has no options after `?`"
    elif parsed.get_backend_name() == "sqlite" and parsed.database in {None, "", ":memory:"}:
        fault = "SQLite needs a file"
    if fault is not None:
        raise StoreUnavailable(f"database {masked(parsed)}: {fault}, {_EXPECTED}")
    return parsed


def masked(url: URL) -> str:
    """Return a URL without its secrets."""
    secret = {key: "***" for key in url.query if "password" in key.lower()}
    return url.update_query_dict(secret).render_as_string(hide_password=True).replace("%2A", "*")


def _open_sqlite(url: URL) -> Engine:
    """Open a SQLite file and create its directory."""
    try:
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"database {masked(url)}: {error.strerror or error}") from error
    database = create_engine(url)
    event.listen(database, "connect", _prepare_sqlite)
    event.listen(database, "begin", _begin_sqlite)
    return database


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection
    """Set up a new connection; the driver must not begin transactions on its own."""
    connection.isolation_level = None
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: Connection) -> None:
    """Begin: a writer takes the write lock at once, since upgrading a read lock later may fail."""
    writes = connection.get_execution_options().get("assay_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _open_postgresql(url: URL) -> Engine:
    """Open PostgreSQL; a dead connection in the pool is replaced before use."""
    defaults = {"connect_timeout": _CONNECT_TIMEOUT_S, "application_name": "assay"}
    arguments = {key: value for key, value in defaults.items() if key not in url.query}
    # INVARIANT: each statement of a writer sees what is committed, whatever the server's default.
    return create_engine(
        url, pool_pre_ping=True, connect_args=arguments, isolation_level="READ COMMITTED"
    )


@contextmanager
def reading(database: Engine) -> Iterator[Connection]:
    """Read one consistent state, in any number of statements."""
    with translate_errors(database), database.connect() as connection:
        if database.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextmanager
def writing(database: Engine) -> Iterator[Connection]:
    """Write one transaction, one writer at a time."""
    with translate_errors(database), writing_concurrently(database) as connection:
        if database.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK})
        yield connection


@contextmanager
def writing_concurrently(database: Engine) -> Iterator[Connection]:
    """Write one transaction that on PostgreSQL does not wait for other writers; errors are raw."""
    with database.connect() as connection:
        connection.execution_options(assay_writes=True)
        with connection.begin():
            yield connection


@contextmanager
def translate_errors(database: Engine) -> Iterator[None]:
    """Turn the driver's errors into one line that names the database without its password."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if not isinstance(error, _UNSTORABLE):
            message = f"database {masked(database.url)}: {_cause_of(error)}"
            raise StoreUnavailable(message) from error
        raise BadData(f"a value cannot be stored: {_cause_of(error)}") from error
    except (*_UNSTORABLE, StatementError) as error:  # rejected before it reached the database
        raise BadData(f"a value cannot be stored: {_cause_of(error)}") from error


def _cause_of(error: Exception) -> str:
    """Return the driver's first line; SQLAlchemy's text would show the statement and its values."""
    cause = getattr(error, "orig", None) or error
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)
