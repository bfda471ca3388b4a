"""UUIDs of version 7, RFC 9562 §5.7: they sort by time."""

from __future__ import annotations

import os


def uuid7(unix_ms: int) -> str:
    """Return a UUIDv7: milliseconds of Unix time, then 74 random bits."""
    bits = unix_ms << 80 | int.from_bytes(os.urandom(10), "big")
    bits = bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    text = f"{bits:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
