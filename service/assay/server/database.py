"""The database of this process, and the snapshot that a command reads from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine, inspect

from assay.curator.curator import judge_once
from assay.decision_log.replay import stored_snapshots
from assay.engine.errors import StoreUnavailable
from assay.engine.snapshot.snapshot import Snapshot
from assay.rule_files.compile import compile_stored
from assay.server.settings import migrations_dir, policy_path, process_settings, wall_clock
from assay.store.database import (
    DatabaseUnreachable,
    open_database,
    prepare_database,
    reading,
    with_limits,
)
from assay.store.schema_version import require_current
from assay.store.snapshots import latest_published, published_at
from assay.store.time_limits import PATIENT, TimeLimits


@contextmanager
def open_unmigrated(
    url: str | None, *, create: bool = True, limits: TimeLimits = PATIENT
) -> Iterator[Engine]:
    """Open a database at any migration, the one from the settings for None; close it at the end.

    An empty URL is an invalid URL and does not mean the default. Without `create`, a SQLite file
    must exist.
    """
    database = open_database(process_settings().database if url is None else url, create=create)
    try:
        yield with_limits(database, limits)
    finally:
        database.dispose()


@contextmanager
def open_current_database(
    url: str | None, *, create: bool = True, limits: TimeLimits = PATIENT
) -> Iterator[Engine]:
    """Open a database at the newest migration; close it at the end.

    An empty SQLite database is migrated. Any other database at an older migration is rejected.
    """
    with open_unmigrated(url, create=create, limits=limits) as database:
        _require_current(database)
        yield database


@contextmanager
def open_for_serving(url: str | None, *, may_be_away: bool) -> Iterator[Engine]:
    """Open the database of a server; it need not answer if it `may_be_away`."""
    database = prepare_database(process_settings().database if url is None else url)
    try:
        try:
            _require_current(database)
        except DatabaseUnreachable:
            if not may_be_away:
                raise
        yield database
    finally:
        database.dispose()


def _require_current(database: Engine) -> None:
    if database.dialect.name == "sqlite" and _is_empty(database):
        from assay.store.migration import migrate  # noqa: PLC0415 - imports alembic, rarely needed

        migrate(database, migrations_dir())
    require_current(database, migrations_dir())


def _is_empty(database: Engine) -> bool:
    with reading(database) as connection:
        return not inspect(connection).get_table_names()


def snapshot_now(database: Engine, policy: Path | None, now: datetime | None) -> Snapshot:
    """Return the published snapshot, or one that is judged without memory and not stored.

    Judges if `policy` or `now` is given, or if there is no published snapshot.
    """
    published = published_snapshot(database) if policy is None and now is None else None
    return published or judge_once(database, policy_path(policy), now or wall_clock())[1]


def published_snapshot(database: Engine, at: datetime | None = None) -> Snapshot | None:
    """Return the snapshot that is active now or was active at a time; None if there is none.

    Raises StoreUnavailable if the database no longer has all of it.
    """
    publication = latest_published(database) if at is None else published_at(database, at)
    if publication is None:
        return None
    try:
        return stored_snapshots(database, compile_stored)(publication.snapshot_id)
    except (LookupError, ValueError) as error:
        raise StoreUnavailable(
            f"snapshot {publication.snapshot_id} cannot be read: {error}"
        ) from error
