"""The thread that brings what was written to the disk: every few milliseconds, or at once for those who wait for it."""

from __future__ import annotations

from threading import Condition, Lock, Thread

from assay.journal.rotation import Rotation
from assay.journal.segment import Segment


class Round:
    """Those who wait for the same sync."""

    __slots__ = ("settled", "wanted")

    def __init__(self) -> None:
        self.wanted = False
        self.settled = False


class Syncer:
    """Syncs all segments that have something new, one round after the other."""

    def __init__(self, rotation: Rotation, tick: float) -> None:
        self._rotation = rotation
        self._tick = tick
        self._open = Round()
        self._stopping = self._stopped = False
        lock = Lock()
        self._work, self._done = Condition(lock), Condition(lock)
        self._thread = Thread(target=self._run, name="journal-syncer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Sync once more what there is, settle with those who wait, and end."""
        with self._work:
            self._stopping = True
            self._work.notify()
        self._thread.join()

    def commit(self, segment: Segment) -> None:
        """Wait until what the caller wrote to the segment is on the disk, unless its fault says that it is not."""
        with self._work:
            if not self._stopped:
                joined = self._open
                if not joined.wanted:
                    joined.wanted = True
                    self._work.notify()
                self._done.wait_for(lambda: joined.settled)
                return
        segment.sync()

    def _run(self) -> None:
        while not self._stopped:
            with self._work:
                if not (self._open.wanted or self._stopping):
                    self._work.wait(self._tick)
                now, self._open = self._open, Round()
            for segment in (
                self._rotation.unsealed
            ):  # INVARIANT: looked up after the round was closed to others
                segment.sync()
            with self._work:
                now.settled = True
                self._done.notify_all()
                self._stopped = self._stopping and not self._open.wanted
