"""The syntax tree of an expression, built from cel-python's parse tree.

Only this module knows cel-python. `&&` and `||` become flat, and literals come from `tokens`.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from assay.engine.cel.faults import FaultList
from assay.engine.cel.tokens import INT_MAX, Limits, ScannedText

if TYPE_CHECKING:
    import celpy

Tree = Any
"""lark's tree; cel-python gives no types for it."""

_LOCK = threading.Lock()
_SHOWN = 20  # characters of a literal are enough to find it


@cache
def _environment() -> celpy.Environment:
    """Build cel-python's environment once (0.2 s); restore the recursion limit it changes."""
    import celpy as loaded  # noqa: PLC0415 - a slow import (0.3 s)

    limit = sys.getrecursionlimit()
    try:
        return loaded.Environment(runner_class=loaded.InterpretedRunner)
    finally:
        sys.setrecursionlimit(limit)


def parse(scanned: ScannedText, faults: FaultList) -> Tree:
    """Parse the blanked text to a lark tree; a syntax error is the last fault."""
    with _LOCK:
        environment = _environment()
        from celpy.celparser import CELParseError  # noqa: PLC0415 - loaded by now, as above

        try:
            return environment.compile(scanned.blanked)
        except CELParseError as error:
            cause = error.__context__
    token = getattr(cause, "token", None)
    offset = getattr(cause, "pos_in_stream", None)
    if token is not None and token.type == "$END":
        raise faults.stop(len(scanned.blanked.rstrip()), "the expression ends too early")
    offset = 0 if offset is None else offset
    raise faults.stop(offset, f"unexpected {_shown(scanned, offset)}")


def _shown(scanned: ScannedText, offset: int) -> str:
    literal = scanned.literals.get(offset)
    if literal is not None:
        return literal.text if len(literal.text) <= _SHOWN else f"{literal.text[:_SHOWN]}…"
    word = re.match(r"\w+|.?", scanned.blanked[offset:], re.DOTALL)
    return f"'{word[0] if word else ''}'"


@dataclass(frozen=True, slots=True)
class SyntaxNode:
    """A part of the expression; `offset` is the position for a fault in it."""

    offset: int


@dataclass(frozen=True, slots=True)
class Constant(SyntaxNode):
    """A literal; a `broken` one has been reported."""

    value: object
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Name(SyntaxNode):
    """An identifier, alone or at the start of a path."""

    name: str


@dataclass(frozen=True, slots=True)
class Select(SyntaxNode):
    """`operand.field`; `offset` is the start of the operand, `place` the start of the field."""

    operand: SyntaxNode
    field: str
    place: int


@dataclass(frozen=True, slots=True)
class CallNode(SyntaxNode):
    """`name(…)` or `target.name(…)`, macros included."""

    name: str
    target: SyntaxNode | None
    arguments: tuple[SyntaxNode, ...]


@dataclass(frozen=True, slots=True)
class Operator(SyntaxNode):
    """An operator with its operands: also `[]`, `?:`, and `-` and `!` with one operand."""

    symbol: str
    operands: tuple[SyntaxNode, ...]


@dataclass(frozen=True, slots=True)
class ListLiteral(SyntaxNode):
    """`[…]`."""

    items: tuple[SyntaxNode, ...]


@dataclass(frozen=True, slots=True)
class MapLiteral(SyntaxNode):
    """`{key: value, …}`."""

    entries: tuple[tuple[SyntaxNode, SyntaxNode], ...]


@dataclass(frozen=True, slots=True)
class UnsupportedNode(SyntaxNode):
    """A part outside the portable subset, which has been reported."""


_WRAPPERS = frozenset({
    "expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication",
    "unary", "member", "primary", "paren_expr",
})  # fmt: skip
_SYMBOLS = {
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "in": "in",
    "add": "+", "sub": "-", "mul": "*", "div": "/", "mod": "%", "not": "!", "neg": "-",
}  # fmt: skip
_RESERVED = frozenset({
    "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
    "loop", "package", "namespace", "return", "var", "void", "while", "in",
})  # fmt: skip


