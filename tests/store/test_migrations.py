"""Migrations: they run up and down, are atomic, and create the tables declared in code."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from tests.support.decision_rows import BEGIN, SPAN
from tests.support.decision_streams import STREAM, Stream, make_rows, make_sink, ship

from assay.decision_log.queries import list_decisions
from assay.decision_log.schema import metadata
from assay.decision_log.streams import records
from assay.engine.errors import StoreUnavailable
from assay.store.database import open_database, reading, with_limits, writing
from assay.store.migration import alembic_config, migrate
from assay.store.schema_version import require_current
from assay.store.time_limits import MIGRATING

HEAD = "0010"
DIGESTS = {
    "0001_catalog_evidence_snapshots.py": (
        "34d852bd1b31b1224b683bdc1e42a85bb8665abe6af629fc832ad81c6072e986"
    ),
    "0002_decision_log.py": "0ea2cdd5f466325d8ca33f61b74de1a04ddb9b666018658255c18644bcfd5b27",
    "0003_benchmarks.py": "7f8fe0def8f5ca643f4c408ecf3182e1b9d950d20012ced57270d8f84c9f9d04",
    "0004_evidence.py": "56f2d917a0fc582b4b98129c56adcc269a0e56c6b3b20b506bccf757852d2c2b",
    "0005_pools.py": "3a3bce1b6ed71c492332da96d4a7ce19e7053d288c751cfc6a0261078afd0474",
    "0006_outcome_matching.py": (
        "0a8f82e8ef85f6008b99946d41c56cbdce218e22d03811390e6369b2ad816a1d"
    ),
    "0007_capabilities.py": "dfd14205794e6bdf1741ad4c2a277c0d7e062aa6533cf30e9f461d881aa229ef",
    "0008_late_evidence.py": "b170a6a7c099ba261e5240a99a87ace3505edef8e5ab81d094277ba52aff34df",
    "0009_attempts.py": "50fd33127f7496aae156e37c2152f12c4209928562690c583ba81c499317323f",
    "0010_alarms.py": "de37efd736d3e0e405690d120ad58ba768f5d54da0321213125a1a8fb15d5f9a",
}
"""SHA-256 of every released migration; databases have run it in this form."""


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Engine]:
    database = open_database(empty_database_url)
    yield database
    database.dispose()


def tables_of(database: Engine) -> set[str]:
    return set(inspect(database).get_table_names()) - {"alembic_version"}


def test_migrations_run_up_and_down_and_up_again(empty: Engine, migrations: Path) -> None:
    assert migrate(empty, migrations) == (None, HEAD)
    assert tables_of(empty) == set(metadata.tables)
    assert migrate(empty, migrations) == (HEAD, HEAD)
    assert migrate(empty, migrations, "base") == (HEAD, None)
    assert tables_of(empty) == set()
    assert migrate(empty, migrations) == (None, HEAD)


def test_a_released_migration_is_never_edited(migrations: Path) -> None:
    files = sorted((migrations / "versions").glob("*.py"))
    assert {file.name: sha256(file.read_bytes()).hexdigest() for file in files} == DIGESTS


def test_the_migrations_create_the_tables_declared_in_code(store: Engine) -> None:
    with reading(store) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "target_metadata": metadata}
        )
        assert compare_metadata(context, metadata) == []


def test_a_failing_migration_leaves_nothing(empty: Engine, migrations: Path) -> None:
    with writing(empty) as connection:
        connection.execute(
            text("CREATE TABLE publication (x INTEGER)")
        )  # in the way of the last table of the first
    with pytest.raises(StoreUnavailable, match="already exists"):
        migrate(empty, migrations)
    assert tables_of(empty) == {"publication"}


def test_alembic_migrates_a_database_by_its_url(empty_database_url: str, migrations: Path) -> None:
    config = alembic_config(migrations)
    config.set_main_option("sqlalchemy.url", empty_database_url.replace("%", "%%"))
    command.upgrade(config, "head")
    database = open_database(empty_database_url)
    require_current(database, migrations)
    database.dispose()


def test_the_directory_of_migrations_may_contain_a_percent_sign(
    empty: Engine, migrations: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "100%"
    odd.symlink_to(migrations)
    assert migrate(empty, odd) == (None, HEAD)


def test_an_empty_database_is_rejected_with_a_hint_to_migrate(
    empty: Engine, migrations: Path
) -> None:
    with pytest.raises(
        StoreUnavailable, match=rf"is empty, this Assay needs {HEAD}: run `assay migrate`"
    ):
        require_current(empty, migrations)


def test_a_database_of_a_newer_version_is_rejected(empty: Engine, migrations: Path) -> None:
    migrate(empty, migrations)
    with writing(empty) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(
        StoreUnavailable, match=rf"is at revision '9999', newer than this Assay's {HEAD}"
    ):
        require_current(empty, migrations)
    with pytest.raises(StoreUnavailable, match="9999"):
        migrate(empty, migrations)


def test_the_log_tables_can_be_migrated_under_load(empty: Engine, migrations: Path) -> None:
    """A shipper and a reader keep running meanwhile.

    They fail while the tables are missing, see whole batches only, and recover afterwards.
    """
    migrate(empty, migrations)
    stop, store_errors, troubles = threading.Event(), [], []
    rows = make_rows(100)

    def alone(work: Callable[[Engine], None]) -> None:
        database = open_database(empty.url.render_as_string(hide_password=False))
        while not stop.is_set():
            try:
                work(database)
            except StoreUnavailable as error:
                store_errors.append(str(error))
                time.sleep(0.005)
            except Exception as error:  # noqa: BLE001 - the test reports it below
                troubles.append(error)
        database.dispose()

    def write(database: Engine) -> None:
        position = make_sink(database).position(STREAM)
        stream = (
            Stream()
            if position is None
            else Stream(STREAM, position.seq, position.chain, position.offset)
        )
        ship(database, stream, rows, batch=50)

    def read(database: Engine) -> None:
        list_decisions(database, None, since=BEGIN, until=BEGIN + SPAN, limit=10)

    threads = [threading.Thread(target=alone, args=(work,)) for work in (write, read)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        time.sleep(0.3)
        assert migrate(empty, migrations, "0001") == (HEAD, "0001")
        time.sleep(0.1)
        assert migrate(empty, migrations) == ("0001", HEAD)
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert not [each for each in store_errors if "deadlock" in each]
    found = list(records(empty, STREAM))
    assert found
    first = found[0].seq  # 1, unless the tables were dropped after the position was read
    assert [record.seq for record in found] == list(range(first, first + len(found)))
    assert len(found) % 50 == 0


def test_earlier_counts_have_as_many_attempts_as_answered_requests(
    empty: Engine, migrations: Path
) -> None:
    migrate(empty, migrations, "0008")
    cell = "'lab/m@one', 'gw', 't', 0, 5"
    for table in ("evidence_counter", "evidence_day"):
        with writing(empty) as connection:
            insert = f"INSERT INTO {table} VALUES ({cell}, 7, 3, 1, 7, 3)"  # noqa: S608 - constants
            connection.execute(text(insert))
    migrate(empty, migrations)
    with writing(empty) as connection:
        columns = "requests, auto_tool_call_requests, attempts"
        for table in ("evidence_counter", "evidence_day"):
            counts = text(f"SELECT {columns} FROM {table}")  # noqa: S608 - constants
            assert connection.execute(counts).all() == [(7, 3, 7)]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_migration_waits_for_a_lock_only_for_the_stated_time(
    empty: Engine, migrations: Path
) -> None:
    migrate(empty, migrations, "0006")
    impatient = with_limits(empty, replace(MIGRATING, lock=0.3))
    with reading(empty) as reader:
        reader.execute(text("LOCK TABLE endpoint_listing IN ACCESS SHARE MODE"))
        with pytest.raises(StoreUnavailable, match="gave up waiting for a lock"):
            migrate(impatient, migrations)
    assert migrate(impatient, migrations) == ("0006", HEAD)
