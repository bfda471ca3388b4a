"""Deleting old records, unused snapshots, and the identity of a tenant."""

from __future__ import annotations

import json
import time
from contextlib import closing
from datetime import datetime
from typing import Final

from sqlalchemy import (
    Connection,
    Engine,
    LargeBinary,
    Select,
    and_,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
)

from assay.decision_log.queries import distinct_values
from assay.decision_log.sink import FINDING_SETS, advance
from assay.decision_log.tables import (
    decision,
    finding_set_word,
    journal_record,
    pruned,
    unreadable_record,
)
from assay.engine.canonical import canonical
from assay.journal.sink import RecordKind
from assay.store.database import reading, translate_errors, writing, writing_concurrently
from assay.store.evidence_tables import tenant_affiliation, waiting_outcome
from assay.store.imports.log import count_change
from assay.store.imports.tenants import PREFERENCES
from assay.store.tables import (
    part,
    preference,
    publication,
    snapshot,
    snapshot_part,
    tenant_pseudonym,
    tenant_settings,
)

BATCH: Final = 1000
PAUSE_S: Final = 0.01  # between batches, so that others get SQLite's one write lock


def prune(database: Engine, before: datetime, *, now: datetime, batch: int = BATCH) -> int:
    """Delete the records of decisions before `before`; return how many.

    A stream keeps everything from its first younger decision on. The link of the last deleted
    record is stored, since verification starts from it.
    """
    removed = 0
    with reading(database) as connection:
        streams = connection.execute(distinct_values(decision.c.stream)).scalars().all()
    for stream in streams:
        last = 0
        while piece := _prune_batch(database, stream, (before, now), after=last, batch=batch):
            count, last = piece  # from 0, PostgreSQL would step over every row just deleted
            removed += count
            time.sleep(PAUSE_S)
    if removed:
        forget_unused_sets(database)
    return removed


def _prune_batch(
    database: Engine,
    stream: str,
    before_and_now: tuple[datetime, datetime],
    *,
    after: int,
    batch: int,
) -> tuple[int, int] | None:
    """Delete the next records of a stream in one transaction.

    Returns how many, and the number of the last; None if all are young.
    """
    before, now = before_and_now
    decided = select(decision.c.seq, decision.c.decided_at).where(
        decision.c.stream == stream, decision.c.seq > after
    )
    with translate_errors(database), writing_concurrently(database) as connection:
        found = connection.execute(decided.order_by(decision.c.seq).limit(batch)).all()
        young = next(
            (place for place, row in enumerate(found) if row.decided_at >= before), len(found)
        )
        if young == 0:
            return None
        last = found[young - 1].seq
        own = journal_record.c.stream == stream
        link = connection.scalar(
            select(journal_record.c.chain).where(own, journal_record.c.seq == last)
        )
        connection.execute(
            delete(decision).where(decision.c.stream == stream, decision.c.seq <= last)
        )
        count = connection.execute(
            delete(journal_record).where(own, journal_record.c.seq <= last)
        ).rowcount
        if link is not None:  # otherwise the record was tampered with: verification must see that
            row = {"stream": stream, "seq": last, "chain": link, "pruned_at": now}
            advance(connection, pruned, row, by=("seq",))
        return count, last


def forget_unused_sets(database: Engine) -> int:
    """Delete the finding sets that no decision uses any more; return how many."""
    unused = ~exists(
        select(decision.c.decision_id).where(
            decision.c.finding_set == finding_set_word.c.finding_set
        )
    )
    with reading(database) as connection:
        names = (
            connection.execute(select(finding_set_word.c.finding_set).where(unused).distinct())
            .scalars()
            .all()
        )
    for start in range(0, len(names), BATCH):
        with translate_errors(database), writing_concurrently(database) as connection:
            if connection.dialect.name == "postgresql":
                # Shippers must not run between adding decisions and adding their words.
                connection.execute(select(func.pg_advisory_xact_lock(FINDING_SETS)))
            piece = finding_set_word.c.finding_set.in_(names[start : start + BATCH])
            # `unused` is evaluated again, now that no shipper runs.
            connection.execute(delete(finding_set_word).where(and_(piece, unused)))
    return len(names)


