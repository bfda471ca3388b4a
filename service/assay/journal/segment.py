"""One file of a stream as its writer uses it: reserved, appended to, synced, sealed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from threading import Lock

from assay.journal.layout import NEXT, PRIVATE, SEALED, remove, segment_path
from assay.journal.operating_system import FileOperations, is_named

FLAGS = os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_RDWR
_CHUNK = 1 << 20  # bytes copied at a time


class Segment:
    """A file that frames are appended to, linked to its successor."""

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
        self.limit = limit  # frames begin before it; zero closes the segment to new frames
        self.end = 0  # a lower bound of the end: racing threads may set an older value
        self.stride = limit // 256  # bytes a thread writes before it reads the end again
        self.next: Segment | None = None
        self.fault: OSError | None = None  # after it, frames here may not survive a power loss
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
        """Return True to exactly one caller: the one that moves the journal to the next segment."""
        try:
            # INVARIANT: list.pop is atomic; the winner must set the current segment.
            self._permit.pop()
        except IndexError:
            return False
        return True

    def sync(self, *, looks: bool = True) -> None:
        """Sync new bytes to the disk; a failure is stored in `fault`.

        That the file was moved is noticed if it `looks`, that it was deleted in any case.
        """
        with self._lock:
            if self._closed:
                return
            try:
                state = os.fstat(self.descriptor)
                if state.st_size != self._synced:
                    self._operations.sync_data(self.descriptor)
                    self._synced = state.st_size
                is_missing = state.st_nlink == 0 or (looks and not self._is_in_place)
                if is_missing and self.fault is None:
                    raise FileNotFoundError(errno.ENOENT, "the journal's files were deleted")
            except OSError as error:
                self.fault = error  # permanent: a retry may succeed although pages were lost
                self.limit = 0

    def seal(self) -> None:
        """Sync, release the unused space and close the file; write it again if it is missing."""
        # INVARIANT: no thread writes to this segment, now or later.
        self.sync()
        with self._lock:
            if not self._closed:
                if not self._is_in_place:
                    self._write_again()
                self._closed = True
                try:
                    self._operations.truncate(self.descriptor, os.fstat(self.descriptor).st_size)
                finally:
                    os.close(self.descriptor)

    @property
    def _is_in_place(self) -> bool:
        """Whether the file still has its name, and was neither deleted nor moved."""
        # INVARIANT: in this order, since the file may be renamed in between.
        names = (segment_path(self._path, self.number, ending) for ending in (NEXT, SEALED))
        return any(is_named(self.descriptor, name) for name in names)

    def _write_again(self) -> None:
        """Copy a file that was deleted or moved, and that is still open, to its old place."""
        copy = self._operations.open(
            segment_path(self._path, self.number), os.O_CREAT | os.O_TRUNC | os.O_RDWR, PRIVATE
        )
        try:
            offset = 0
            while data := self._operations.read(self.descriptor, _CHUNK, offset):
                if self._operations.write(copy, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                offset += len(data)
            self._operations.sync_data(copy)
        finally:
            os.close(copy)
        self._operations.sync_directory(self._path)

    def reveal(self) -> None:
        """Rename to `.seg`, which shows readers that all earlier segments are sealed."""
        revealed = segment_path(self._path, self.number, SEALED)
        # A file that is missing gets its name when it is sealed.
        if not revealed.exists() and self._is_in_place:
            self._operations.rename(segment_path(self._path, self.number, NEXT), revealed)
            self._operations.sync_directory(self._path)

    def discard(self) -> None:
        """Delete a segment that was never appended to."""
        self._closed = True
        os.close(self.descriptor)
        remove(segment_path(self._path, self.number, NEXT), self._operations)


def prepare(path: Path, number: int, size: int, operations: FileOperations) -> Segment:
    """Reserve a segment; its last quarter is for frames that many threads begin at the limit."""
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
    """Return the full segment that a journal begins and ends with."""
    return Segment(path, 0, -1, 0, operations)
