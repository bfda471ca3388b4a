"""The way to the database: open it by URL, read one state, write one transaction; its errors become ours here."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    StatementError,
    TimeoutError as PoolTimeout,
)

from assay.engine.errors import BadData, StoreUnavailable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY_TIMEOUT_S = 10
CONNECT_TIMEOUT_S = 10
WRITE_LOCK = (
    0x41_73_73_61_79  # "Assay": the advisory lock that makes world writes on PostgreSQL take turns
)
UNSTORABLE = (
    DataError,
    OverflowError,
    UnicodeError,
)  # out of range, NUL or half a surrogate pair in a name
SQLITE_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a committed row may be the only copy: the journal deletes what was shipped
    "PRAGMA foreign_keys = ON",
)


def open_database(url: str) -> Engine:
    """Open the database that `url` names (`sqlite:///PATH` or `postgresql://…`) and see that it answers."""
    parsed = parse(url)
    database = (
        open_sqlite(parsed) if parsed.get_backend_name() == "sqlite" else open_postgresql(parsed)
    )
    try:
        with reading(database) as connection:
            connection.execute(text("SELECT 1"))
    except StoreUnavailable:
        database.dispose()
        raise
    return database


def parse(url: str) -> URL:
    """Read the URL, with psycopg 3 as PostgreSQL's driver."""
    expected = "expected sqlite:///PATH or postgresql://USER@HOST/DATABASE"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        message = (
            f"the database URL cannot be read, {expected}"  # not quoted: it may hold a password
        )
        raise StoreUnavailable(message) from error
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    known = {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}
    if parsed.drivername not in known:
        message = f"database {masked(parsed)}: unknown kind {quoted(parsed.drivername)}, {expected}"
        raise StoreUnavailable(message)
    if parsed.get_backend_name() == "sqlite" and parsed.query:
        message = f"database {masked(parsed)}: SQLite takes no options after `?`, {expected}"
        raise StoreUnavailable(message)
    if parsed.get_backend_name() == "sqlite" and parsed.database in {None, "", ":memory:"}:
        message = f"database {masked(parsed)}: a file is needed, {expected}"
        raise StoreUnavailable(message)
    return parsed


def masked(url: URL) -> str:
    """Show a URL without its secrets."""
    secret = {key: "***" for key in url.query if "password" in key.lower()}
    return url.update_query_dict(secret).render_as_string(hide_password=True).replace("%2A", "*")


def open_sqlite(url: URL) -> Engine:
    """Open a SQLite file, making its directory; writers take their lock at the start."""
    try:
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"database {masked(url)}: {error.strerror or error}"
        raise StoreUnavailable(message) from error
    database = create_engine(url)
    event.listen(database, "connect", prepare_sqlite)
    event.listen(database, "begin", begin_sqlite)
    return database


def prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection
    """Set a new connection up; the driver must not begin transactions on its own."""
    connection.isolation_level = None
    for pragma in SQLITE_PRAGMAS:
        connection.execute(pragma)


def begin_sqlite(connection: Connection) -> None:
    """Begin: writers at once with the write lock, so that none fails half-way for having read first."""
    writes = connection.get_execution_options().get("assay_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def open_postgresql(url: URL) -> Engine:
    """Open PostgreSQL through psycopg 3; a connection that died in the pool is replaced before use."""
    defaults = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "assay"}
    arguments = {key: value for key, value in defaults.items() if key not in url.query}
    return create_engine(url, pool_pre_ping=True, connect_args=arguments)


@contextmanager
def reading(database: Engine) -> Iterator[Connection]:
    """Read one consistent state, however many statements it takes."""
    with translated(database), database.connect() as connection:
        if database.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextmanager
def writing(database: Engine) -> Iterator[Connection]:
    """Write one transaction, one writer at a time: all of it or nothing."""
    with translated(database), database.connect() as connection:
        connection.execution_options(assay_writes=True)
        with connection.begin():
            if database.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})
            yield connection


@contextmanager
def writing_concurrently(database: Engine) -> Iterator[Connection]:
    """Open one write transaction that, on PostgreSQL, does not wait for imports or other writers."""
    with database.connect() as connection:
        connection.execution_options(assay_writes=True)
        with connection.begin():
            yield connection


@contextmanager
def translated(database: Engine) -> Iterator[None]:
    """Turn the driver's errors into one line that names the database, never its password."""
    try:
        yield
    except UNSTORABLE as error:
        message = f"a value cannot be stored: {cause_of(error)}"
        raise BadData(message) from error
    except (DBAPIError, PoolTimeout) as error:
        message = f"database {masked(database.url)}: {cause_of(error)}"
        raise StoreUnavailable(message) from error
    except (
        StatementError
    ) as error:  # not the database's own: a value that its column's type refused
        message = f"a value cannot be stored: {cause_of(error)}"
        raise BadData(message) from error


def cause_of(error: Exception) -> str:
    """Say in one line what lies behind SQLAlchemy's error, which would show the statement and its values."""
    cause = getattr(error, "orig", None) or error
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)
