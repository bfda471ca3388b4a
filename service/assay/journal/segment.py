"""One file of a stream as its writer sees it: reserved, appended to, synced, sealed."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock

from assay.journal.layout import NEXT, PRIVATE, SEALED, segment_path
from assay.journal.operating_system import FileOperations

FLAGS = os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_RDWR


class Segment:
    """A file that frames are appended to, linked to the one that follows it."""

    __slots__ = (
        "_closed",
        "_lock",
        "_operations",
        "_path",
        "_permit",
        "_synced",
        "descriptor",
        "end",
        "fault",
        "limit",
        "next",
        "number",
        "stride",
    )

    def __init__(
        self, path: Path, number: int, descriptor: int, limit: int, operations: FileOperations
    ) -> None:
        self.number = number
        self.descriptor = descriptor
        self.limit = (
            limit  # frames begin before it; zero once the segment is not to be used any more
        )
        self.end = 0  # as far as is known: racing threads may leave it behind, never ahead
        self.stride = limit // 256  # bytes a thread may write before it looks the end up
        self.next: Segment | None = None
        self.fault: OSError | None = None  # what was written here may not survive a loss of power
        self._path = path
        self._operations = operations
        self._permit = [True]
        self._lock = Lock()
        self._synced = 0
        self._closed = descriptor < 0

    @property
    def has_room(self) -> bool:
        """Whether a frame may begin here."""
        return self.end < self.limit

    def take_permit(self) -> bool:
        """Say to exactly one caller that it is the one to move the journal on to the next segment."""
        try:
            self._permit.pop()  # INVARIANT: list.pop is atomic; who gets it must set the journal's current segment
        except IndexError:
            return False
        return True

    def sync(self) -> None:
        """Bring what is new to the disk; whether that worked is in `fault`."""
        with self._lock:
            if self._closed:
                return
            try:
                size = os.fstat(self.descriptor).st_size
                if size != self._synced:
                    self._operations.sync_data(self.descriptor)
                    self._synced = size
            except OSError as error:
                self.fault = error  # for good: a second try may succeed without the lost pages
                self.limit = 0

    def seal(self) -> None:
        """Give back the space that was not used and let readers go on to the next segment."""
        # INVARIANT: nobody is inside a write to this segment, nor will be.
        self.sync()
        with self._lock:
            if not self._closed:
                self._closed = True
                try:
                    self._operations.truncate(self.descriptor, os.fstat(self.descriptor).st_size)
                finally:
                    os.close(self.descriptor)

    def reveal(self) -> None:
        """Take the ending that tells readers that all segments before are sealed."""
        revealed = segment_path(self._path, self.number, SEALED)
        if not revealed.exists():
            self._operations.rename(segment_path(self._path, self.number, NEXT), revealed)
            self._operations.sync_directory(self._path)

    def discard(self) -> None:
        """Remove a segment that never was appended to."""
        self._closed = True
        os.close(self.descriptor)
        self._operations.unlink(segment_path(self._path, self.number, NEXT))


def prepare(path: Path, number: int, size: int, operations: FileOperations) -> Segment:
    """Reserve the space of a segment; the last quarter is for frames begun at the limit by many threads at once."""
    file = segment_path(path, number, NEXT)
    descriptor = operations.open(file, FLAGS, PRIVATE)
    try:
        operations.reserve(descriptor, size)
        operations.sync_directory(path)
    except OSError:
        os.close(descriptor)
        operations.unlink(file)
        raise
    return Segment(path, number, descriptor, size * 3 // 4, operations)


def nowhere(path: Path, operations: FileOperations) -> Segment:
    """The segment without room that a journal begins and ends with."""
    return Segment(path, 0, -1, 0, operations)
