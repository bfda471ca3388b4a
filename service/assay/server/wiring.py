"""Where the parts are put together: database, policy, judging, decider, journal, server."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sqlalchemy import Engine, inspect

from assay.curator.judging import Judging, RuleFiles, compile_stored, judged
from assay.decision_log.queries import pseudonyms_by_tenant
from assay.decision_log.replay import stored_snapshots
from assay.decision_log.tenant_pseudonyms import TenantPseudonyms
from assay.decision_log.writer import Logbook
from assay.engine.errors import StoreUnavailable
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.world import World
from assay.server.decider import Decider
from assay.server.settings import Settings, migrations_dir, policy_dir, read_settings
from assay.store.database import open_database
from assay.store.migration import migrate, require_current
from assay.store.snapshots import latest_published, published_at


def engine_version() -> str:
    """The version of the installed package; a checkout on the path has none."""
    try:
        return version("assay")
    except PackageNotFoundError:
        return "not installed, run from a checkout"


def settings() -> Settings:
    """What this process's environment says."""
    return read_settings(os.environ, Path.home(), policy_dir())


def environment() -> Mapping[str, str]:
    """What this process was started with: where keys of providers are found."""
    return os.environ


def wall_clock() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


def database_url(given: str | None) -> str:
    """The database to open; an empty URL is a fault in what was given and not a wish for the default."""
    return settings().database if given is None else given


@contextmanager
def open_current_database(url: str | None) -> Iterator[Engine]:
    """The database at its newest migration, closed at the end; only an empty SQLite file is made ready here."""
    with opened(url) as database:
        if database.dialect.name == "sqlite" and not inspect(database).get_table_names():
            migrate(database, migrations_dir())
        require_current(database, migrations_dir())
        yield database


@contextmanager
def opened(url: str | None) -> Iterator[Engine]:
    """The database in whatever state it is, closed at the end."""
    database = open_database(database_url(url))
    try:
        yield database
    finally:
        database.dispose()


def policy_path(given: Path | None) -> Path:
    """The directory of rule files to read."""
    return settings().policy if given is None else given


def judged_now(
    database: Engine, policy: Path | None, now: datetime | None
) -> tuple[World, Snapshot]:
    """Judge what the database holds, without memory, as of `now` or the wall clock."""
    return judged(database, policy_path(policy), now or wall_clock())


def snapshot_now(database: Engine, policy: Path | None, now: datetime | None) -> Snapshot:
    """The published snapshot; one judged without memory where a time or rules are given, or nothing was published."""
    published = published_snapshot(database) if policy is None and now is None else None
    return published or judged_now(database, policy, now)[1]


def published_snapshot(database: Engine, at: datetime | None = None) -> Snapshot | None:
    """The snapshot in force, now or at a time; `None` where there was none, or it is not kept any more."""
    publication = latest_published(database) if at is None else published_at(database, at)
    if publication is None:
        return None
    try:
        return stored_snapshots(database, compile_stored)(publication.snapshot_id)
    except (LookupError, ValueError) as error:
        raise StoreUnavailable(
            f"snapshot {publication.snapshot_id} cannot be read: {error}"
        ) from error


@contextmanager
def recording(
    database: Engine, policy: Path | None, now: datetime | None, journal: Path | None
) -> Iterator[Decider]:
    """A decider whose decisions are in the log by the end, with the policy and the snapshot they were made from.

    Where the database goes away meanwhile they stay in the journal, and the next process ships them.
    """
    published = published_snapshot(database) if policy is None and now is None else None
    decider = Decider(
        clock=clock_of(now),
        snapshot=published,
        pseudonyms=TenantPseudonyms(pseudonyms_by_tenant(database)),
        engine_version=engine_version(),
    )
    if published is None:
        rules = RuleFiles(policy_path(policy))
        Judging(
            database,
            rules,
            lambda _, snapshot: decider.publish(snapshot),
            pinned=now,
            clock=wall_clock,
        ).start()
    logbook = Logbook(journal_path(journal), database)
    try:
        decider.journal = logbook.journal
        yield decider
    finally:
        logbook.close()


def process_name() -> str:
    """A name for this process and no other, for people to find it by."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def clock_of(now: datetime | None) -> Callable[[], datetime]:
    """A clock that stands at `now` where given."""
    return (lambda: now) if now else wall_clock


def decider_for(snapshot: Snapshot, now: datetime | None) -> Decider:
    """A decider of one snapshot, pinned to `now` where given."""
    return Decider(clock=clock_of(now), snapshot=snapshot)


def journal_path(given: Path | None) -> Path:
    """The directory of the journal, its key and its heads."""
    return settings().journal if given is None else given


def spool_path(given: Path | None) -> Path:
    """The directory of outcomes that wait to be reported."""
    return settings().spool if given is None else given
