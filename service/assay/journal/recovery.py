"""Repairing the streams that dead processes left.

How it works
------------
A process can die at any instruction, and with it the machine. Three things may be left:

- A segment reserved ahead (`.next`). If it holds frames, the crash came after a thread moved on and
  before the segment in front was sealed: it is renamed to `.seg`. If it is empty, it is deleted.
- A torn frame at the end of a segment: an append that was cut short. It was never acknowledged, so
  it is cut off, and the next reader does not have to guess whether more is coming.
- Damage in the middle: a short write that was rejected, followed by other threads' frames. It is
  counted and skipped; frames carry a marker and a checksum, so that the next one is found.

Recovery is idempotent: a crash during recovery only means that it runs again. The stream is claimed
while it is repaired, so that a living process's stream is never touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

from assay.journal.frame import Frame, TornBytes, scan
from assay.journal.layout import NEXT, StreamClaim, claim_stream, segment_path, segments, streams
from assay.journal.operating_system import REAL, FileOperations


@dataclass(frozen=True, slots=True)
class RecoveredStream:
    """What was found in a stream: `cut_bytes` at the ends of segments, `torn_frames` anywhere."""

    stream: str
    frames: int
    cut_bytes: int
    torn_frames: int


def recover(directory: Path, operations: FileOperations = REAL) -> list[RecoveredStream]:
    """Repair every abandoned stream; return what was found in each."""
    recovered: list[RecoveredStream] = []
    for stream in streams(directory):
        claim = claim_stream(directory / stream, operations)
        if claim is None:
            continue
        try:
            recovered.append(recover_stream(claim, operations))
        finally:
            claim.release()
    return recovered


def recover_stream(claim: StreamClaim, operations: FileOperations = REAL) -> RecoveredStream:
    """Repair one stream; safe to repeat."""
    is_changed = False
    for number in segments(claim.path, NEXT):
        is_changed = True
        ahead = segment_path(claim.path, number, NEXT)
        if ahead.stat().st_size:
            operations.rename(ahead, segment_path(claim.path, number))
        else:
            operations.unlink(ahead)
    frames = cut = torn = 0
    for number in segments(claim.path):
        path = segment_path(claim.path, number)
        for found in _scanned(path):
            if isinstance(found, TornBytes):
                torn += 1
                if found.end == path.stat().st_size:
                    descriptor = operations.open(path, os.O_RDWR, 0)
                    try:
                        operations.truncate(descriptor, found.offset)
                        operations.sync_data(descriptor)
                    finally:
                        os.close(descriptor)
                    cut += found.end - found.offset
            else:
                frames += 1
    if is_changed:
        with suppress(FileNotFoundError):
            operations.sync_directory(claim.path)
    return RecoveredStream(claim.path.name, frames, cut, torn)


def _scanned(path: Path) -> Iterator[Frame | TornBytes]:
    if path.stat().st_size == 0:
        return  # an empty file cannot be mapped
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        found: Frame | TornBytes | None = None
        for found in scan(data):
            if isinstance(found, Frame) or found.end < len(data):
                yield found
    if isinstance(found, TornBytes):
        yield found  # the tail, after unmapping: the caller truncates the file
