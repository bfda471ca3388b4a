"""Schemas compiled once: the compiler's settings, and the compiled ones in use, bounded by what they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Final, Generic, NoReturn, TypeVar

import jsonschema_rs
import orjson

from assay.toolcalls.draft7 import lower
from assay.toolcalls.javascript import deeper, with_doubles
from assay.toolcalls.schema_cost import Weight, weigh

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


class Shelf(Generic[Key, Made]):
    """Things made from keys, in two rows: what is wanted moves to the front, and a full front row becomes the back one.

    So what was not wanted for longest goes first, and a hit in the front row is one look-up, without a lock. What
    weighs more than half the shelf is never held.
    """

    def __init__(self, make: Callable[[Key], tuple[Made, int]], most: int) -> None:
        self._make = make
        self._row = most // 2
        self._front: dict[Key, tuple[Made, int]] = {}
        self._back: dict[Key, tuple[Made, int]] = {}
        self._weight = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._front.keys() | self._back.keys())

    def get(self, key: Key) -> Made:
        """What is made from a key, once as long as it is held."""
        return (self._front.get(key) or self._fetched(key))[0]

    def _fetched(self, key: Key) -> tuple[Made, int]:
        found = self._back.get(key) or self._make(key)
        with self._lock:
            if key not in self._front and found[1] <= self._row:
                if self._weight + found[1] > self._row:
                    self._back, self._front, self._weight = self._front, {}, 0
                self._front[key] = found
                self._weight += found[1]
        return found


LONGEST: Final = 1 << 16
DEEPEST: Final = 100
MOST_STEPS: Final = 1 << 24
"""What judging one call may cost: steps per value times characters; about a second at worst."""

MOST_KEPT: Final = 100_000
BYTES_PER_STEP: Final = 512
"""A key's share of what an entry weighs: a step holds about so many bytes."""


NEVER_HELD: Final = MOST_KEPT

LARGE_OR_MULTIPLE: Final = re.compile(rb'[0-9]{16}|"multipleOf"')
NO_SCHEMA: Final = b""


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """Whether a value is valid, for arguments of at most `longest` characters; longer ones are not judged.

    Where it `rounds`, integers beyond 2^53 may match only once they are doubles.
    """

    accepts: Callable[[object], bool]
    longest: int
    rounds: bool = False


def canonical(parameters: object) -> bytes:
    """The one spelling of a schema, its keys in their order; that of no schema where it is missing or too long."""
    if parameters is None:
        return NO_SCHEMA
    try:
        key = orjson.dumps(parameters)
    except TypeError:  # perhaps for a whole number beyond 64 bits, or half a surrogate pair
        try:
            key = json.dumps(parameters, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            return NO_SCHEMA
    return key if len(key) <= LONGEST else NO_SCHEMA


def _compile(key: bytes) -> tuple[CompiledSchema, int]:
    """A schema compiled for bounded work, with what it weighs; what accepts everything where that cannot be."""
    share = 1 + len(key) // BYTES_PER_STEP
    try:
        schema = with_doubles(key.decode())
        if not isinstance(schema, dict | bool) or deeper(schema, DEEPEST):
            return UNJUDGED, share
        nodes = lower(schema)
        weight = weigh(nodes) if nodes else Weight(1, 1)
        formats = {name: FORMATS[name] for node in nodes if (name := node.get("format")) in FORMATS}
        validator = jsonschema_rs.Draft7Validator(
            schema,
            formats=formats or None,
            validate_formats=True,
            retriever=_refused,
            pattern_options=PATTERNS,
        )
    except RecursionError:  # the caller's stack is full, which is no word on the schema
        return UNJUDGED, NEVER_HELD
    except (ValueError, jsonschema_rs.ReferencingError):
        return UNJUDGED, share
    rounds = LARGE_OR_MULTIPLE.search(key) is not None
    return CompiledSchema(
        validator.is_valid, MOST_STEPS // weight.judging, rounds
    ), share + weight.kept


def _anything(_: object) -> bool:
    return True


def _refused(address: str, /) -> NoReturn:
    message = f"{address!r} leads out of the schema"
    raise ValueError(message)


def _format(name: str) -> Callable[[str], bool]:
    """A format as a later draft has it, which the compiler knows."""
    return jsonschema_rs.Draft201909Validator({"format": name}, validate_formats=True).is_valid


def _date_time(text: str) -> bool:
    """A date and a time, apart by any white space too: models write it so, and `@cfworker/json-schema` takes it."""
    return DATE_TIME(f"{text[:10]}T{text[11:]}" if text[10:11].isspace() else text)


DATE_TIME: Final = _format("date-time")
FORMATS: Final = {"date-time": _date_time, "duration": _format("duration"), "uuid": _format("uuid")}
PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20)
UNJUDGED: Final = CompiledSchema(_anything, -1)
compiled: Final = Shelf(_compile, MOST_KEPT).get
"""The compiled schema of canonical bytes."""
