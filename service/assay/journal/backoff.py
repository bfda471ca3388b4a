"""Exponential backoff with full jitter, for everything that retries."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

_MAX_DOUBLINGS = 60


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after failures, in seconds; `draw` returns a number from 0 to 1."""

    first: float = 0.1
    longest: float = 5.0
    draw: Callable[[], float] = random.random

    def wait(self, failures: int) -> float:
        """Return the wait after so many failures in a row, at least one."""
        doublings = min(failures - 1, _MAX_DOUBLINGS)
        return self.draw() * min(self.longest, self.first * 2.0**doublings)
