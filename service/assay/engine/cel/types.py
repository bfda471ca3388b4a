"""How types relate: agreement of element types, and the two types that exist only while checking."""

from __future__ import annotations

from collections.abc import Iterable

from assay.engine.cel.schema import BOOL, DOUBLE, INT, NULL, STRING, Type

ANY = Type("any")
"""The element of an empty literal: agrees with everything."""

BROKEN = Type("broken")
"""Something already reported: agrees with everything, so that one fault is told once."""

NUMBERS = (INT, DOUBLE)
ORDERED = (INT, DOUBLE, STRING, BOOL)
KEYS = (STRING, INT, BOOL)


def join(left: Type, right: Type) -> Type | None:
    """The type that covers both, or None."""
    if left == right or right in {ANY, BROKEN}:
        return left
    if left in {ANY, BROKEN}:
        return right
    if left.name != right.name or len(left.parameters) != len(right.parameters):
        return None
    parts = [join(a, b) for a, b in zip(left.parameters, right.parameters, strict=True)]
    if not parts or None in parts:
        return None
    return Type(left.name, tuple(p for p in parts if p is not None))


def join_all(types: Iterable[Type]) -> Type | None:
    """The type that covers all; ANY for none."""
    result: Type | None = ANY
    for each in types:
        result = None if result is None else join(result, each)
    return result


def is_broken(*types: Type) -> bool:
    """Tell whether one of the types has been reported already."""
    return BROKEN in types


def literal_type(value: object) -> Type:
    """The type of a literal's value."""
    names = {bool: BOOL, int: INT, float: DOUBLE, str: STRING, type(None): NULL}
    return names[type(value)]
