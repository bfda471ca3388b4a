"""Letting records go by age: from the beginning of each stream on, so that what is left has no gaps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine, and_, delete, exists, func, select

from assay.store.audit_loops import distinct_values
from assay.store.audit_sink import FINDING_SETS, forward, shipping
from assay.store.audit_tables import decision, finding_set_word, journal_record, pruned
from assay.store.engine import reading, translated

BATCH: Final = 1000
PAUSE_S: Final = 0.01  # between batches, so that who waits for SQLite's one write lock gets it


@dataclass(frozen=True, slots=True)
class Piece:
    """What one batch removed: so many records, the last of them with this number."""

    count: int
    last: int


def prune(engine: Engine, before: datetime, *, now: datetime, batch: int = BATCH) -> int:
    """Remove what was decided before `before`; says how many records went.

    A stream keeps everything from its first younger decision on. The place of the last one removed is remembered: its
    link is what verifying begins with.
    """
    removed = 0
    with reading(engine) as connection:
        streams = connection.execute(distinct_values(decision.c.stream)).scalars().all()
    for stream in streams:
        last = 0
        while piece := prune_batch(engine, stream, (before, now), after=last, batch=batch):
            removed += piece.count
            last = piece.last  # not looked for again from 0: PostgreSQL would step over every row it has just removed
            time.sleep(PAUSE_S)
    if removed:
        forget_unused_sets(engine)
    return removed


def prune_batch(
    engine: Engine, stream: str, before_and_now: tuple[datetime, datetime], *, after: int, batch: int
) -> Piece | None:
    """Remove the next records of one stream and remember up to where, in one transaction; none when all are young."""
    before, now = before_and_now
    decided = select(decision.c.seq, decision.c.decided_at).where(decision.c.stream == stream, decision.c.seq > after)
    with translated(engine), shipping(engine) as connection:
        found = connection.execute(decided.order_by(decision.c.seq).limit(batch)).all()
        young = next((place for place, row in enumerate(found) if row.decided_at >= before), len(found))
        if young == 0:
            return None
        last = found[young - 1].seq
        own = journal_record.c.stream == stream
        link = connection.scalar(select(journal_record.c.chain).where(own, journal_record.c.seq == last))
        connection.execute(delete(decision).where(decision.c.stream == stream, decision.c.seq <= last))
        count = connection.execute(delete(journal_record).where(own, journal_record.c.seq <= last)).rowcount
        if link is not None:  # else somebody removed that record, and verifying shall say so
            forward(connection, pruned, {"stream": stream, "seq": last, "chain": link, "pruned_at": now}, ("seq",))
        return Piece(count, last)


def forget_unused_sets(engine: Engine) -> int:
    """Remove the sets of findings that no decision has any more; says how many."""
    unused = ~exists(select(decision.c.decision_id).where(decision.c.finding_set == finding_set_word.c.finding_set))
    with reading(engine) as connection:
        names = connection.execute(select(finding_set_word.c.finding_set).where(unused).distinct()).scalars().all()
    for start in range(0, len(names), BATCH):
        with translated(engine), shipping(engine) as connection:
            alone_with_sets(connection)
            piece = finding_set_word.c.finding_set.in_(names[start : start + BATCH])
            connection.execute(delete(finding_set_word).where(and_(piece, unused)))  # asked again: nobody ships now
    return len(names)


def alone_with_sets(connection: Connection) -> None:
    """Wait until no shipper is between adding decisions and seeing to their words; from now on they wait for us."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(FINDING_SETS)))
