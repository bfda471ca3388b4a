"""One spelling for every value: canonical JSON bytes and their content address."""

from __future__ import annotations

import hashlib
import json


def canonical(value: object) -> bytes:
    """JSON with sorted keys, no spaces, shortest-repr doubles and UTF-8; refuses NaN and infinities."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def address(data: bytes) -> str:
    """The SHA-256 of bytes, in hex: the name of a part, a snapshot, a policy."""
    return hashlib.sha256(data).hexdigest()
