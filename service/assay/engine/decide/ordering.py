"""Sort keys and weighted draws that anyone can recompute from the seed.

A weighted draw without replacement is a race (Efraimidis and Spirakis 2006): each endpoint draws an
exponential time with its weight as the rate, and the earliest comes first. The time depends on the
seed and the endpoint id alone. When an endpoint joins or leaves, only the sessions move that it
wins or had.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

from assay.engine.policy.compile import CheckedKey

SortKey = tuple[int, float]
LAST: SortKey = (3, 0.0)
LN_2 = 0.6931471805599453
SQRT_HALF = 0.7071067811865476
SERIES = tuple(1.0 / odd for odd in range(23, 2, -2))


def comparable_columns(
    keys: Iterable[tuple[CheckedKey, Sequence[object]]], ids: Sequence[str], seed: bytes
) -> list[list[SortKey]]:
    """Return each order key's values of the endpoints `ids`, as pairs that compare."""
    return [
        draw_keys(column, ids, seed) if key.draws else sort_keys(column, descending=key.descending)
        for key, column in keys
    ]


def sort_keys(column: Sequence[object], *, descending: bool) -> list[SortKey]:
    """Return one key's values, smallest first; missing, failed and NaN always come last."""
    sign = -1.0 if descending else 1.0
    return [
        (0, sign * value)
        if isinstance(value, (int, float)) and value == value  # noqa: PLR0124 - false for NaN alone
        else LAST
        for value in column
    ]


def draw_keys(column: Sequence[object], ids: Sequence[str], seed: bytes) -> list[SortKey]:
    """Return a key per weight; they sort as infinite, drawn, zero, missing or negative."""
    race = ExponentialRace(seed)
    return [draw_key(weight, name, race) for weight, name in zip(column, ids, strict=True)]


def draw_key(weight: object, endpoint_id: str, race: ExponentialRace) -> SortKey:
    """Return one weight's key; the keys that follow decide between equal ones."""
    if not isinstance(weight, (int, float)) or not weight >= 0:
        return LAST
    if weight == 0:
        return (2, 0.0)
    if weight == math.inf:
        return (0, race.time(endpoint_id))
    return (1, race.time(endpoint_id) / weight)


class ExponentialRace:
    """Exponential times by endpoint, from a seed."""

    __slots__ = ("_start",)

    def __init__(self, seed: bytes) -> None:
        self._start = hashlib.blake2b(key=seed, digest_size=8)

    def time(self, endpoint_id: str) -> float:
        """Return -ln(u), u being the top 53 bits of the id's BLAKE2b keyed by the seed."""
        mac = self._start.copy()
        mac.update(endpoint_id.encode())
        return minus_log(((int.from_bytes(mac.digest(), "big") >> 11) + 0.5) * 2.0**-53)


def minus_log(u: float) -> float:
    """Return -ln(u) for 0 < u < 1 with +, × and ÷ alone, hence the same double on every machine.

    With u = m·2^e and z = (m - 1)/(m + 1): ln u = e·ln 2 + 2·(z + z³/3 + z⁵/5 + …), |z| ≤ 0.172.
    """
    m, e = math.frexp(u)
    if m < SQRT_HALF:
        m, e = m * 2.0, e - 1
    z = (m - 1.0) / (m + 1.0)
    square = z * z
    tail = 0.0
    for term in SERIES:
        tail = (tail + term) * square
    return -(e * LN_2 + 2.0 * z * (1.0 + tail))


def uniform_of(seed: bytes) -> float:
    """Return a number from 0 to below 1 that depends on the seed alone."""
    digest = hashlib.blake2b(key=seed, digest_size=8, person=b"assay.draw").digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


def seed_for(seed: bytes, tenant: str, model: str, session_id: str, decision_id: str) -> bytes:
    """Return the request's seed, or one per session, or one per decision; 32 bytes.

    The parts are length-prefixed, so that no two requests spell the same input.
    """
    if seed:
        return seed
    parts = (tenant, model, session_id) if session_id else ("", "", decision_id)
    text = b"".join(len(p.encode()).to_bytes(4, "big") + p.encode() for p in parts)
    return hashlib.blake2b(text, digest_size=32, person=b"assay.seed").digest()
