"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE_SECONDS = 60.0

T = TypeVar("T")


def eventually(
    look: Callable[[], T], holds: Callable[[T], object] = bool, *, pause_seconds: float = 0.01
) -> T:
    """Call `look` until its result satisfies `holds`, and return that result."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds(seen := look()):
        assert time.monotonic() < deadline, f"still {seen!r} after {DEADLINE_SECONDS:.0f} s"
        time.sleep(pause_seconds)
    return seen
