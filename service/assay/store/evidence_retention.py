"""Letting go of what became of attempts, and of what only tells that a batch was counted; counters stay."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Column, Engine, delete, select, tuple_

from assay.engine.world.clock import EPOCH
from assay.store.database import translated, writing_concurrently
from assay.store.evidence_tables import (
    evidence_batch,
    outcome,
    tenant_activity,
    tenant_ignore,
    tenant_provider,
)

BATCH: Final = 1000
PAUSE_S: Final = 0.01  # between batches, so that who waits for SQLite's one write lock gets it
RESENT: Final = timedelta(days=30)
"""How late a batch may still come again: it may lie in the journal of a machine that is down."""

ASKED: Final = timedelta(days=60)
"""How far back anybody asks what tenants did: 28 days, as of hours that may be closed late."""


def prune_outcomes(database: Engine, before: datetime, *, now: datetime, batch: int = BATCH) -> int:
    """Remove the outcomes of attempts before `before`; says how many. All else stays as long as it is needed."""
    removed = remove(database, outcome.c.at, before, batch)
    remove(database, evidence_batch.c.received_at, min(before, now - RESENT), batch)
    day = (min(before, now - ASKED) - EPOCH).days
    for table in (tenant_activity, tenant_ignore, tenant_provider):
        remove(database, table.c.day, day, batch)
    return removed


def remove(
    database: Engine, column: Column[datetime] | Column[int], before: datetime | int, batch: int
) -> int:
    """Remove the rows with less in this column, in small transactions."""
    table = column.table
    key = tuple_(*table.primary_key)
    oldest = select(*table.primary_key).where(column < before).limit(batch)
    removed = 0
    while True:
        with translated(database), writing_concurrently(database) as connection:
            count = connection.execute(delete(table).where(key.in_(oldest))).rowcount
        removed += count
        if count < batch:
            return removed
        time.sleep(PAUSE_S)
