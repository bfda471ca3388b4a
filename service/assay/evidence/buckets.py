"""Fixed logarithmic buckets for times and speeds: four to an octave, so that a bucket tells a value within a tenth."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

OCTAVES: Final = 34
PER_OCTAVE: Final = 4
LOWS: Final = tuple(sorted({0, *(round(2.0 ** (step / PER_OCTAVE)) for step in range(OCTAVES * PER_OCTAVE + 1))}))
"""The least whole number of each bucket; small numbers have a bucket each, the last one has no end."""


def bucket_of(value: int) -> int:
    """The bucket of a whole number, zero or more."""
    return bisect_right(LOWS, value) - 1


def bounds(bucket: int) -> tuple[int, int]:
    """The least number of a bucket, and of the one after it; the last is taken to be as wide as its neighbour."""
    low = LOWS[bucket]
    return low, LOWS[bucket + 1] if bucket + 1 < len(LOWS) else 2 * low - LOWS[bucket - 1]
