r"""JSON as endpoints send it: half surrogate pairs pass, numbers beyond the doubles do not.

RFC 8259 allows `"\ud83d"`, half of a surrogate pair, as valid JSON; streams that split text at any
character contain it. The fast parser rejects it, so text that it rejects is parsed once more.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any, Final, NoReturn

import orjson

DEEPEST: Final = 254
"""The deepest nesting in levels that `encode_json` writes, as orjson does."""

_HALF_PAIR: Final = b"\\u"


def _reject(text: str) -> NoReturn:
    raise ValueError(text)


_lenient: Final = json.JSONDecoder(parse_constant=_reject)


def decode_json(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of JSON text in UTF-8; raise ValueError for anything else."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        if _HALF_PAIR not in data:
            raise
    try:
        return _lenient.decode(data.decode())
    except RecursionError as error:
        raise ValueError from error


def encode_json(value: object) -> bytes:
    """Return a value as JSON text; raise ValueError if it nests too deeply or is not JSON."""
    try:
        return orjson.dumps(value)
    except TypeError as error:  # half of a surrogate pair, a large integer, or too many levels
        if is_deeper(value, DEEPEST):
            raise ValueError from error
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError from error


def is_deeper(value: object, levels: int) -> bool:
    """Return whether a value nests deeper than this many levels."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        items = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for item in chain.from_iterable(items) if isinstance(item, dict | list)]
    return bool(level)
