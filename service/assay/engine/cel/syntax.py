"""An expression as written: untyped nodes, each at its offset."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """Something of the expression; `offset` is where a fault with it is best shown."""

    offset: int


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """A literal; a broken one has been reported."""

    value: object
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Name(Node):
    """An identifier that stands alone or begins a path."""

    name: str


@dataclass(frozen=True, slots=True)
class Select(Node):
    """`operand.field`; `offset` is where the operand begins, `place` where the field stands."""

    operand: Node
    field: str
    place: int


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`name(…)`, or `target.name(…)`; macros too."""

    name: str
    target: Node | None
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Operator(Node):
    """An operator with its operands; `[]` indexes, `?:` chooses, `-` and `!` with one operand are signs."""

    symbol: str
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ListLiteral(Node):
    """`[…]`."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapLiteral(Node):
    """`{key: value, …}`."""

    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class Refused(Node):
    """Something outside the portable subset, already reported."""
