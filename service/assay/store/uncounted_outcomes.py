"""What operators list: outcomes that moved nothing, and outcomes that wait for their decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Engine, func, select

from assay.engine.world.clock import EPOCH
from assay.store.database import reading
from assay.store.evidence_tables import uncounted_outcome, waiting_outcome


@dataclass(frozen=True, slots=True)
class UncountedOutcomes:
    """How many outcomes of one kind, source and endpoint were reported on a UTC day in vain."""

    day: date
    kind: str
    source: str
    endpoint_id: str
    outcomes: int


@dataclass(frozen=True, slots=True)
class WaitingOutcomes:
    """How many outcomes of one source and endpoint wait, and when the first was received."""

    source: str
    endpoint_id: str
    since: datetime
    outcomes: int


def list_uncounted(database: Engine, since: date) -> Sequence[UncountedOutcomes]:
    """Return the outcomes that moved nothing since a day, newest days first."""
    table, first = uncounted_outcome.c, (since - EPOCH.date()).days
    query = select(uncounted_outcome).where(table.day >= first)
    query = query.order_by(table.day.desc(), table.kind, table.source, table.endpoint_id)
    epoch = EPOCH.toordinal()
    with reading(database) as connection:
        return [
            UncountedOutcomes(date.fromordinal(epoch + day), *cells)
            for day, *cells in connection.execute(query)
        ]


def list_waiting(database: Engine) -> Sequence[WaitingOutcomes]:
    """Return the outcomes that wait for their decision, by source and endpoint."""
    table = waiting_outcome.c
    key = (table.source, table.endpoint_id)
    query = select(*key, func.min(table.received_at), func.count()).group_by(*key).order_by(*key)
    with reading(database) as connection:
        return [WaitingOutcomes(*row) for row in connection.execute(query)]
