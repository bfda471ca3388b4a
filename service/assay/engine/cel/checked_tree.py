"""The checked expression: every node typed, every name resolved, every operator chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from assay.engine.cel.schema import Function, Type


@dataclass(frozen=True, slots=True)
class CheckedNode:
    """Something with a type and a place; line and column count from 1 within the text."""

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
        """The fact as authors write it."""
        return f"{self.root}.{self.key}"


@dataclass(frozen=True, slots=True)
class HasFact(CheckedNode):
    """Whether a fact is there."""

    root: str
    key: str


@dataclass(frozen=True, slots=True)
class VariableRead(CheckedNode):
    """A declared plain variable."""

    name: str


@dataclass(frozen=True, slots=True)
class RootRead(CheckedNode):
    """A whole root, on its way into a function."""

    root: str


@dataclass(frozen=True, slots=True)
class LocalRead(CheckedNode):
    """The variable of a macro; `slot` is how many macros enclose that one."""

    slot: int


@dataclass(frozen=True, slots=True)
class Operation(CheckedNode):
    """A strict operator or standard function, by its name in `operations`."""

    name: str
    operands: tuple[CheckedNode, ...]


@dataclass(frozen=True, slots=True)
class Logic(CheckedNode):
    """`&&` or `||` of two or more parts, absorbing errors."""

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
    """`matches` with its pattern compiled; `search` gives None where nothing matches."""

    operand: CheckedNode
    search: Callable[[str], object]


@dataclass(frozen=True, slots=True)
class FunctionCall(CheckedNode):
    """A declared function; a receiver comes first among the arguments."""

    function: Function
    arguments: tuple[CheckedNode, ...]


@dataclass(frozen=True, slots=True)
class Macro(CheckedNode):
    """`all`, `exists`, `exists_one`, `filter` or `map` over the elements of a list or keys of a map."""

    kind: str
    slot: int
    elements: CheckedNode
    condition: CheckedNode | None
    result: CheckedNode | None
