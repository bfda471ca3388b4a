"""Readers of external JSON.

A field with a wrong type is rejected; an unknown field is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from assay.engine.errors import BadData, quoted
from assay.importers import cells
from assay.importers.cells import Form, InvalidItemError

Object = dict[str, object]


def an_object(field: str, value: object) -> Object:
    """Read an object."""
    if not isinstance(value, dict):
        raise InvalidItemError(field, shown(value), "an object")
    return value


def a_list(field: str, value: object, longest: int) -> list[object]:
    """Read a list of bounded length."""
    if not isinstance(value, list):
        raise InvalidItemError(field, shown(value), "a list")
    if len(value) > longest:
        raise InvalidItemError(field, f"{len(value)} items", f"a list of at most {longest}")
    return value


def text(field: str, value: object) -> str:
    """Read a string."""
    if not isinstance(value, str):
        raise InvalidItemError(field, shown(value), "text")
    return value


def name(field: str, value: object, form: Form) -> str:
    """Read a name of the given form."""
    return form(field, text(field, value))


def part(item: Mapping[str, object], field: str) -> Object:
    """Read an object that may be missing or null; then it is empty."""
    value = item.get(field)
    return {} if value is None else an_object(field, value)


def title(item: Mapping[str, object], field: str) -> str | None:
    """Read a display name, if there is one."""
    value = item.get(field)
    return None if value is None else cells.title(field, text(field, value))


def number_text(field: str, value: object) -> str:
    """Return the text of a number, which may be a JSON number or string."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidItemError(field, shown(value), "a number")
    return value if isinstance(value, str) else repr(value)


def number(field: str, value: object) -> float | None:
    """Read a measurement, zero or more, if there is one."""
    return None if value is None else cells.positive(field, _plain_number(field, value))


def percent(field: str, value: object) -> float | None:
    """Read a percentage, if there is one."""
    return None if value is None else cells.percent(field, _plain_number(field, value))


def whole(item: Mapping[str, object], field: str) -> int | None:
    """Read a count, if there is one."""
    value = item.get(field)
    return None if value is None else cells.whole(field, _integer(field, value))


def limit(item: Mapping[str, object], field: str) -> int | None:
    """Read a limit in tokens, if there is one; zero means none."""
    return whole(item, field) or None


def code(item: Mapping[str, object], field: str) -> int | None:
    """Read a short whole number that may be negative, if there is one."""
    value = item.get(field)
    return None if value is None else cells.signed(field, _integer(field, value))


def flag(item: Mapping[str, object], field: str) -> bool | None:
    """Read true or false, if there is one."""
    value = item.get(field)
    if value is not None and not isinstance(value, bool):
        raise InvalidItemError(field, shown(value), "true or false")
    return value


def words(item: Mapping[str, object], field: str) -> tuple[str, ...] | None:
    """Read a list of plain words, if there is one, without repetitions."""
    value = item.get(field)
    if value is None:
        return None
    parts = a_list(field, value, cells.MANY_WORDS)
    return tuple(dict.fromkeys(name(field, each, cells.WORD) for each in parts))


def shown(value: object) -> object:
    """Return a value for a message, with JSON's name for a type."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value


def _integer(field: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidItemError(field, shown(value), "a whole number")
    return repr(value)


def _plain_number(field: str, value: object) -> str:
    if isinstance(value, str):
        raise InvalidItemError(field, value, "a number")
    return number_text(field, value)


def read_object(content: bytes) -> Object:
    """Parse a JSON object in UTF-8; raise BadData."""
    try:
        found = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_repetition)
    except RecursionError as error:
        raise BadData("not JSON: too deeply nested") from error
    except ValueError as error:  # also where it is not UTF-8, or a number has thousands of digits
        raise BadData(f"not JSON: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(found, dict):
        raise BadData("not a JSON object")
    return found


def _without_repetition(pairs: list[tuple[str, object]]) -> Object:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadData(f"key {quoted(twice)} occurs twice in one object")
    return found
