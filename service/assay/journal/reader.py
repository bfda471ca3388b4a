"""Reading a stream from any place on, across its segments, also while it is being written."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from assay.journal.frame import Frame, TornBytes, scan
from assay.journal.layout import NEXT, SEALED, remove, segment_path, segments
from assay.journal.operating_system import REAL, FileOperations

CHUNK = 1 << 20
MOST = 16 << 20  # bytes of payload handed out at once, or one record


class StreamReader:
    """Reads a stream's frames in order; `final` says that its writer is gone and nothing will follow."""

    def __init__(
        self,
        path: Path,
        segment: int = 1,
        offset: int = 0,
        *,
        final: bool = False,
        operations: FileOperations = REAL,
    ) -> None:
        self.path = path
        self.segment = segment
        self.offset = offset
        self.final = final
        self.torn = 0
        self.finished = False  # everything there will ever be has been read
        self._operations = operations

    def read(self, limit: int, most: int = MOST) -> list[Frame]:
        """Up to `limit` frames; afterwards `segment` and `offset` say where the last one ended."""
        frames: list[Frame] = []
        while len(frames) < limit and most > 0:
            sealed = (
                self._sealed()
            )  # INVARIANT: asked before reading; what is sealed then does not grow after
            found = self._read_here(limit - len(frames), most, sealed=sealed)
            frames += found
            most -= sum(len(frame.payload) for frame in found)
            if not found and not self._step(sealed=sealed):
                break
        return frames

    def _sealed(self) -> bool:
        return self.final or self._following() is not None

    def _step(self, *, sealed: bool) -> bool:
        """Go on to the next segment when there is no more in this one."""
        following = self._following()
        if sealed and following is not None:
            self.segment, self.offset = following, 0
            return True
        self.finished = self.final
        return False

    def _following(self) -> int | None:
        """The next segment that is there: they are revealed in order, though a listing may miss one that just was."""
        later = [number for number in segments(self.path) if number > self.segment]
        if not later or segment_path(self.path, self.segment + 1).exists():
            return self.segment + 1 if later else None
        return later[0]

    def _read_here(self, limit: int, most: int, *, sealed: bool) -> list[Frame]:
        """The next frames of this segment; in one that may grow, damage might be a frame on its way."""
        try:
            descriptor = self._operations.open(
                segment_path(self.path, self.segment), os.O_RDONLY, 0
            )
        except FileNotFoundError:
            return []
        try:
            left = max(os.fstat(descriptor).st_size - self.offset, 0)
            frames, stuck = self._scan(
                os.pread(descriptor, min(left, CHUNK), self.offset), limit, most
            )
            if stuck and not frames:  # a frame that is longer than a chunk, or damage
                data = os.pread(descriptor, left, self.offset)
                frames, _ = self._scan(data, limit, most, skip=sealed)
            return frames
        finally:
            os.close(descriptor)

    def _scan(
        self, data: bytes, limit: int, most: int, *, skip: bool = False
    ) -> tuple[list[Frame], bool]:
        """Frames from the offset on, up to the first damage unless told to skip it; and whether damage was met."""
        frames: list[Frame] = []
        for found in scan(data, base=self.offset):
            if isinstance(found, TornBytes):
                if not skip:
                    return frames, True
                self.torn += 1
            else:
                frames.append(found)
                most -= len(found.payload)
            self.offset = found.end
            if len(frames) == limit or most <= 0:
                break
        return frames, False

    def remove_before(self, segment: int) -> int:
        """Delete the segments before this one, except what may still be written to; says how many."""
        numbers = segments(self.path)
        gone = [
            number
            for number in numbers
            if number < segment and (self.final or number < numbers[-1])
        ]
        for number in gone:
            remove(segment_path(self.path, number), self._operations)
        return len(gone)

    @property
    def behind(self) -> int:
        """Bytes from here to the end of all segments, sealed or not."""
        numbers = [self.segment, *segments(self.path), *segments(self.path, NEXT)]
        sizes = [self._size(number) for number in range(self.segment, max(numbers) + 2)]
        return max(sizes[0] - self.offset, 0) + sum(sizes[1:])

    def _size(self, number: int) -> int:
        for ending in (SEALED, NEXT, SEALED):  # once more: it may have been renamed in between
            with suppress(FileNotFoundError):
                return segment_path(self.path, number, ending).stat().st_size
        return 0
