"""Which hours are due: every closed UTC hour once, in order, from the first that anybody curated."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from assay.store.types import EPOCH

HOUR: Final = timedelta(hours=1)
SETTLING: Final = timedelta(seconds=30)  # for outcomes of the hour that are on their way from journals to the database


def due(done: int | None, now: datetime) -> range:
    """The hours to close now, as whole hours from 1970 to their end: all since the last one done, at first only one."""
    closed = (now - SETTLING - EPOCH) // HOUR
    return range(closed if done is None else done + 1, closed + 1)


def end_of(hour: int) -> datetime:
    """The instant at which an hour is over."""
    return EPOCH + hour * HOUR
