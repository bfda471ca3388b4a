"""Frames: the format of a record in a segment, and how frames are found again after damage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from struct import Struct
from zlib import crc32

# UTF-8 contains neither \xff nor \xfe, so that text inside a record cannot look like a frame.
MARKER = b"\xff\xa5\xfe\x5a"
LARGEST = 16 << 20  # bytes of payload

_HEADER = Struct("<4sIIB")  # marker, length of the payload, CRC-32 of kind and payload, kind
_KIND_CRC = tuple(crc32(bytes([kind])) for kind in range(256))

OVERHEAD = _HEADER.size


@dataclass(frozen=True, slots=True)
class Frame:
    """One record, from `offset` up to `end`."""

    kind: int
    payload: bytes
    offset: int
    end: int


@dataclass(frozen=True, slots=True)
class TornBytes:
    """Bytes that are not a valid frame; at the end of a segment, perhaps one in progress."""

    offset: int
    end: int


def encode(kind: int, payload: bytes) -> bytes:
    """Return the bytes of one frame."""
    return _HEADER.pack(MARKER, len(payload), crc32(payload, _KIND_CRC[kind]), kind) + payload


def scan(data: bytes | mmap, offset: int = 0, *, base: int = 0) -> Iterator[Frame | TornBytes]:
    """Yield frames and the damage between them; `base` is the offset of `data` in the file."""
    size = len(data)
    while offset < size:
        found = _frame(data, offset, base) or _next_frame(data, offset + 1, base)
        if found is None:
            yield TornBytes(base + offset, base + size)
            return
        if found.offset > base + offset:
            yield TornBytes(base + offset, found.offset)
        yield found
        offset = found.end - base


def _frame(data: bytes | mmap, offset: int, base: int) -> Frame | None:
    size = len(data)
    start = offset + OVERHEAD
    if start > size:
        return None
    marker, length, crc, kind = _HEADER.unpack_from(data, offset)
    end = start + length
    if marker != MARKER or length > LARGEST or end > size:
        return None
    payload = data[start:end]
    if crc32(payload, _KIND_CRC[kind]) != crc:
        return None
    return Frame(kind, payload, base + offset, base + end)


def _next_frame(data: bytes | mmap, offset: int, base: int) -> Frame | None:
    while (offset := data.find(MARKER, offset)) >= 0:
        if found := _frame(data, offset, base):
            return found
        offset += 1
    return None
