"""How long to wait before the next attempt at what has just failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 1.0
LONGEST_S: Final = 30.0


class BackOff:
    """Attempts are due at once until one fails; then after one second, and after twice as long with each failure."""

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._wait = FIRST_S
        self._due_at = steady()

    def due(self) -> bool:
        """Whether another attempt may be made."""
        return self._steady() >= self._due_at

    def failed(self) -> float:
        """Put the next attempt off; says by how many seconds."""
        wait, self._wait = self._wait, min(2 * self._wait, LONGEST_S)
        self._due_at = self._steady() + wait
        return wait

    def succeeded(self) -> None:
        """Let the next attempts be due at once."""
        self._wait, self._due_at = FIRST_S, self._steady()
