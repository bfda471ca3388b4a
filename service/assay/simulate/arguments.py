"""Generate arguments for a tool from its JSON Schema: valid ones, and ones that violate it.

The generator knows types, bounds, enumerations, combinations and local references, but neither
patterns nor conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from random import Random
from typing import Any, Final

Schema = Mapping[str, Any]
Value = dict[str, Any] | list[Any] | str | float | None

WORDS: Final = (
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "juniper",
)  # fmt: skip
_MAX_DEPTH: Final = 6  # deeper, only what is required; also the longest chain of references
_SPAN: Final = 100  # steps between the bounds of a number if one is missing
_FORMATS: Final = {
    "date": "2025-09-23", "date-time": "2025-09-23T12:00:00Z", "time": "12:00:00Z",
    "email": "amber@example.com", "hostname": "example.com", "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1", "uri": "https://example.com/amber",
    "uuid": "6f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d",
}  # fmt: skip


def valid_arguments(schema: object, draw: Random) -> Value:
    """Return arguments that the schema accepts; an object if it accepts anything."""
    root = schema if isinstance(schema, Mapping) else {}
    return _value({"type": "object", **root}, draw, root, 0)


def mismatched_arguments(schema: object, draw: Random) -> Value:
    """Return arguments that the schema rejects; `None` if it accepts anything."""
    root = schema if isinstance(schema, Mapping) else {}
    flat = _flatten(root, draw, root)
    properties, required = flat.get("properties", {}), flat.get("required", ())
    good = valid_arguments(schema, draw)
    if not isinstance(good, dict):
        return {}
    if required:
        return {name: value for name, value in good.items() if name != required[0]}
    for name, subschema in properties.items():
        if types := _types(_flatten(subschema, draw, root)):
            return {**good, name: _value_of_other_type(types)}
    return [] if flat.get("type") == "object" else None


def _value_of_other_type(types: list[str]) -> Value:
    if "array" not in types:
        return []
    return {"unexpected": True} if "object" not in types else 0


def _value(schema: object, draw: Random, root: Schema, depth: int) -> Value:
    flat = _flatten(schema, draw, root)
    if "const" in flat:
        constant: Value = flat["const"]
        return constant
    if flat.get("enum"):
        chosen: Value = draw.choice(flat["enum"])
        return chosen
    types = _types(flat)
    preferred = [name for name in types if name in _MAKERS and name != "null"]
    return _MAKERS[draw.choice(preferred or types or ["string"])](flat, draw, root, depth)


def _types(flat: Schema) -> list[str]:
    """Return the types that a schema names or implies."""
    implied = "object" if "properties" in flat else "array" if "items" in flat else []
    named = flat.get("type", implied)
    return [named] if isinstance(named, str) else list(named)


def _flatten(schema: object, draw: Random, root: Schema) -> Schema:
    """Return a schema without references and combinations: one branch of each choice."""
    flat = schema if isinstance(schema, Mapping) else {}
    for _ in range(_MAX_DEPTH):
        parts = [*flat.get("allOf", ())]
        if "$ref" in flat:
            parts.append(_resolve(flat["$ref"], root))
        parts += [draw.choice(flat[word]) for word in ("anyOf", "oneOf") if flat.get(word)]
        if not parts:
            break
        combined = ("allOf", "anyOf", "oneOf", "$ref")
        rest = {key: value for key, value in flat.items() if key not in combined}
        flat = reduce(_merge, (part for part in parts if isinstance(part, Mapping)), rest)
    return flat


def _merge(one: Schema, other: Schema) -> Schema:
    """Return both schemas as one: all properties, and the later value of anything else."""
    return {
        **one,
        **other,
        "properties": {**one.get("properties", {}), **other.get("properties", {})},
        "required": [*one.get("required", ()), *other.get("required", ())],
    }


def _resolve(reference: object, root: Schema) -> object:
    """Return the target of a local reference; `{}`, which accepts anything, for other ones."""
    found: object = root
    for step in str(reference).removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key, {}) if isinstance(found, Mapping) else {}
    return found


def _object(flat: Schema, draw: Random, root: Schema, depth: int) -> dict[str, Any]:
    """Return the required properties and some of the others."""
    properties, required = flat.get("properties", {}), flat.get("required", ())
    names = [
        name
        for name in properties
        if name in required or (depth < _MAX_DEPTH and draw.random() < 1 / 2)
    ]
    names += [name for name in dict.fromkeys(required) if name not in properties]
    missing = max(flat.get("minProperties", 0) - len(names), 0)
    names += [name for name in properties if name not in names][:missing]
    return {name: _value(properties.get(name, {}), draw, root, depth + 1) for name in names}


def _array(flat: Schema, draw: Random, root: Schema, depth: int) -> list[Any]:
    """Return as few items as the schema accepts, or up to two more."""
    items = flat.get("items", {})
    each = flat.get("prefixItems", items if isinstance(items, list) else ())
    least, most = flat.get("minItems", 0), flat.get("maxItems", _SPAN)
    more = draw.randrange(3) if depth < _MAX_DEPTH else 0
    count = min(max(least, len(each)) + more, most)
    rest = items if isinstance(items, Mapping) else flat.get("additionalItems", {})
    schemas = [*each, *[rest] * (count - len(each))][:count]
    values = [_value(schema, draw, root, depth + 1) for schema in schemas]
    if not flat.get("uniqueItems"):
        return values
    return [value for i, value in enumerate(values) if value not in values[:i]]


def _string(flat: Schema, draw: Random, _root: Schema, _depth: int) -> str:
    """Return a word of an accepted length, or a text of the format."""
    if flat.get("format") in _FORMATS:
        return _FORMATS[flat["format"]]
    least, most = flat.get("minLength", 0), flat.get("maxLength", _SPAN * _SPAN)
    return draw.choice(WORDS).ljust(least, "x")[:most]


def _integer(flat: Schema, draw: Random, root: Schema, depth: int) -> int:
    return round(_number({**flat, "multipleOf": flat.get("multipleOf", 1)}, draw, root, depth))


def _number(flat: Schema, draw: Random, _root: Schema, _depth: int) -> float:
    """Return a number within the bounds, at a multiple of the step."""
    step = flat.get("multipleOf", 0.5)
    low, high = _bound(flat, "inimum", max), _bound(flat, "aximum", min)
    if low is None:
        low = 0 if high is None else high - _SPAN * step
    if high is None:
        high = low + _SPAN * step
    first, last = -int(-low // step), int(high // step)
    first += first * step <= flat.get("exclusiveMinimum", first * step - 1)
    last -= last * step >= flat.get("exclusiveMaximum", last * step + 1)
    return float(step * draw.randint(first, max(first, last)))


def _bound(flat: Schema, word: str, choose: Callable[..., float]) -> float | None:
    """Return the narrower of a bound and its exclusive form."""
    bounds = [flat.get(f"m{word}"), flat.get(f"exclusiveM{word}")]
    numbers = [bound for bound in bounds if isinstance(bound, (int, float))]
    return choose(numbers) if numbers else None


def _boolean(_flat: Schema, draw: Random, _root: Schema, _depth: int) -> bool:
    return draw.random() < 1 / 2


def _null(_flat: Schema, _draw: Random, _root: Schema, _depth: int) -> None:
    return None


_MAKERS: Final[dict[str, Callable[[Schema, Random, Schema, int], Value]]] = {
    "object": _object, "array": _array, "string": _string, "integer": _integer, "number": _number,
    "boolean": _boolean, "null": _null,
}  # fmt: skip
