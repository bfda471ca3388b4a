"""Retention of outcomes and of what keeps them from counting twice; counters are kept."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Engine,
    column,
    delete,
    exists,
    func,
    select,
    table,
    true,
    tuple_,
)

from assay.engine.world.clock import EPOCH
from assay.store.database import reading, translate_errors, writing_concurrently
from assay.store.evidence_tables import (
    capability_counter,
    evidence_batch,
    outcome,
    tenant_activity,
    tenant_ignore,
    tenant_provider,
    uncounted_outcome,
    waiting_outcome,
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
    deleted = _delete(database, _OldRows(outcome.c.at, before, _no_decision), batch)
    prune_deduplication(database, now, before=before, batch=batch)
    return deleted


def prune_deduplication(
    database: Engine,
    now: datetime,
    *,
    before: datetime | None = None,
    batch: int = _BATCH,
    most: int | None = None,
) -> None:
    """Delete records of batches after 30 days, and counts by tenant and of no effect after 60.

    Deletes at most `most` rows of each table, and keeps what is not from `before`.
    """
    limit = before or now
    resent = _OldRows(evidence_batch.c.received_at, min(limit, now - _RESENT))
    _delete(database, resent, batch, most)
    day = (min(limit, now - _ACTIVITY) - EPOCH).days
    activity = (tenant_activity, tenant_ignore, tenant_provider)
    for each in (*activity, uncounted_outcome, capability_counter):
        _delete(database, _OldRows(each.c.day, day), batch, most)


def count_deduplication(database: Engine) -> dict[str, int]:
    """Return the sizes of the tables that grow with traffic and are pruned, by name."""
    with reading(database) as connection:
        return {
            table.name: int(connection.scalar(select(func.count()).select_from(table)) or 0)
            for table in (evidence_batch, waiting_outcome, uncounted_outcome)
        }


class _OldRows(NamedTuple):
    """The rows of a table with a lower value in a column, or some of them."""

    age: Column[datetime] | Column[int]
    before: datetime | int
    only: ColumnElement[bool] = _EVERY


def _delete(database: Engine, old: _OldRows, batch: int, most: int | None = None) -> int:
    """Delete such rows, at most about so many, in small transactions; return how many."""
    age, before, only = old
    key = tuple_(*age.table.primary_key)
    oldest = select(*age.table.primary_key).where(age < before, only).limit(batch)
    deleted = 0
    while True:
        with translate_errors(database), writing_concurrently(database) as connection:
            count = connection.execute(delete(age.table).where(key.in_(oldest))).rowcount
        deleted += count
        if count < batch or (most is not None and deleted >= most):
            return deleted
        time.sleep(_PAUSE_S)
