"""What expressions may name: typed facts under declared roots, and typed functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Type:
    """A CEL type of the portable subset; `list` has one parameter, `map` two, `record` names a root."""

    name: str
    parameters: tuple[Type, ...] = ()

    def __str__(self) -> str:
        """The spelling used in messages and docs, e.g. `list<string>`."""
        if not self.parameters:
            return self.name
        return f"{self.name}<{', '.join(map(str, self.parameters))}>"


BOOL, INT, DOUBLE, STRING, NULL = (Type(n) for n in ("bool", "int", "double", "string", "null"))


def list_of(element: Type) -> Type:
    """The type of a list."""
    return Type("list", (element,))


def map_of(key: Type, value: Type) -> Type:
    """The type of a map."""
    return Type("map", (key, value))


def record(root: str) -> Type:
    """The type of a whole root, which only functions may take."""
    return Type("record", (Type(root),))


@dataclass(frozen=True, slots=True)
class Fact:
    """One typed value that expressions may read; `optional` facts may be absent at run time."""

    type: Type
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """A declared function; with `receiver` it is called as a member (`x.name(…)`).

    `implementation` gets Python values (a record as its flat mapping); any exception it raises becomes a Failure,
    a KeyError on a record an Absent. A `judging` function may not be used where `judging=False` is compiled.
    """

    name: str
    parameters: tuple[Type, ...]
    result: Type
    implementation: Callable[..., object]
    receiver: Type | None = None
    judging: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """Roots (`endpoint` -> flat dotted paths below it -> fact), plain variables, and functions.

    At run time a root is a flat mapping: `endpoint.tools.errored_requests` is read as
    `endpoint["tools.errored_requests"]`, and a missing fact is a missing key. A plain variable is one value.

    `former` maps the former path of a fact to its path now. Expressions may use the former one only where
    `accept_former` is set; otherwise it is a fault that names the path of today.
    """

    roots: Mapping[str, Mapping[str, Fact]] = field(default_factory=dict)
    variables: Mapping[str, Type] = field(default_factory=dict)
    functions: tuple[Function, ...] = ()
    former: Mapping[str, str] = field(default_factory=dict)
    accept_former: bool = False


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
