"""The windows that one source observed of one endpoint: no instant may count twice."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from datetime import datetime

from assay.engine.catalog import Observation

Window = tuple[datetime, datetime]


def window_of(observation: Observation) -> Window:
    """Return the half-open window an observation speaks of."""
    return observation.observed_from, observation.observed_to


def spelled(window: Window) -> str:
    """Show a window in a message."""
    return "/".join(each.isoformat().replace("+00:00", "Z") for each in window)


class Windows:
    """Windows that do not overlap, in order of time."""

    def __init__(self, windows: Iterable[Window] = ()) -> None:
        self._sorted = sorted(windows)

    def overlapping(self, window: Window) -> Window | None:
        """Find a window that shares an instant with this one but has other bounds."""
        place = bisect_left(self._sorted, window)
        for near in self._sorted[max(place - 1, 0) : place + 2]:
            if near != window and near[0] < window[1] and window[0] < near[1]:
                return near
        return None

    def add(self, window: Window) -> None:
        """Take a window in, once."""
        place = bisect_left(self._sorted, window)
        if self._sorted[place : place + 1] != [window]:
            insort(self._sorted, window)
