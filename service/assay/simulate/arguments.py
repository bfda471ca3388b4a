"""Arguments for a tool from its JSON Schema: such as the schema admits, and such as it does not.

A small generator: it knows types, bounds, enumerations, combinations and local references, and neither patterns nor
conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from random import Random
from typing import Any, Final

Schema = Mapping[str, Any]
Value = dict[str, Any] | list[Any] | str | float | None

DEPTH: Final = 6  # deeper than this, only what is required
SPAN: Final = 100
WORDS: Final = (
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "inlet",
    "juniper",
)
FORMATS: Final = {
    "date": "2025-09-23", "date-time": "2025-09-23T12:00:00Z", "time": "12:00:00Z", "email": "amber@example.com",
    "hostname": "example.com", "ipv4": "192.0.2.1", "ipv6": "2001:db8::1", "uri": "https://example.com/amber",
    "uuid": "6f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d",
}  # fmt: skip


def valid_arguments(schema: object, draw: Random) -> Value:
    """Arguments that the schema admits; an object where it admits anything."""
    root = schema if isinstance(schema, Mapping) else {}
    return value({"type": "object", **root}, draw, root, 0)


def mismatched_arguments(schema: object, draw: Random) -> Value:
    """Arguments that the schema does not admit; `None` where it admits everything."""
    root = schema if isinstance(schema, Mapping) else {}
    flat = flattened(root, draw, root)
    properties, required = flat.get("properties", {}), flat.get("required", ())
    good = valid_arguments(schema, draw)
    if not isinstance(good, dict):
        return {}
    if required:
        return {name: one for name, one in good.items() if name != required[0]}
    for name, one in properties.items():
        kinds = kinds_of(flattened(one, draw, root))
        if kinds:
            return {
                **good,
                name: []
                if "array" not in kinds
                else {"unexpected": True}
                if "object" not in kinds
                else 0,
            }
    return [] if flat.get("type") == "object" else None


def value(schema: object, draw: Random, root: Schema, depth: int) -> Value:
    """A value that the schema admits."""
    flat = flattened(schema, draw, root)
    if "const" in flat:
        constant: Value = flat["const"]
        return constant
    if flat.get("enum"):
        chosen: Value = draw.choice(flat["enum"])
        return chosen
    kinds = (
        [kind for kind in kinds_of(flat) if kind in MAKERS and kind != "null"]
        or kinds_of(flat)
        or ["string"]
    )
    return MAKERS[draw.choice(kinds)](flat, draw, root, depth)


def kinds_of(flat: Schema) -> list[str]:
    """The types that a schema names or clearly means."""
    named = flat.get(
        "type", "object" if "properties" in flat else "array" if "items" in flat else []
    )
    return [named] if isinstance(named, str) else list(named)


def flattened(schema: object, draw: Random, root: Schema) -> Schema:
    """A schema without references and combinations: one branch of each choice, all of each union."""
    flat = schema if isinstance(schema, Mapping) else {}
    for _ in range(DEPTH):  # a chain of references this long leads nowhere
        parts = [*flat.get("allOf", ())]
        if "$ref" in flat:
            parts.append(resolved(flat["$ref"], root))
        parts += [draw.choice(flat[word]) for word in ("anyOf", "oneOf") if flat.get(word)]
        if not parts:
            break
        rest = {
            key: one for key, one in flat.items() if key not in ("allOf", "anyOf", "oneOf", "$ref")
        }
        flat = reduce(merged, (part for part in parts if isinstance(part, Mapping)), rest)
    return flat


def merged(one: Schema, other: Schema) -> Schema:
    """Both schemas as one: names unite, of anything else the later says more."""
    return {
        **one,
        **other,
        "properties": {**one.get("properties", {}), **other.get("properties", {})},
        "required": [*one.get("required", ()), *other.get("required", ())],
    }


def resolved(reference: object, root: Schema) -> object:
    """What a local reference points at; anything is admitted behind others."""
    found: object = root
    for step in str(reference).removeprefix("#").split("/")[1:]:
        found = (
            found.get(step.replace("~1", "/").replace("~0", "~"), {})
            if isinstance(found, Mapping)
            else {}
        )
    return found


def an_object(flat: Schema, draw: Random, root: Schema, depth: int) -> dict[str, Any]:
    """Required properties, and some of the others."""
    properties, required = flat.get("properties", {}), flat.get("required", ())
    names = [
        name for name in properties if name in required or (depth < DEPTH and draw.random() < 1 / 2)
    ]
    names += [name for name in dict.fromkeys(required) if name not in properties]
    names += [name for name in properties if name not in names][
        : max(flat.get("minProperties", 0) - len(names), 0)
    ]
    return {name: value(properties.get(name, {}), draw, root, depth + 1) for name in names}


def an_array(flat: Schema, draw: Random, root: Schema, depth: int) -> list[Any]:
    """As few items as are admitted, or a few more."""
    items = flat.get("items", {})
    each = flat.get("prefixItems", items if isinstance(items, list) else ())
    least, most = flat.get("minItems", 0), flat.get("maxItems", SPAN)
    count = min(max(least, len(each)) + (draw.randrange(3) if depth < DEPTH else 0), most)
    rest = items if isinstance(items, Mapping) else flat.get("additionalItems", {})
    made = [value(each[i] if i < len(each) else rest, draw, root, depth + 1) for i in range(count)]
    if not flat.get("uniqueItems"):
        return made
    return [one for i, one in enumerate(made) if one not in made[:i]]


def a_string(flat: Schema, draw: Random, _root: Schema, _depth: int) -> str:
    """A word of an admitted length, or the format asked for."""
    if flat.get("format") in FORMATS:
        return FORMATS[flat["format"]]
    least, most = flat.get("minLength", 0), flat.get("maxLength", SPAN * SPAN)
    return draw.choice(WORDS).ljust(least, "x")[:most]


def an_integer(flat: Schema, draw: Random, root: Schema, depth: int) -> int:
    """A whole number within the bounds."""
    return round(a_number({**flat, "multipleOf": flat.get("multipleOf", 1)}, draw, root, depth))


def a_number(flat: Schema, draw: Random, _root: Schema, _depth: int) -> float:
    """A number within the bounds, a multiple of what it has to be one of."""
    step = flat.get("multipleOf", 0.5)
    low, high = bound(flat, "inimum", max), bound(flat, "aximum", min)
    if low is None:
        low = 0 if high is None else high - SPAN * step
    if high is None:
        high = low + SPAN * step
    first, last = -int(-low // step), int(high // step)
    first += first * step <= flat.get("exclusiveMinimum", first * step - 1)
    last -= last * step >= flat.get("exclusiveMaximum", last * step + 1)
    return float(step * draw.randint(first, max(first, last)))


def bound(flat: Schema, word: str, choose: Callable[..., float]) -> float | None:
    """The narrower of a bound and its exclusive kin."""
    names = (f"m{word}", f"exclusiveM{word}")
    found = [flat[name] for name in names if isinstance(flat.get(name), (int, float))]
    return choose(found) if found else None


def truth(_flat: Schema, draw: Random, _root: Schema, _depth: int) -> bool:
    """True or false."""
    return draw.random() < 1 / 2


def nothing(_flat: Schema, _draw: Random, _root: Schema, _depth: int) -> None:
    """Nothing."""


MAKERS: Final[dict[str, Callable[[Schema, Random, Schema, int], Value]]] = {
    "object": an_object, "array": an_array, "string": a_string, "integer": an_integer, "number": a_number,
    "boolean": truth, "null": nothing,
}  # fmt: skip
