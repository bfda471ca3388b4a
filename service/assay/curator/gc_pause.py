"""Pauses of Python's garbage collector while many long-lived objects are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collection(*, freeze: bool = False) -> Iterator[None]:
    """Pause the garbage collector, which stops every thread while it walks a whole world.

    With `freeze`, everything that exists at the end is exempt from later collections.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        if freeze:
            gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
