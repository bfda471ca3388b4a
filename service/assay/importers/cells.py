"""Readers of external values; a rejection states the field, the value and what was expected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from assay.engine.errors import quoted

MTOK = Decimal(1_000_000)
MANY_WORDS = 128
DEAREST_USD = Decimal(10_000)
"""The limit of a price per million tokens, request or image; the highest listed one is 600."""

_LONGEST_TIME = 40  # in characters; no valid time is longer
_MOST = 2**53  # the largest count that is exact in every language


class InvalidItemError(Exception):
    """An item that is rejected; the reason goes into a `Rejection`."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field}: {quoted(value)} is not {expected}")


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a name: plain ASCII, so that names that look alike are equal."""

    pattern: re.Pattern[str]
    longest: int
    expected: str

    def __call__(self, field: str, text: str) -> str:
        """Read a name of this form."""
        if len(text) > self.longest or not self.pattern.fullmatch(text):
            raise InvalidItemError(field, text, self.expected)
        return text


MODEL = Form(
    re.compile(r"~?[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)+(:[A-Za-z0-9][\w.-]*)*", re.ASCII),
    200,
    "a model id such as author/slug",
)
PROVIDER = Form(
    re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII), 100, "a provider slug such as deepinfra"
)
TAG = Form(
    re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*", re.ASCII),
    200,
    "an endpoint tag such as deepinfra/fp8",
)
WORD = Form(
    re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII), 64, "a plain word of at most 64 characters"
)
TENANT = Form(
    re.compile(r"[A-Za-z0-9][\w.:@/-]*", re.ASCII), 128, "a plain name of at most 128 characters"
)

WHOLE = re.compile(r"[0-9]{1,16}", re.ASCII)
_SIGNED = re.compile(r"-?[0-9]{1,6}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
_TRUTH = {"true": True, "false": False}


def title(field: str, text: str) -> str:
    """Read a display name: any script, one printable line."""
    if len(text) > 200 or not text.isprintable():  # noqa: PLR2004 - stated in the message
        raise InvalidItemError(field, text, "a printable name of at most 200 characters")
    return text


def whole(field: str, text: str) -> int:
    """Read a count."""
    if not WHOLE.fullmatch(text) or int(text) > _MOST:
        raise InvalidItemError(field, text, "a whole number from 0 to 2^53")
    return int(text)


def signed(field: str, text: str) -> int:
    """Read a short whole number that may be negative."""
    if not _SIGNED.fullmatch(text):
        raise InvalidItemError(field, text, "a whole number")
    return int(text)


def decimal(field: str, text: str) -> Decimal:
    """Read an exact number that is not negative, NaN or infinite."""
    if not _DECIMAL.fullmatch(text):
        raise InvalidItemError(field, text, "a number that is zero or more")
    return Decimal(text)


def usd(field: str, text: str) -> float:
    """Read a price per million tokens, or per request or image."""
    expected = f"a price of at most {DEAREST_USD} USD: is the unit right?"
    return _at_most(DEAREST_USD, field, text, expected)


def percent(field: str, text: str) -> float:
    """Read a percentage; 0.5 means half a percent, never a fraction."""
    return _at_most(Decimal(100), field, text, "a percentage from 0 to 100")


def positive(field: str, text: str) -> float:
    """Read a measurement such as seconds or tokens per second."""
    return _at_most(Decimal(10**9), field, text, "a number of at most 10^9")


def _at_most(limit: Decimal, field: str, text: str, expected: str) -> float:
    amount = decimal(field, text)
    if amount > limit:
        raise InvalidItemError(field, text, expected)
    return float(amount)


def truth(field: str, text: str, words: Mapping[str, bool] = _TRUTH) -> bool:
    """Read `true` or `false`, or one of other `words`."""
    value = words.get(text.lower())
    if value is None:
        raise InvalidItemError(field, text, f"one of {', '.join(words)}")
    return value


def collection(field: str, text: str) -> bool:
    """Read whether data is collected: true, false, or OpenRouter's allow and deny."""
    return truth(field, text, {**_TRUTH, "allow": True, "deny": False})


def moment(field: str, text: str) -> datetime:
    """Read an ISO 8601 time that states its zone; the result is in UTC."""
    try:
        time = datetime.fromisoformat(text) if len(text) <= _LONGEST_TIME else None
        if time is not None and time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidItemError(field, text, "an ISO time with a zone, such as 2026-07-04T00:00:00Z")


def words(field: str, text: str) -> tuple[str, ...]:
    """Read a list of words separated by spaces."""
    parts = text.split()
    if len(parts) > MANY_WORDS:
        raise InvalidItemError(field, text, f"a list of at most {MANY_WORDS}")
    return tuple(WORD(field, part) for part in parts)
