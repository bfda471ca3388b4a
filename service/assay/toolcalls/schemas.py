"""Compiled schemas, cached by their text and bounded in size and in the cost of a check."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Final, NoReturn

import jsonschema_rs
import orjson
from cachetools import LRUCache

from assay.toolcalls.draft7 import lower
from assay.toolcalls.javascript import is_deeper, parse_with_doubles
from assay.toolcalls.schema_cost import SchemaCost, cost_of

_LONGEST: Final = 1 << 16
_DEEPEST: Final = 100
_MOST_STEPS: Final = 1 << 24
"""The cost limit of one check: steps per value times characters; about a second at worst."""

_MOST_CACHED: Final = 100_000
"""The size of the cache, in steps of schemas."""

_BYTES_PER_STEP: Final = 512
"""The memory of a step, roughly; a key's bytes count in this unit."""

_LARGE_OR_MULTIPLE: Final = re.compile(rb'[0-9]{16}|"multipleOf"')
NO_SCHEMA: Final = b""


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """A check of arguments of at most `longest` characters; longer ones count as valid.

    If it `rounds`, an integer beyond 2^53 may match only as a double. `size` is its share of the
    cache, in steps.
    """

    accepts: Callable[[object], bool]
    longest: int
    size: int
    rounds: bool = False


def schema_key(parameters: object) -> bytes:
    """Return a schema's text; NO_SCHEMA if it is missing, too long or not JSON."""
    if parameters is None:
        return NO_SCHEMA
    try:
        key = orjson.dumps(parameters)
    except TypeError:  # perhaps an integer beyond 64 bits, or a lone surrogate
        try:
            key = json.dumps(parameters, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            return NO_SCHEMA
    return key if len(key) <= _LONGEST else NO_SCHEMA


schema_cache: Final[LRUCache[bytes, CompiledSchema]] = LRUCache(
    _MOST_CACHED, getsizeof=lambda schema: schema.size
)
_lock: Final = Lock()


def compile_schema(key: bytes) -> CompiledSchema:
    """Return the compiled schema of a key, from the cache if it is there."""
    with _lock:
        found = schema_cache.get(key)
    if found is None:
        found = _compile(key)
        with _lock, suppress(ValueError):  # larger than the whole cache
            schema_cache[key] = found
    return found


def _compile(key: bytes) -> CompiledSchema:
    """Compile a schema for bounded work; one that cannot be compiled accepts everything."""
    size = 1 + len(key) // _BYTES_PER_STEP
    try:
        schema = parse_with_doubles(key.decode())
        if not isinstance(schema, dict | bool) or is_deeper(schema, _DEEPEST):
            return _accept_all(size)
        nodes = lower(schema)
        cost = cost_of(nodes) if nodes else SchemaCost(1, 1)
        formats = {
            name: _FORMATS[name] for node in nodes if (name := node.get("format")) in _FORMATS
        }
        validator = jsonschema_rs.Draft7Validator(
            schema,
            formats=formats or None,
            validate_formats=True,
            retriever=_reject_reference,
            pattern_options=_PATTERNS,
        )
    except RecursionError:  # the caller's stack is full; the schema may be fine, so do not cache it
        return _accept_all(_MOST_CACHED + 1)
    except (ValueError, jsonschema_rs.ReferencingError):
        return _accept_all(size)
    rounds = _LARGE_OR_MULTIPLE.search(key) is not None
    longest = _MOST_STEPS // cost.per_value
    return CompiledSchema(validator.is_valid, longest, size + cost.stored, rounds)


def _accept_all(size: int) -> CompiledSchema:
    return CompiledSchema(lambda _: True, -1, size)


def _reject_reference(address: str, /) -> NoReturn:
    message = f"{address!r} leads out of the schema"
    raise ValueError(message)


def _format(name: str) -> Callable[[str], bool]:
    """Return the check of a format that only a later draft's validator knows."""
    return jsonschema_rs.Draft201909Validator({"format": name}, validate_formats=True).is_valid


def _is_date_time(text: str) -> bool:
    """Whether text is an RFC 3339 date and time.

    The separator may be a space, as models write it and cfworker accepts it.
    """
    return _is_rfc3339(f"{text[:10]}T{text[11:]}" if text[10:11].isspace() else text)


_is_rfc3339: Final = _format("date-time")
_FORMATS: Final = {
    "date-time": _is_date_time,
    "duration": _format("duration"),
    "uuid": _format("uuid"),
}
_PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20)
