"""Load while the database is away."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path

import grpc
from tests.support.databases import create_database, migrate_all, running_postgresql
from tests.support.decide_load import (
    Answers,
    assert_complete,
    import_small_catalog,
    load,
    ship_and_read_log,
)
from tests.support.processes import serving_journal
from tests.support.server_calls import health_status
from tests.support.waiting import eventually

AT_LEAST = 200


def hold_out(channel: grpc.Channel, answered: Answers, seconds: float) -> None:
    """Wait until health reports the outage, more answers came, and the time is over."""
    end = time.monotonic() + seconds
    eventually(lambda: health_status(channel, "assay.store") == "NOT_SERVING")
    assert health_status(channel, "assay.v1.RoutingService") == "SERVING"
    before = len(answered.ids)
    eventually(lambda: len(answered.ids) >= before + AT_LEAST and time.monotonic() >= end)


def decide_while_postgresql_is_stopped(folder: Path, *, seconds: float) -> None:
    """Stop PostgreSQL under load and start it again: no Decide fails, no decision is lost."""
    answered, journal = Answers(), folder / "journal"
    with running_postgresql() as postgresql:
        url = create_database(postgresql.url, "outage")
        migrate_all(url)
        import_small_catalog(url, folder)
        with serving_journal(url, journal) as server, server.channel() as channel:
            with load(server, answered, seed=1):
                answered.wait_for(AT_LEAST)
                postgresql.stop_immediately()
                hold_out(channel, answered, seconds)
                postgresql.start()
                eventually(lambda: health_status(channel, "assay.store") == "SERVING")
                answered.wait_for(len(answered.ids) + AT_LEAST)
            assert server.stop() == 0
        assert answered.failures == []
        assert_complete(ship_and_read_log(url, journal), answered)


def decide_while_sqlite_is_locked(template: Path, folder: Path, *, seconds: float) -> None:
    """Lock SQLite against writers under load: no Decide fails, no decision is lost."""
    answered, journal, path = Answers(), folder / "journal", folder / "assay.db"
    shutil.copyfile(template, path)
    url = f"sqlite:///{path}"
    import_small_catalog(url, folder)
    other = sqlite3.connect(path, isolation_level=None, timeout=60)
    with serving_journal(url, journal) as server, server.channel() as channel:
        with load(server, answered, seed=2):
            answered.wait_for(AT_LEAST)
            other.execute("BEGIN EXCLUSIVE")
            hold_out(channel, answered, seconds)
            other.execute("ROLLBACK")
            eventually(lambda: health_status(channel, "assay.store") == "SERVING")
        assert server.stop() == 0
    other.close()
    assert answered.failures == []
    assert_complete(ship_and_read_log(url, journal), answered)
