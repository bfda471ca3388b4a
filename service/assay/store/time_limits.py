"""How long a transaction may wait, and a ceiling that a process lowers when it stops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

LOCK_S: Final = 10.0
IDLE_S: Final = 8.0
POOL_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """The limits of one transaction, in seconds.

    `statement` bounds one statement, `lock` one wait for a lock, `idle` the time that a writer may
    stand still between two statements, `idle_reader` that of a reader, which blocks no writer.
    """

    statement: float = 15.0
    lock: float = LOCK_S
    idle: float = IDLE_S
    idle_reader: float = IDLE_S


SERVING: Final = TimeLimits()
"""The limits of what serves callers, and of shipping."""

PATIENT: Final = TimeLimits(statement=120.0, idle_reader=300.0)
"""The limits of the curator, of imports and of other commands, which read and write much."""

MIGRATING: Final = TimeLimits(statement=3600.0, idle=60.0)
"""The limits of migrations, which may build indexes; they wait for locks no longer than others."""

OPTION: Final = "assay_limits"
"""The execution option that holds the limits of a connection's transactions."""


@dataclass(slots=True)
class WaitCeiling:
    """The longest wait, in seconds, that any connection of one database may have at present."""

    seconds: float = math.inf

    def give_up(self) -> None:
        """After a wait failed while the process stops, let no further one begin."""
        if math.isfinite(self.seconds):
            self.seconds = 0.0
