"""Which segment is appended to, and how threads move on to the next one without a lock."""

from __future__ import annotations

import time
from itertools import takewhile
from pathlib import Path
from threading import Thread, current_thread

from assay.journal.operating_system import FileOperations
from assay.journal.segment import Segment, nowhere, prepare

RETRY = 0.1  # seconds between attempts to reserve space where there was none


class WriterSlot:
    """What one thread does at the moment, and what it has done: written by that thread alone."""

    __slots__ = ("ahead", "appended", "inside", "refused", "thread", "torn")

    def __init__(self, thread: Thread | None = None) -> None:
        self.thread = thread
        self.inside: Segment | None = None
        self.ahead = 0  # bytes written since the end of the segment was looked up
        self.appended = 0
        self.refused = 0
        self.torn = 0


class Rotation:
    """The segments of a stream from the oldest that is not sealed to the one reserved ahead."""

    def __init__(self, path: Path, size: int, operations: FileOperations) -> None:
        self.path = path
        self.current = nowhere(path, operations)
        self.unsealed: tuple[Segment, ...] = (self.current,)  # replaced, never changed
        self.trouble: OSError | None = None  # why no segment is reserved ahead
        self.slots: list[WriterSlot] = []
        self._size = size
        self._operations = operations
        self._retry_at = 0.0

    def join(self) -> WriterSlot:
        """Give the calling thread its slot."""
        slot = WriterSlot(current_thread())
        self.slots.append(slot)
        return slot

    def enter(self, slot: WriterSlot) -> Segment:
        """Say which segment the thread writes to; it leaves by clearing `slot.inside`."""
        while True:
            segment = self.current
            slot.inside = segment
            # INVARIANT: looked at again after publishing: who moved the journal on before may have seen no one inside.
            if self.current is segment:
                return segment

    def move_on(self, segment: Segment) -> bool:
        """Leave a segment for the next, if that is there; whoever comes second finds it done."""
        if segment.next is None:
            return False
        if segment.take_permit():
            self.current = segment.next
        return True

    def reserve_ahead(self) -> None:
        """Have a segment ready behind the one in use."""
        last = self.unsealed[-1]
        if last is not self.current:
            self.trouble = None
            return
        if time.monotonic() < self._retry_at:
            return
        try:
            following = prepare(self.path, last.number + 1, self._size, self._operations)
        except OSError as error:
            self.trouble = error
            self._retry_at = time.monotonic() + RETRY
            return
        self.unsealed = (*self.unsealed, following)  # first known to who syncs, then to who writes
        last.next = following
        self.trouble = None

    def seal_left(self) -> None:
        """Seal, in order, the segments that nobody will write to any more."""
        for segment in takewhile(self._is_left, self.unsealed):
            segment.seal()
            if segment.next is not None:
                segment.next.reveal()
            self.unsealed = self.unsealed[1:]

    def _is_left(self, segment: Segment) -> bool:
        return segment is not self.current and all(
            slot.inside is not segment for slot in tuple(self.slots)
        )

    def tidy(self) -> None:
        """One round of the janitor."""
        self.reserve_ahead()
        if not self.current.has_room and self.move_on(self.current):
            self.reserve_ahead()
        self.seal_left()

    def end(self) -> Segment:
        """Let no thread in any more; says which segment was the last."""
        final = nowhere(self.path, self._operations)
        while True:
            last = self.current
            if last is final or last.take_permit():
                self.current = final
                return last
            time.sleep(0)  # another thread is about to move on

    def wind_up(self, last: Segment) -> None:
        """After the end, with no thread inside any more: seal everything and remove what was reserved for nothing."""
        spare, last.next = last.next, None
        if spare is not None:
            self.unsealed = self.unsealed[:-1]
            spare.discard()
        self.seal_left()
