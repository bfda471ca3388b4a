"""Putting in order what a process left behind that is gone: torn tails are cut, and said to be."""

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
    """What was found of a stream; cut is what lay behind the last frame of a segment, torn is all that is damaged."""

    stream: str
    frames: int
    cut_bytes: int
    torn_frames: int


def recover(directory: Path, operations: FileOperations = REAL) -> list[RecoveredStream]:
    """Put every stream in order whose process is gone; those of living processes are left alone."""
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
    """Put one stream in order, as often as needed."""
    for number in segments(
        claim.path, NEXT
    ):  # reserved ahead: the crash came before the segment in front was sealed
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
                    _cut(path, found.offset, operations)
                    cut += found.end - found.offset
            else:
                frames += 1
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
        yield found  # the tail, with the file no longer mapped: it is about to be cut


def _cut(path: Path, size: int, operations: FileOperations) -> None:
    descriptor = operations.open(path, os.O_RDWR, 0)
    try:
        operations.truncate(descriptor, size)
        operations.sync_data(descriptor)
    finally:
        os.close(descriptor)
