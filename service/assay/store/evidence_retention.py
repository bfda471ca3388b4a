"""Retention of outcomes and of the records of counted batches; counters are kept."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Engine,
    column,
    delete,
    exists,
    select,
    table,
    true,
    tuple_,
)

from assay.engine.world.clock import EPOCH
from assay.store.database import translate_errors, writing_concurrently
from assay.store.evidence_tables import (
    capability_counter,
    evidence_batch,
    outcome,
    tenant_activity,
    tenant_ignore,
    tenant_provider,
    uncounted_outcome,
)

_BATCH: Final = 1000
_PAUSE_S: Final = 0.01  # between transactions, so that other writers get SQLite's only write lock
_RESENT: Final = timedelta(days=30)
"""How late a batch may be sent again, for example from the journal of a stopped machine."""

_ACTIVITY: Final = timedelta(days=60)
"""Retention of activity: votes read 28 days, and hours may be closed late."""

_EVERY: Final = true()
# The log is above this package in the layers.
_decision: Final = table("decision", column("decision_id"))
_no_decision: Final = ~exists(
    select(_decision.c.decision_id).where(_decision.c.decision_id == outcome.c.decision_id)
)


def prune_outcomes(
    database: Engine, before: datetime, *, now: datetime, batch: int = _BATCH
) -> int:
    """Delete the outcomes of earlier attempts, and return how many; the rest stays while needed.

    An outcome stays as long as its decision: it keeps later reports of the attempt from counting.
    """
    deleted = _delete(database, outcome.c.at, before, batch, only=_no_decision)
    _delete(database, evidence_batch.c.received_at, min(before, now - _RESENT), batch)
    day = (min(before, now - _ACTIVITY) - EPOCH).days
    activity = (tenant_activity, tenant_ignore, tenant_provider)
    for each in (*activity, uncounted_outcome, capability_counter):
        _delete(database, each.c.day, day, batch)
    return deleted


def _delete(
    database: Engine,
    age: Column[datetime] | Column[int],
    before: datetime | int,
    batch: int,
    *,
    only: ColumnElement[bool] = _EVERY,
) -> int:
    """Delete the rows with a lower value in this column, in small transactions."""
    key = tuple_(*age.table.primary_key)
    oldest = select(*age.table.primary_key).where(age < before, only).limit(batch)
    deleted = 0
    while True:
        with translate_errors(database), writing_concurrently(database) as connection:
            count = connection.execute(delete(age.table).where(key.in_(oldest))).rowcount
        deleted += count
        if count < batch:
            return deleted
        time.sleep(_PAUSE_S)
