"""Database fixtures: a test that asks for one runs on SQLite and on PostgreSQL, each time empty."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine
from tests.support.databases import (
    MIGRATIONS,
    NO_DURABILITY,
    DatabasePool,
    NewDatabase,
    execute,
    migrate_all,
    running_postgresql,
)

from assay.store.database import open_database

# Tests start processes while threads of gRPC run; its fork handlers have crashed the process.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
# The duration of an example depends on the machine's load, not on the code.
settings.register_profile("assay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("assay")


@pytest.fixture(scope="session")
def migrations() -> Path:
    return MIGRATIONS


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a server for this process; each xdist worker has its own."""
    with running_postgresql() as server:
        alter = (f"ALTER SYSTEM SET {setting}" for setting in NO_DURABILITY)
        execute(server.url, *alter, "SELECT pg_reload_conf()")
        yield server.url


@pytest.fixture(scope="session")
def migrated_databases(postgresql_server: str) -> DatabasePool:
    return DatabasePool(postgresql_server, migrated=True)


@pytest.fixture(scope="session")
def empty_databases(postgresql_server: str) -> DatabasePool:
    return DatabasePool(postgresql_server, migrated=False)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "assay.db"
    migrate_all(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database that this run of the test uses."""
    return str(request.param)


@pytest.fixture
def new_database(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> NewDatabase:
    """A factory of migrated, empty databases."""
    if backend == "postgresql":
        databases: DatabasePool = request.getfixturevalue("migrated_databases")
        return databases.lend
    template: Path = request.getfixturevalue("sqlite_template")
    numbers = count()

    @contextmanager
    def copy_template() -> Iterator[str]:
        path = tmp_path / f"assay{next(numbers)}.db"
        shutil.copyfile(template, path)
        yield f"sqlite:///{path}"

    return copy_template


@pytest.fixture
def database_url(new_database: NewDatabase) -> Iterator[str]:
    """A migrated, empty database."""
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
        databases: DatabasePool = request.getfixturevalue("empty_databases")
        with databases.lend() as url:
            yield url


@pytest.fixture
def store(database_url: str) -> Iterator[Engine]:
    """An open, migrated, empty database."""
    database = open_database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def logging_of_every_level() -> Iterator[None]:
    """Undo for a while what commands in this process have configured."""
    configured = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**configured)