CHUNK: Final = 500
TENANT_PART: Final = {"tenant", "settings", "preferences"}


def prune_snapshots(database: Engine, before: datetime) -> int:
    """Delete snapshots created before `before` that no logged decision used; return how many.

    Snapshots that were active at that time or later stay: decisions may still be on their way.
    """
    return _delete_snapshots(database, _unneeded(before))


def prune_published(database: Engine, before: datetime) -> int:
    """Delete published snapshots that are not needed; a server may still use an unpublished one."""
    shown = select(publication.c.sequence).where(
        publication.c.snapshot_id == snapshot.c.snapshot_id
    )
    return _delete_snapshots(database, _unneeded(before).where(exists(shown)))


def _delete_snapshots(database: Engine, names_of: Select[tuple[str]]) -> int:
    """Delete snapshots, their publications, and parts no other snapshot has; return how many."""
    with writing(database) as connection:
        names = connection.execute(names_of).scalars().all()
        for start in range(0, len(names), CHUNK):
            piece = names[start : start + CHUNK]
            for table in (publication, snapshot_part, snapshot):
                connection.execute(delete(table).where(table.c.snapshot_id.in_(piece)))
        if names:
            linked = select(snapshot_part.c.digest).where(snapshot_part.c.digest == part.c.digest)
            connection.execute(delete(part).where(~exists(linked)))
        return len(names)


def _unneeded(before: datetime) -> Select[tuple[str]]:
    """Select the snapshots that may be deleted."""
    active = (
        select(func.max(publication.c.sequence))
        .where(publication.c.published_at <= before)
        .scalar_subquery()
    )
    kept = or_(
        publication.c.sequence >= func.coalesce(active, 0), publication.c.published_at > before
    )
    shown = select(publication.c.sequence).where(
        publication.c.snapshot_id == snapshot.c.snapshot_id, kept
    )
    used = select(decision.c.decision_id).where(decision.c.snapshot_id == snapshot.c.snapshot_id)
    return select(snapshot.c.snapshot_id).where(
        snapshot.c.created_at < before, ~exists(shown), ~exists(used)
    )


def erase_tenant(database: Engine, tenant: str) -> int:
    """Delete a tenant's name, settings and preferences; return the number of rows.

    Its decisions stay under pseudonyms, snapshots lose its part, and the chain stays intact. Its
    outcomes that still wait for a decision are deleted, and do not count. SQLite overwrites the
    bytes at once, PostgreSQL when it reuses the space.
    """
    with writing(database) as connection:
        if database.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        own = select(tenant_pseudonym.c.pseudonym).where(tenant_pseudonym.c.tenant == tenant)
        waiting = connection.execute(
            delete(waiting_outcome).where(waiting_outcome.c.tenant.in_(own))
        ).rowcount
        names = connection.execute(
            delete(tenant_pseudonym).where(tenant_pseudonym.c.tenant == tenant)
        ).rowcount
        unread = connection.execute(
            delete(unreadable_record).where(unreadable_record.c.kind == RecordKind.TENANT)
        ).rowcount
        wishes = sum(
            connection.execute(delete(table).where(table.c.tenant == tenant)).rowcount
            for table in (preference, tenant_settings, tenant_affiliation)
        )
        if wishes:
            count_change(connection, PREFERENCES)
        parts = _erase_parts(connection, tenant)
    if database.dialect.name == "sqlite":
        _truncate_wal(database)
    return waiting + names + unread + wishes + parts


def _erase_parts(connection: Connection, tenant: str) -> int:
    """Delete a tenant's parts: in canonical JSON its name, the last key, ends the content."""
    ending = b'"tenant":%b}' % canonical(tenant)
    last = func.substr(part.c.content, func.length(part.c.content) - len(ending) + 1)
    found = connection.execute(select(part).where(last == literal(ending, LargeBinary())))
    digests = [row.digest for row in found if json.loads(row.content).keys() == TENANT_PART]
    for table in (snapshot_part, part):
        connection.execute(delete(table).where(table.c.digest.in_(digests)))
    return len(digests)


def _truncate_wal(database: Engine) -> None:
    """Truncate SQLite's write-ahead log, unless a reader uses it."""
    with translate_errors(database), closing(database.raw_connection()) as connection:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
