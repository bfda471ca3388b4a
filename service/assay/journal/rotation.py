"""Which segment is appended to, and how threads move to the next one without a lock.

How it works
------------
Appending must not take a lock: hundreds of threads append at once, and one stalled thread must not
stop the others. Segments form a linked list; `current` is the one to append to, and the janitor
reserves the next one ahead of time.

A thread announces the segment in its own slot (`slot.inside`) before it writes and clears the slot
afterwards. It reads `current` again after announcing: if the journal moved on in between, no one
may have seen the announcement, and the thread starts over. Appends to one file are atomic
(O_APPEND), so threads in the same segment do not disturb each other.

When a segment is full, each thread tries to move the journal on. Exactly one takes the segment's
permit (`list.pop` is atomic) and sets `current`; the others find it done.

The janitor seals segments in order: a segment is sealed when it is not current and no slot is
inside it. From then on no thread writes to it; renaming its successor to `.seg` shows that.

INVARIANT: `current` only moves forward, and only its thread writes a slot. Both depend on the
atomic loads and stores of references that CPython guarantees.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread, current_thread

from assay.journal.operating_system import FileOperations
from assay.journal.segment import Segment, nowhere, prepare

RETRY = 0.1  # seconds between attempts to reserve space where there was none
LOOK = 0.05  # seconds between looks whether the files were moved


class WriterSlot:
    """What one thread is doing and has done; only that thread writes it."""

    __slots__ = ("ahead", "appended", "inside", "refused", "thread", "torn")

    def __init__(self, thread: Thread | None = None) -> None:
        self.thread = thread
        self.inside: Segment | None = None
        self.ahead = 0  # bytes written since the segment's end was read
        self.appended = 0
        self.refused = 0
        self.torn = 0


class Rotation:
    """The segments of a stream, from the oldest unsealed one to the one reserved ahead."""

    def __init__(
        self,
        path: Path,
        size: int,
        operations: FileOperations,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.current = nowhere(path, operations)
        self.unsealed: tuple[Segment, ...] = (self.current,)  # replaced, never mutated
        self.trouble: OSError | None = None  # why no segment is reserved ahead
        self.fault: OSError | None = None  # of the last segment that could not be synced
        self.fault_at = 0.0
        self.faults = 0
        self.slots: list[WriterSlot] = []
        self._steady = steady
        self._size = size
        self._operations = operations
        self._retry_at = self._look_at = 0.0

    def join(self) -> WriterSlot:
        """Return a new slot for the calling thread."""
        slot = WriterSlot(current_thread())
        self.slots.append(slot)
        return slot

    def enter(self, slot: WriterSlot) -> Segment:
        """Return the segment to write to; the thread leaves it by clearing `slot.inside`."""
        while True:
            segment = self.current
            slot.inside = segment
            # INVARIANT: read again after the announcement: an earlier move may not have seen it.
            if self.current is segment:
                return segment

    def move_on(self, segment: Segment) -> bool:
        """Move the journal from a segment to the next; return False if that is not reserved yet."""
        if segment.next is None:
            return False
        if segment.take_permit():
            self.current = segment.next
        return True

    def reserve_ahead(self) -> None:
        """Reserve the segment after the current one, if there is none."""
        last = self.unsealed[-1]
        if last is not self.current:
            self.trouble = None
            return
        if self._steady() < self._retry_at:
            return
        try:
            following = prepare(self.path, last.number + 1, self._size, self._operations)
        except OSError as error:
            self.trouble = error
            self._retry_at = self._steady() + RETRY
            return
        self.unsealed = (*self.unsealed, following)  # the syncer must know it before writers do
        last.next = following
        self.trouble = None

    def sync(self) -> None:
        """Sync every segment that is not sealed yet."""
        now = self._steady()
        looks = now >= self._look_at
        if looks:
            self._look_at = now + LOOK
        for segment in self.unsealed:
            segment.sync(looks=looks)
            self._note_fault(segment)

    def _note_fault(self, segment: Segment) -> None:
        fault = segment.fault
        is_new = fault is not None and fault is not self.fault
        if is_new and not isinstance(fault, FileNotFoundError):  # a deleted file is written again
            self.fault, self.fault_at = fault, self._steady()
            self.faults += 1

    def close_deleted(self) -> None:
        """Close all segments to new frames, since their files were deleted."""
        for segment in self.unsealed:
            segment.limit = 0

    def seal_left(self) -> None:
        """Seal, in order, the segments that no thread writes to any more."""
        for segment in self.unsealed:
            if segment is self.current or any(s.inside is segment for s in tuple(self.slots)):
                break
            segment.seal()
            self._note_fault(segment)
            if segment.next is not None:
                segment.next.reveal()
            self.unsealed = self.unsealed[1:]

    def tidy(self) -> None:
        """Run one round of the janitor."""
        self.reserve_ahead()
        if not self.current.has_room and self.move_on(self.current):
            self.reserve_ahead()
        self.seal_left()

    def end(self) -> Segment:
        """Let no thread enter any more; return the last segment."""
        while True:
            last = self.current
            if last.take_permit():
                self.current = nowhere(self.path, self._operations)
                return last
            time.sleep(0)  # another thread is about to move on

    def wind_up(self, last: Segment) -> None:
        """Seal every segment and delete the reserved one, after `end` and with no thread inside."""
        spare, last.next = last.next, None
        if spare is not None:
            self.unsealed = self.unsealed[:-1]
            spare.discard()
        self.seal_left()
