"""Values typed by others: each is read by its form, or refused with its name, itself and what was expected."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from assay.engine.errors import quoted

MOST = 2**53  # the largest count that stays exact in every language that reads it
MTOK = Decimal(1_000_000)
DEAREST_USD = Decimal(
    10_000
)  # per million tokens, or per request or image; the dearest listed model asks 600
MANY_WORDS = 128


class InvalidItemError(Exception):
    """One item cannot be taken; the reason goes into a `Refusal`, never to the user as an error."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field}: {quoted(value)} is not {expected}")


@dataclass(frozen=True, slots=True)
class Form:
    """How a name must be spelled: plain ASCII, so that two names that look alike are alike."""

    pattern: re.Pattern[str]
    longest: int
    expected: str


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
SIGNED = re.compile(r"-?[0-9]{1,6}", re.ASCII)
DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
TRUTH = {"true": True, "false": False}


def named(field: str, text: str, form: Form) -> str:
    """Read a name of the given form."""
    if len(text) > form.longest or not form.pattern.fullmatch(text):
        raise InvalidItemError(field, text, form.expected)
    return text


def title(field: str, text: str) -> str:
    """Read a name for people: any script, one printable line."""
    if len(text) > 200 or not text.isprintable():  # noqa: PLR2004 - stated in the message
        raise InvalidItemError(field, text, "a printable name of at most 200 characters")
    return text


def whole(field: str, text: str) -> int:
    """Read a count."""
    if not WHOLE.fullmatch(text) or int(text) > MOST:
        raise InvalidItemError(field, text, "a whole number from 0 to 2^53")
    return int(text)


def signed(field: str, text: str) -> int:
    """Read a small code that may be negative."""
    if not SIGNED.fullmatch(text):
        raise InvalidItemError(field, text, "a whole number")
    return int(text)


def decimal(field: str, text: str) -> Decimal:
    """Read an exact number that is not negative, NaN or infinite."""
    if not DECIMAL.fullmatch(text):
        raise InvalidItemError(field, text, "a number that is zero or more")
    return Decimal(text)


def usd(field: str, text: str) -> float:
    """Read a price per million tokens or per piece."""
    amount = decimal(field, text)
    if amount > DEAREST_USD:
        raise InvalidItemError(
            field, text, f"a price of at most {DEAREST_USD} USD: is the unit right?"
        )
    return float(amount)


def percent(field: str, text: str) -> float:
    """Read a percentage; a value between 0 and 1 is taken as less than one per cent, never as a fraction."""
    amount = decimal(field, text)
    if amount > 100:  # noqa: PLR2004 - a hundred per cent
        raise InvalidItemError(field, text, "a percentage from 0 to 100")
    return float(amount)


def positive(field: str, text: str) -> float:
    """Read a measurement such as seconds or tokens per second."""
    amount = decimal(field, text)
    if amount > 10**9:
        raise InvalidItemError(field, text, "a number of at most 10^9")
    return float(amount)


def truth(field: str, text: str) -> bool:
    """Read `true` or `false`."""
    return _one_of(field, text, TRUTH)


def collection(field: str, text: str) -> bool:
    """Read whether data is collected, in our words or in OpenRouter's."""
    return _one_of(field, text, {**TRUTH, "allow": True, "deny": False})


def moment(field: str, text: str) -> datetime:
    """Read an ISO 8601 time that states its zone; the result is in UTC."""
    try:
        time = datetime.fromisoformat(text) if len(text) <= 40 else None  # noqa: PLR2004 - longer than any such time
        if time is not None and time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidItemError(field, text, "an ISO time with a zone, such as 2026-07-04T00:00:00Z")


def words(field: str, text: str) -> tuple[str, ...]:
    """Read a list parted by spaces."""
    parts = text.split()
    if len(parts) > MANY_WORDS:
        raise InvalidItemError(field, text, f"a list of at most {MANY_WORDS}")
    return tuple(named(field, part, WORD) for part in parts)


def _one_of(field: str, text: str, table: dict[str, bool]) -> bool:
    value = table.get(text.lower())
    if value is None:
        raise InvalidItemError(field, text, f"one of {', '.join(table)}")
    return value
