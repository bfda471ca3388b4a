"""The names that expressions may use: typed facts under declared roots, and typed functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Type:
    """A CEL type: `list` has one parameter, `map` has two, `record` names a root."""

    name: str
    parameters: tuple[Type, ...] = ()

    def __str__(self) -> str:
        """Return the spelling used in messages and docs, e.g. `list<string>`."""
        if not self.parameters:
            return self.name
        return f"{self.name}<{', '.join(map(str, self.parameters))}>"


BOOL, INT, DOUBLE, STRING, NULL = (Type(n) for n in ("bool", "int", "double", "string", "null"))


def list_of(element: Type) -> Type:
    """Return the type of a list."""
    return Type("list", (element,))


def map_of(key: Type, value: Type) -> Type:
    """Return the type of a map."""
    return Type("map", (key, value))


def record(root: str) -> Type:
    """Return the type of a whole root, which only functions may take."""
    return Type("record", (Type(root),))


@dataclass(frozen=True, slots=True)
class Fact:
    """One typed value that expressions may read; `optional` facts may be absent at run time."""

    type: Type
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """A declared function; with `receiver` it is called as a member (`x.name(…)`).

    `implementation` gets Python values (a record as its flat mapping). Any exception that it raises
    becomes a Failure, a KeyError on a record becomes an Absent. A `judging` function is rejected in
    expressions that are checked with `judging=False`.
    """

    name: str
    parameters: tuple[Type, ...]
    result: Type
    implementation: Callable[..., object]
    receiver: Type | None = None
    judging: bool = False

    @property
    def operands(self) -> tuple[Type, ...]:
        """The types of its arguments, the receiver first."""
        return self.parameters if self.receiver is None else (self.receiver, *self.parameters)


@dataclass(frozen=True, slots=True)
class Schema:
    """Roots (`endpoint` -> flat dotted paths below it -> fact), plain variables, and functions.

    At run time a root is a flat mapping: `endpoint.price.prompt` is read as
    `endpoint["price.prompt"]`, and a missing fact is a missing key. A plain variable is one value.

    `former` maps the former path of a fact to its current path. Expressions may use a former path
    only if `accept_former` is set; otherwise it is a fault that names the current path.
    """

    roots: Mapping[str, Mapping[str, Fact]] = field(default_factory=dict)
    variables: Mapping[str, Type] = field(default_factory=dict)
    functions: tuple[Function, ...] = ()
    former: Mapping[str, str] = field(default_factory=dict)
    accept_former: bool = False


ANY = Type("any")
"""The element type of an empty literal: it agrees with every type."""

BROKEN = Type("broken")
"""The type of a faulty node: it agrees with every type, so that a fault is reported once."""

ORDERED = (INT, DOUBLE, STRING, BOOL)
KEYS = (STRING, INT, BOOL)


def join(left: Type, right: Type) -> Type | None:
    """Return the type that covers both, or None."""
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
    """Return the type that covers all, or None; ANY for no types."""
    result: Type | None = ANY
    for each in types:
        result = None if result is None else join(result, each)
    return result


def is_broken(*types: Type) -> bool:
    """Return whether one of the types belongs to a faulty node."""
    return BROKEN in types


def literal_type(value: object) -> Type:
    """Return the type of a literal's value."""
    names = {bool: BOOL, int: INT, float: DOUBLE, str: STRING, type(None): NULL}
    return names[type(value)]
