"""Letting go: records by age, snapshots that no decision needs any more, and the name of a tenant."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine, and_, delete, exists, func, select, text
from sqlalchemy.sql.elements import ColumnElement

from assay.store.audit_batch import TENANT
from assay.store.audit_loops import distinct_values
from assay.store.audit_sink import FINDING_SETS, forward, shipping
from assay.store.audit_tables import decision, finding_set_word, journal_record, pruned, tenant_pseudonym, unreadable_record
from assay.store.engine import reading, translated, writing
from assay.store.imports.log import bump
from assay.store.imports.tenants import PREFERENCES
from assay.store.tables import part, preference, publication, snapshot, snapshot_part, tenant_settings

BATCH: Final = 1000
PAUSE_S: Final = 0.01  # between batches, so that who waits for SQLite's one write lock gets it


def prune(engine: Engine, before: datetime, *, now: datetime, batch: int = BATCH) -> int:
    """Remove the decisions made before `before`, each stream from its beginning on; says how many records went.

    A stream keeps everything from its first younger decision on, so that what is left has no gaps. The place of the last
    one removed is remembered: its link is what verifying begins with.
    """
    removed = 0
    with reading(engine) as connection:
        streams = connection.execute(distinct_values(decision.c.stream)).scalars().all()
    for stream in streams:
        while (count := prune_batch(engine, stream, before, now, batch)) > 0:
            removed += count
            time.sleep(PAUSE_S)
    if removed:
        forget_unused_sets(engine)
    return removed


def prune_batch(engine: Engine, stream: str, before: datetime, now: datetime, batch: int) -> int:
    """Remove the next records of one stream, and remember up to where."""
    with translated(engine), shipping(engine) as connection:
        query = select(decision.c.seq, decision.c.decided_at).where(decision.c.stream == stream)
        found = connection.execute(query.order_by(decision.c.seq).limit(batch)).all()
        young = next((place for place, row in enumerate(found) if row.decided_at >= before), len(found))
        if young == 0:
            return 0
        last = found[young - 1].seq
        own = and_(journal_record.c.stream == stream, journal_record.c.seq <= last)
        link = connection.scalar(
            select(journal_record.c.chain).where(own).order_by(journal_record.c.seq.desc()).limit(1)
        )
        connection.execute(delete(decision).where(decision.c.stream == stream, decision.c.seq <= last))
        count = connection.execute(delete(journal_record).where(own)).rowcount
        if link is not None:
            row = {"stream": stream, "seq": last, "chain": link, "pruned_at": now}
            forward(connection, pruned, row, ("seq",))
        return max(count, young)


def forget_unused_sets(engine: Engine) -> int:
    """Remove the sets of findings that no decision has any more; says how many."""
    unused = ~exists(select(decision.c.decision_id).where(decision.c.finding_set == finding_set_word.c.finding_set))
    with reading(engine) as connection:
        query = select(finding_set_word.c.finding_set).where(unused).distinct()
        names = connection.execute(query).scalars().all()
    for start in range(0, len(names), BATCH):
        with translated(engine), shipping(engine) as connection:
            alone_with_sets(connection)
            own = finding_set_word.c.finding_set.in_(names[start : start + BATCH])
            connection.execute(delete(finding_set_word).where(own, unused))  # looked at again, now that nobody ships
    return len(names)


def alone_with_sets(connection: Connection) -> None:
    """Wait until no shipper is between adding a decision and seeing to the words of its set; they wait for us then."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(FINDING_SETS)))
