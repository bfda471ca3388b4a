"""What was made before and may be wanted again, bounded by what it weighs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


class Shelf(Generic[Key, Made]):
    """Things made from keys, in two rows: what is wanted moves to the front, and a full front row becomes the back one.

    So what was not wanted for longest goes first, and a hit in the front row is one look-up, without a lock. What
    weighs more than half the shelf is never held.
    """

    def __init__(self, make: Callable[[Key], tuple[Made, int]], most: int) -> None:
        self._make = make
        self._row = most // 2
        self._front: dict[Key, tuple[Made, int]] = {}
        self._back: dict[Key, tuple[Made, int]] = {}
        self._weight = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._front.keys() | self._back.keys())

    def get(self, key: Key) -> Made:
        """What is made from a key, once as long as it is held."""
        return (self._front.get(key) or self._fetched(key))[0]

    def _fetched(self, key: Key) -> tuple[Made, int]:
        found = self._back.get(key) or self._make(key)
        with self._lock:
            if key not in self._front and found[1] <= self._row:
                if self._weight + found[1] > self._row:
                    self._back, self._front, self._weight = self._front, {}, 0
                self._front[key] = found
                self._weight += found[1]
        return found
