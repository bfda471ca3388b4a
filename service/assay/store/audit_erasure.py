"""Letting go of what is no record: snapshots that no decision needs any more, and the name of a tenant."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine, LargeBinary, Select, delete, exists, func, literal, or_, select

from assay.engine.canonical import canonical
from assay.store.audit_batch import TENANT
from assay.store.audit_tables import decision, tenant_pseudonym, unreadable_record
from assay.store.engine import translated, writing
from assay.store.evidence_tables import tenant_affiliation
from assay.store.imports.log import bump
from assay.store.imports.tenants import PREFERENCES
from assay.store.tables import part, preference, publication, snapshot, snapshot_part, tenant_settings

CHUNK: Final = 500
TENANT_PART: Final = {"tenant", "settings", "preferences"}


def prune_snapshots(engine: Engine, before: datetime) -> int:
    """Remove snapshots made before `before` that no decision in the log was made from; says how many.

    Those in force at that time or later stay, so that a decision still on its way to the log finds its own.
    """
    return remove(engine, unneeded(before))


def prune_published(engine: Engine, before: datetime) -> int:
    """Remove those of them alone that were in force once: a server may still decide from one that never was."""
    shown = select(publication.c.sequence).where(publication.c.snapshot_id == snapshot.c.snapshot_id)
    return remove(engine, unneeded(before).where(exists(shown)))


def remove(engine: Engine, names_of: Select[tuple[str]]) -> int:
    """Remove snapshots with their publications, and the parts that no other snapshot has; says how many."""
    with writing(engine) as connection:
        names = connection.execute(names_of).scalars().all()
        for start in range(0, len(names), CHUNK):
            piece = names[start : start + CHUNK]
            for table in (publication, snapshot_part, snapshot):
                connection.execute(delete(table).where(table.c.snapshot_id.in_(piece)))
        if names:
            linked = select(snapshot_part.c.digest).where(snapshot_part.c.digest == part.c.digest)
            connection.execute(delete(part).where(~exists(linked)))
        return len(names)


def unneeded(before: datetime) -> Select[tuple[str]]:
    """The snapshots that may go."""
    in_force = select(func.max(publication.c.sequence)).where(publication.c.published_at <= before).scalar_subquery()
    kept = or_(publication.c.sequence >= func.coalesce(in_force, 0), publication.c.published_at > before)
    shown = select(publication.c.sequence).where(publication.c.snapshot_id == snapshot.c.snapshot_id, kept)
    used = select(decision.c.decision_id).where(decision.c.snapshot_id == snapshot.c.snapshot_id)
    return select(snapshot.c.snapshot_id).where(snapshot.c.created_at < before, ~exists(shown), ~exists(used))


def erase_tenant(engine: Engine, tenant: str) -> int:
    """Forget who a tenant's decisions belong to, and what it asked to be observed; says how many rows went.

    The decisions stay under their pseudonyms, snapshots go without its part, and the chain stays whole. On SQLite the
    bytes are overwritten; PostgreSQL reuses their place in its own time.
    """
    with writing(engine) as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        names = connection.execute(delete(tenant_pseudonym).where(tenant_pseudonym.c.tenant == tenant)).rowcount
        unread = connection.execute(delete(unreadable_record).where(unreadable_record.c.kind == TENANT)).rowcount
        wishes = sum(
            connection.execute(delete(table).where(table.c.tenant == tenant)).rowcount
            for table in (preference, tenant_settings, tenant_affiliation)
        )
        if wishes:
            bump(connection, PREFERENCES)
        parts = erase_parts(connection, tenant)
    empty_wal(engine)
    return names + unread + wishes + parts


def erase_parts(connection: Connection, tenant: str) -> int:
    """Take a tenant's parts out of all snapshots: canonical JSON, so that its name, the last of the keys, ends them."""
    ending = b'"tenant":%b}' % canonical(tenant)
    last = func.substr(part.c.content, func.length(part.c.content) - len(ending) + 1)
    found = connection.execute(select(part).where(last == literal(ending, LargeBinary())))
    digests = [row.digest for row in found if json.loads(row.content).keys() == TENANT_PART]
    for table in (snapshot_part, part):
        connection.execute(delete(table).where(table.c.digest.in_(digests)))
    return len(digests)


def empty_wal(engine: Engine) -> None:
    """Move SQLite's log of recent writes into the file and cut it, unless somebody is reading; others have none."""
    if engine.dialect.name != "sqlite":
        return
    with translated(engine):
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
