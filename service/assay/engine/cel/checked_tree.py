"""The checked expression: every node has a type, and every name and operator is resolved."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from assay.engine.cel.schema import Function, Type


@dataclass(frozen=True, slots=True)
class CheckedNode:
    """A node with its type and position; line and column count from 1 within the text."""

    type: Type
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Literal(CheckedNode):
    """A value written in the text."""

    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class FactRead(CheckedNode):
    """A declared fact below a root: `root["key"]`."""

    root: str
    key: str

    @property
    def path(self) -> str:
        """Return the fact's path as authors write it."""
        return f"{self.root}.{self.key}"


@dataclass(frozen=True, slots=True)
class HasFact(CheckedNode):
    """`has(root.key)`: whether a fact is known."""

    root: str
    key: str


@dataclass(frozen=True, slots=True)
class VariableRead(CheckedNode):
    """A declared plain variable."""

    name: str


@dataclass(frozen=True, slots=True)
class RootRead(CheckedNode):
    """A whole root, passed to a function."""

    root: str


@dataclass(frozen=True, slots=True)
class LocalRead(CheckedNode):
    """The variable of a macro; `slot` is the number of macros around that macro."""

    slot: int


@dataclass(frozen=True, slots=True)
class Operation(CheckedNode):
    """A strict operator or standard function; `name` is its key in `OPERATIONS`."""

    name: str
    operands: tuple[CheckedNode, ...]


@dataclass(frozen=True, slots=True)
class Logic(CheckedNode):
    """`&&` or `||` of two or more parts; a decisive part absorbs errors of the others."""

    symbol: str
    parts: tuple[CheckedNode, ...]


@dataclass(frozen=True, slots=True)
class Choice(CheckedNode):
    """`condition ? then : otherwise`."""

    condition: CheckedNode
    then: CheckedNode
    otherwise: CheckedNode


@dataclass(frozen=True, slots=True)
class ListOf(CheckedNode):
    """A list literal."""

    items: tuple[CheckedNode, ...]


@dataclass(frozen=True, slots=True)
class MapOf(CheckedNode):
    """A map literal."""

    entries: tuple[tuple[CheckedNode, CheckedNode], ...]


@dataclass(frozen=True, slots=True)
class Match(CheckedNode):
    """`matches` with its pattern compiled; `search` returns None if nothing matches."""

    operand: CheckedNode
    search: Callable[[str], object]


@dataclass(frozen=True, slots=True)
class FunctionCall(CheckedNode):
    """A call of a declared function; a receiver is the first argument."""

    function: Function
    arguments: tuple[CheckedNode, ...]


@dataclass(frozen=True, slots=True)
class Macro(CheckedNode):
    """`all`, `exists`, `exists_one`, `filter` or `map` over a list or the keys of a map."""

    kind: str
    slot: int
    elements: CheckedNode
    condition: CheckedNode | None
    result: CheckedNode | None


Result = TypeVar("Result")


@cache
def _method(node_class: str) -> str:
    """Return the name of the method for a class of nodes: `fact_read` for FactRead."""
    return re.sub(r"(?<=.)([A-Z])", r"_\1", node_class).lower()


class TreeVisitor(Generic[Result]):
    """Base of the code generator and the exact evaluator: one method for each class of nodes."""

    def visit(self, node: CheckedNode) -> Result:
        """Return what the method for the node's class makes of it."""
        method: Callable[[Any], Result] = getattr(self, _method(type(node).__name__))
        return method(node)
