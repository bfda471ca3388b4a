"""Access to the database.

Opens it by URL, reads one consistent state, writes one transaction, and translates errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import URL, Connection, Engine, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    OperationalError,
    StatementError,
    TimeoutError as PoolTimeout,
)

from assay.engine.errors import BadData, StoreUnavailable, quoted
from assay.store.sqlite import open_sqlite, require_same_file
from assay.store.time_limits import OPTION, PATIENT, TimeLimits, WaitCeiling

_WRITE_LOCK = 0x41_73_73_61_79  # "Assay": the advisory lock of PostgreSQL's exclusive writers
_CEILING: Final = "assay_ceiling"
_UNSTORABLE = (DataError, OverflowError, UnicodeError)  # out of range, NUL or a lone surrogate
_EXPECTED = "expected sqlite:///PATH or postgresql://USER@HOST/DATABASE"
_LIMITS: Final = {
    "55P03": "gave up waiting for a lock that another session holds",
    "57014": "stopped a statement that took too long",
    "25P03": "stopped a transaction that stood still for too long",
}
"""What PostgreSQL's codes mean when one of our limits was reached."""


class DatabaseUnreachable(StoreUnavailable):
    """The database does not answer; it may be back later."""


def open_database(url: str, *, create: bool = True) -> Engine:
    """Open a database by its URL and check that it answers.

    With `create`, a SQLite file that does not exist is created. Raises StoreUnavailable.
    """
    database = prepare_database(url, create=create)
    try:
        check_connection(database)
    except StoreUnavailable:
        database.dispose()
        raise
    return database


def prepare_database(url: str, *, create: bool = True) -> Engine:
    """Return a database without connecting to it; raises StoreUnavailable for an invalid URL."""
    parsed, ceiling = _parse_url(url), WaitCeiling()
    try:
        if parsed.get_backend_name() == "sqlite":
            database = open_sqlite(parsed, ceiling, create=create)
        else:
            database = _open_postgresql(parsed, ceiling)
    except OSError as error:
        message = f"database {masked(parsed)}: {error.strerror or error}"
        raise StoreUnavailable(message) from error
    database.update_execution_options(**{_CEILING: ceiling})
    return database


def _open_postgresql(url: URL, ceiling: WaitCeiling) -> Engine:
    from assay.store.postgresql import (  # noqa: PLC0415 - psycopg, a slow import (0.2 s)
        InvalidOption,
        open_postgresql,
    )

    try:
        return open_postgresql(url, ceiling)
    except InvalidOption as error:
        raise StoreUnavailable(f"database {masked(url)}: {error}") from error


def check_connection(database: Engine) -> None:
    """Raise StoreUnavailable unless the database answers."""
    with reading(database) as connection:
        connection.execute(text("SELECT 1"))


def with_limits(database: Engine, limits: TimeLimits = PATIENT) -> Engine:
    """Return the same database, with the same connections and other limits of time."""
    return database.execution_options(**{OPTION: limits})


def end_waits(database: Engine, seconds: float) -> None:
    """Let no connection wait longer than this from now on, not even those that wait already."""
    ceiling: WaitCeiling | None = database.get_execution_options().get(_CEILING)
    if ceiling is not None:
        ceiling.seconds = seconds


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
        require_same_file(connection)


@contextmanager
def translate_errors(database: Engine) -> Iterator[None]:
    """Turn the driver's errors into one line that names the database without its password."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if not isinstance(error, _UNSTORABLE):
            message = f"database {masked(database.url)}: {_cause_of(error)}"
            raise _kind_of(error)(message) from error
        raise BadData(f"a value cannot be stored: {_cause_of(error)}") from error
    except (*_UNSTORABLE, StatementError) as error:  # rejected before it reached the database
        raise BadData(f"a value cannot be stored: {_cause_of(error)}") from error


def _kind_of(error: Exception) -> type[StoreUnavailable]:
    """Return DatabaseUnreachable if no server or file answered, as opposed to an error it sent."""
    is_silent = getattr(getattr(error, "orig", None), "sqlstate", None) is None
    is_lost = isinstance(error, (OperationalError, PoolTimeout)) and is_silent
    return DatabaseUnreachable if is_lost else StoreUnavailable


def _cause_of(error: Exception) -> str:
    """Return the driver's first line; SQLAlchemy's text would show the statement and its values."""
    cause = getattr(error, "orig", None) or error
    line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
    limit = _LIMITS.get(getattr(cause, "sqlstate", None) or "")
    return line if limit is None else f"{limit}: {line}"
