"""Canonical JSON, in which equal values have equal bytes, and content addresses."""

from __future__ import annotations

import hashlib
import json


def canonical(value: object) -> bytes:
    """Return JSON with sorted keys, no spaces, shortest-repr doubles and UTF-8.

    Raises ValueError for NaN and infinities.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def address(data: bytes) -> str:
    """Return the SHA-256 of bytes in hex, which names a part, a snapshot or a policy."""
    return hashlib.sha256(data).hexdigest()
