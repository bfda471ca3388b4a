"""JSON as JavaScript's `JSON.parse` reads it: what it takes and stricter readers refuse, and its numbers."""

from __future__ import annotations

import json
import re
from itertools import chain
from sys import float_info
from typing import Any, Final, NoReturn

import orjson
from msgspec import DecodeError, ValidationError
from msgspec.json import Decoder

LONGEST: Final = 1 << 20
DEEPEST: Final = 128
SHORT: Final = 2 * DEEPEST
"""Text of so many characters cannot nest deeper than that."""

EXACT_DIGITS: Final = 15
HALF_A_PAIR: Final = re.compile("[\ud800-\udfff]")

decode: Final = Decoder().decode
"""Reads short text fastest; for numbers such as 1e300 it takes its time."""


class NotJsonError(ValueError):
    """Text that is no JSON, or more of it than is read."""


def parse(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value of JSON text, with integers as they are; raises `NotJsonError`."""
    if len(text) > LONGEST:
        raise NotJsonError
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            value = with_doubles(text)
        except RecursionError as error:
            raise NotJsonError from error
    if len(text) > SHORT and text.count("[") + text.count("{") > DEEPEST and deeper(value, DEEPEST):
        raise NotJsonError
    return value


def hopeless(text: object, error: DecodeError) -> bool:
    """Whether `JSON.parse` too would refuse text for which `decode` raised this."""
    beyond_doubles = isinstance(error, ValidationError)
    return (
        isinstance(text, str) and not beyond_doubles and "\\u" not in text
    )  # half a pair, if not written out


def with_doubles(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value with integers beyond 2^53 as doubles; infinities and halves of surrogate pairs are replaced.

    Raises `NotJsonError`, and `RecursionError` if the text nests deeper than the stack has room for.
    """
    try:
        value = JAVASCRIPT.decode(text)
        return orjson.loads(HALF_A_PAIR.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
    except ValueError as error:
        raise NotJsonError from error


def written(value: object) -> str:
    """The text of arguments, which may be bytes or have been read already; raises `NotJsonError`."""
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


def deeper(value: object, levels: int) -> bool:
    """Whether a value nests deeper than so many levels."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        below = chain.from_iterable(
            whole.values() if isinstance(whole, dict) else whole for whole in level
        )
        level = [part for part in below if isinstance(part, dict | list)]
    return bool(level)


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= EXACT_DIGITS else _double(text)


def _double(text: str) -> float:
    return max(-float_info.max, min(float_info.max, float(text)))


def _refused(text: str) -> NoReturn:
    raise NotJsonError(text)


JAVASCRIPT: Final = json.JSONDecoder(
    parse_int=_integer, parse_float=_double, parse_constant=_refused
)
