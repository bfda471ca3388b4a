"""The checked expression: every node typed, every name resolved, every operator chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from assay.engine.cel.schema import Function, Type


@dataclass(frozen=True, slots=True)
class Node:
    """Something with a type and a place; line and column count from 1 within the text."""

    type: Type
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A value written in the text."""

    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class FactRead(Node):
    """A declared fact below a root: `root["key"]`."""

    root: str
    key: str

    @property
    def path(self) -> str:
        """The fact as authors write it."""
        return f"{self.root}.{self.key}"


@dataclass(frozen=True, slots=True)
class HasFact(Node):
    """Whether a fact is there."""

    root: str
    key: str


@dataclass(frozen=True, slots=True)
class VariableRead(Node):
    """A declared plain variable."""

    name: str


@dataclass(frozen=True, slots=True)
class RootRead(Node):
    """A whole root, on its way into a function."""

    root: str


@dataclass(frozen=True, slots=True)
class LocalRead(Node):
    """The variable of a macro; `slot` is how many macros enclose that one."""

    slot: int


@dataclass(frozen=True, slots=True)
class Operation(Node):
    """A strict operator or standard function, by its name in `operations`."""

    name: str
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """`&&` or `||` of two or more parts, absorbing errors."""

    symbol: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice(Node):
    """`condition ? then : otherwise`."""

    condition: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    """A list literal."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapOf(Node):
    """A map literal."""

    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class Match(Node):
    """`matches` with its pattern compiled; `search` gives None where nothing matches."""

    operand: Node
    search: Callable[[str], object]


@dataclass(frozen=True, slots=True)
class FunctionCall(Node):
    """A declared function; a receiver comes first among the arguments."""

    function: Function
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Macro(Node):
    """`all`, `exists`, `exists_one`, `filter` or `map` over the elements of a list or keys of a map."""

    kind: str
    slot: int
    elements: Node
    condition: Node | None
    result: Node | None
