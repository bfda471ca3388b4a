"""JSON as JavaScript's `JSON.parse` reads it.

Numbers follow JavaScript's rules, and some text that stricter parsers reject is accepted.
"""

from __future__ import annotations

import json
import re
from itertools import chain
from sys import float_info
from typing import Any, Final, NoReturn

import orjson
from msgspec import DecodeError, ValidationError
from msgspec.json import Decoder

_LONGEST: Final = 1 << 20
_DEEPEST: Final = 128
SHORT: Final = 2 * _DEEPEST
"""Text of so few characters cannot nest too deeply."""

_EXACT_DIGITS: Final = 15
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")

decode: Final = Decoder().decode
"""The fastest parser of short text; slow for numbers such as 1e300."""


class NotJsonError(ValueError):
    """Text that is not JSON, or more of it than is read."""


def parse(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON text with exact integers; raise `NotJsonError`."""
    if len(text) > _LONGEST:
        raise NotJsonError
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            value = parse_with_doubles(text)
        except RecursionError as error:
            raise NotJsonError from error
    may_be_deep = len(text) > SHORT and text.count("[") + text.count("{") > _DEEPEST
    if may_be_deep and is_deeper(value, _DEEPEST):
        raise NotJsonError
    return value


def parses_nowhere(text: object, error: DecodeError) -> bool:
    """Whether `JSON.parse` too would reject text for which `decode` raised this error."""
    is_beyond_doubles = isinstance(error, ValidationError)
    may_have_lone_surrogate = not isinstance(text, str) or "\\u" in text
    return not is_beyond_doubles and not may_have_lone_surrogate


def parse_with_doubles(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON text with integers beyond 2^53 as doubles; replace infinities and lone surrogates.

    Raises `NotJsonError`, and `RecursionError` for text that nests deeper than the stack allows.
    """
    try:
        value = _JAVASCRIPT.decode(text)
        return orjson.loads(_LONE_SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
    except ValueError as error:
        raise NotJsonError from error


def text_of(value: object) -> str:
    """Return the text of arguments, which may be bytes or parsed already; raise `NotJsonError`."""
    if isinstance(value, str):
        return value
    try:
        if isinstance(value, bytes):
            return value.decode()
        if value is not None:
            return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJsonError from error
    raise NotJsonError


def is_deeper(value: object, levels: int) -> bool:
    """Whether a value nests deeper than this many levels."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        items = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for item in chain.from_iterable(items) if isinstance(item, dict | list)]
    return bool(level)


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _EXACT_DIGITS else _double(text)


def _double(text: str) -> float:
    return max(-float_info.max, min(float_info.max, float(text)))


def _reject_constant(text: str) -> NoReturn:
    raise NotJsonError(text)


_JAVASCRIPT: Final = json.JSONDecoder(
    parse_int=_integer, parse_float=_double, parse_constant=_reject_constant
)
