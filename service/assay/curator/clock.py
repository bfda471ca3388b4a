"""The curator's clock: it refuses to say the time if that may be wrong.

How it works
    Closing an hour cannot be taken back, so that a clock that jumps ahead would close hours that
    have not begun. The wall clock is therefore compared with two others.

    The database's clock, on PostgreSQL: if the two differ, one of them is wrong.

    The seconds since the machine was started, which cannot be set: if the wall clock has moved
    ahead of them since the last reading, it was set, or this machine was paused
    without noticing. If the database is on another host and agrees, the wall clock was only
    corrected. Otherwise it is refused until it is set back, or until the process is started again.

    A real outage looks different: the process that continues has been started after it, so that
    there is no earlier reading to compare with; or, if the machine slept, the seconds have gone on.

    A clock that is set back closes nothing twice: hours are numbered, and the last one is stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import Engine

from assay.engine.errors import OperatorError
from assay.store.clock import DatabaseTime, database_time

MOST_SKEW: Final = timedelta(minutes=1)
"""The largest difference between two clocks that are both right."""
_DRIFT: Final = 0.001  # of the time passed since the last reading
log = structlog.get_logger("assay.curator")


class ClockUntrusted(OperatorError):
    """The wall clock may be wrong, so that no hour may be closed by it."""


def seconds_since_boot() -> float:
    """Return the seconds since the machine was started, those asleep included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class CuratorClock:
    """The wall clock, compared at each call; `other` reads the database's clock."""

    def __init__(
        self,
        wall: Callable[[], datetime],
        other: Callable[[], DatabaseTime | None],
        steady: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._wall = wall
        self._other = other
        self._steady = steady
        self._read_at = (wall().astimezone(UTC), steady())

    def __call__(self) -> datetime:
        """Return the time now; raises ClockUntrusted, and StoreUnavailable."""
        other = self._other()
        now, steady = self._wall().astimezone(UTC), self._steady()
        if other is not None and abs(now - other.now) > MOST_SKEW:
            raise ClockUntrusted(
                f"this host's clock says {_minute(now)}, the database's {_minute(other.now)}:"
                " set the wrong one right"
            )
        read, steady_then = self._read_at
        passed = timedelta(seconds=steady - steady_then)
        jump = now - read - passed
        if jump > MOST_SKEW + passed * _DRIFT:
            self._check_jump(jump, other)
        self._read_at = (now, steady)
        return now

    def _check_jump(self, jump: timedelta, other: DatabaseTime | None) -> None:
        if other is None or not other.is_remote:
            raise ClockUntrusted(
                f"this host's clock has jumped ahead by {jump}: set it back, or restart this"
                " process if the clock is right now"
            )
        log.warning("clock corrected", ahead=str(jump))


def curator_clock(wall: Callable[[], datetime], database: Engine) -> CuratorClock:
    """Return the clock of a curator of this database."""
    return CuratorClock(wall, lambda: database_time(database))


def lease_clock(wall: Callable[[], datetime], database: Engine) -> Callable[[], datetime]:
    """Return the clock that all curators of this database share."""

    def now() -> datetime:
        other = database_time(database)
        return wall() if other is None else other.now

    return now


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
