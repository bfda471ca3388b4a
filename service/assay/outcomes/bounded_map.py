"""A mapping of bounded size that forgets its oldest entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedMap(Generic[Key, Value]):
    """Holds at least the newest `size` entries and at most twice as many.

    Threads may share it without a lock, which a cache of cachetools would need. A race may lose
    entries, so its users must not rely on finding one.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._newer: dict[Key, Value] = {}
        self._older: dict[Key, Value] = {}

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, if it is still there."""
        found = self._newer.get(key)
        return self._older.get(key) if found is None else found

    def __len__(self) -> int:
        """How many entries there are; those that were set again count twice for a while."""
        return len(self._newer) + len(self._older)

    def update(self, entries: Mapping[Key, Value]) -> None:
        """Add entries; when the newer half is full, the older half is forgotten."""
        newer = self._newer
        newer.update(entries)
        if len(newer) >= self._size:
            self._newer, self._older = {}, newer