class Builder:
    """Turns one parse tree into nodes of bounded depth, so that later stages may recurse."""

    def __init__(self, scanned: ScannedText, limits: Limits, faults: FaultList) -> None:
        self.scanned, self.limits, self.faults = scanned, limits, faults
        self.depth = 0
        self.rules: dict[str, Callable[[Tree], SyntaxNode]] = {
            "expr": self._choice,
            "conditionalor": self._logic,
            "conditionaland": self._logic,
            "relation": self._binary,
            "addition": self._binary,
            "multiplication": self._binary,
            "unary": self._unary,
            "member_dot": self._select,
            "member_dot_arg": self._method,
            "member_index": self._index,
            "member_object": lambda tree: self._rejected(tree, "message construction"),
            "dot_ident": lambda tree: self._rejected(tree, "a leading dot"),
            "dot_ident_arg": lambda tree: self._rejected(tree, "a leading dot"),
            "ident": lambda tree: self._name(tree.children[0]),
            "ident_arg": self._call,
            "list_lit": self._list,
            "map_lit": self._map,
            "literal": lambda tree: self._literal(
                tree.children[0].start_pos, tree.children[0], negated=False
            ),
        }

    def build(self, tree: Tree) -> SyntaxNode:
        """Return the node of a tree, without wrappers of one child."""
        while tree.data in _WRAPPERS and len(tree.children) == 1:
            tree = tree.children[0]
        self.depth += 1
        if self.depth > self.limits.depth:
            why = f"nested deeper than {self.limits.depth}, split it into variables"
            raise self.faults.stop(tree.meta.start_pos, f"too complex: {why}")
        node = self.rules[tree.data](tree)
        self.depth -= 1
        return node

    def _find(self, symbol: str, left: Tree) -> int:
        return self.scanned.blanked.index(symbol, left.meta.end_pos)

    def _choice(self, tree: Tree) -> SyntaxNode:
        offset = self._find("?", tree.children[0])
        return Operator(offset, "?:", tuple(map(self.build, tree.children)))

    def _logic(self, tree: Tree) -> SyntaxNode:
        rule, symbol = tree.data, "&&" if tree.data == "conditionaland" else "||"
        parts: list[Tree] = []
        while tree.data == rule and len(tree.children) > 1:
            parts.append(tree.children[1])
            tree = tree.children[0]
        offset = self._find(symbol, tree)
        return Operator(offset, symbol, tuple(map(self.build, [tree, *reversed(parts)])))

    def _binary(self, tree: Tree) -> SyntaxNode:
        head, right = tree.children
        symbol = _SYMBOLS[head.data.rpartition("_")[2]]
        operands = (self.build(head.children[0]), self.build(right))
        return Operator(head.meta.end_pos - len(symbol), symbol, operands)

    def _unary(self, tree: Tree) -> SyntaxNode:
        sign, operand = tree.children
        offset = sign.meta.start_pos
        inner = operand
        while inner.data in _WRAPPERS and inner.data != "paren_expr" and len(inner.children) == 1:
            inner = inner.children[0]
        if sign.data == "unary_neg" and inner.data == "literal":
            return self._literal(offset, inner.children[0], negated=True)
        return Operator(offset, _SYMBOLS[sign.data.rpartition("_")[2]], (self.build(operand),))

    def _select(self, tree: Tree) -> SyntaxNode:
        operand, field = tree.children
        built = self.build(operand)
        return Select(built.offset, built, str(field), field.start_pos)

    def _method(self, tree: Tree) -> SyntaxNode:
        operand, name, *arguments = tree.children
        return CallNode(name.start_pos, str(name), self.build(operand), self._arguments(arguments))

    def _call(self, tree: Tree) -> SyntaxNode:
        name, *arguments = tree.children
        if str(name) in _RESERVED:
            self.faults.add(name.start_pos, f"{name} is a reserved word")
        return CallNode(name.start_pos, str(name), None, self._arguments(arguments))

    def _arguments(self, trees: list[Tree]) -> tuple[SyntaxNode, ...]:
        return tuple(self.build(child) for tree in trees for child in tree.children)

    def _index(self, tree: Tree) -> SyntaxNode:
        offset = self._find("[", tree.children[0])
        return Operator(offset, "[]", tuple(map(self.build, tree.children)))

    def _list(self, tree: Tree) -> SyntaxNode:
        items = self._arguments(tree.children)
        self._size(tree, len(items), "elements")
        return ListLiteral(tree.meta.start_pos, items)

    def _map(self, tree: Tree) -> SyntaxNode:
        parts = self._arguments(tree.children)
        self._size(tree, len(parts) // 2, "entries")
        return MapLiteral(tree.meta.start_pos, tuple(zip(parts[::2], parts[1::2], strict=True)))

    def _size(self, tree: Tree, size: int, what: str) -> None:
        if size > self.limits.elements:
            message = f"too complex: more than {self.limits.elements} {what}"
            self.faults.add(tree.meta.start_pos, message)

    def _name(self, token: Tree) -> SyntaxNode:
        if str(token) in _RESERVED:
            self.faults.add(token.start_pos, f"{token} is a reserved word")
            return UnsupportedNode(token.start_pos)
        return Name(token.start_pos, str(token))

    def _rejected(self, tree: Tree, what: str) -> SyntaxNode:
        self.faults.add(tree.meta.start_pos, f"{what} is not in the portable subset")
        return UnsupportedNode(tree.meta.start_pos)

    def _literal(self, offset: int, token: Tree, *, negated: bool) -> SyntaxNode:
        signed = token.value.startswith("-")
        literal = self.scanned.literals.get(token.start_pos + signed)
        if literal is None or len(literal.text) + signed != len(token.value):
            self.faults.add(offset, f"malformed number {token.value}")
            return Constant(offset, None, broken=True)
        value, minus = literal.value, signed != negated
        if literal.broken:
            return Constant(offset, None, broken=True)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = -value if minus else value
            if isinstance(value, int) and value > INT_MAX:
                self.faults.add(offset, "this number is too large for an int")
                return Constant(offset, None, broken=True)
        elif minus:
            self.faults.add(offset, f"- takes a number, not {literal.text}")
            return Constant(offset, None, broken=True)
        return Constant(offset, value)
