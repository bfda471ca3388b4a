"""Reading a stream from any position, across segments, also while it is being written."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from assay.journal.frame import Frame, TornBytes, scan
from assay.journal.layout import NEXT, SEALED, segment_path, segments
from assay.journal.operating_system import REAL, FileOperations

CHUNK = 1 << 20
MAX_BYTES = 16 << 20  # payload bytes per read, unless one record is longer


class StreamReader:
    """Reads a stream's frames in order; if `final`, its writer is dead and nothing will follow."""

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
        self.finished = False  # everything has been read, and nothing will follow
        self._operations = operations

    def read(self, limit: int, most: int = MAX_BYTES) -> list[Frame]:
        """Return up to `limit` frames; then `segment` and `offset` are the end of the last one."""
        frames: list[Frame] = []
        while len(frames) < limit and most > 0:
            # INVARIANT: read before the frames: a segment sealed now does not grow afterwards.
            sealed = self.final or self._following() is not None
            found = self._read_here(limit - len(frames), most, sealed=sealed)
            frames += found
            most -= sum(len(frame.payload) for frame in found)
            if not found:
                following = self._following()
                if not sealed or following is None:
                    self.finished = self.final
                    break
                self.segment, self.offset = following, 0
        return frames

    def _following(self) -> int | None:
        """Return the next segment; a directory listing may miss one that was just renamed."""
        later = [number for number in segments(self.path) if number > self.segment]
        if not later or segment_path(self.path, self.segment + 1).exists():
            return self.segment + 1 if later else None
        return later[0]

    def _read_here(self, limit: int, most: int, *, sealed: bool) -> list[Frame]:
        """Return the next frames; in an unsealed segment, damage may be a frame in progress."""
        try:
            path = segment_path(self.path, self.segment)
            descriptor = self._operations.open(path, os.O_RDONLY, 0)
        except FileNotFoundError:
            return []
        try:
            left = max(os.fstat(descriptor).st_size - self.offset, 0)
            data = self._operations.read(descriptor, min(left, CHUNK), self.offset)
            frames, stuck = self._scan(data, limit, most)
            if stuck and not frames:  # damage, or a frame longer than a chunk
                data = self._operations.read(descriptor, left, self.offset)
                frames, _ = self._scan(data, limit, most, skip=sealed)
            return frames
        finally:
            os.close(descriptor)

    def _scan(
        self, data: bytes, limit: int, most: int, *, skip: bool = False
    ) -> tuple[list[Frame], bool]:
        """Return frames up to the first damage, or beyond with `skip`, and whether it stopped."""
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

    @property
    def read_segments(self) -> list[int]:
        """The segments on disk that were read to their end and do not grow."""
        numbers = segments(self.path)
        ended = numbers if self.final else numbers[:-1]
        return [number for number in ended if number < self.segment + self.finished]

    @property
    def behind(self) -> int:
        """Bytes from here to the end of the last segment."""
        numbers = [self.segment, *segments(self.path), *segments(self.path, NEXT)]
        sizes = [self._size(number) for number in range(self.segment, max(numbers) + 2)]
        return max(sizes[0] - self.offset, 0) + sum(sizes[1:])

    def _size(self, number: int) -> int:
        for ending in (SEALED, NEXT, SEALED):  # again: it may be renamed in between
            with suppress(FileNotFoundError):
                return segment_path(self.path, number, ending).stat().st_size
        return 0
