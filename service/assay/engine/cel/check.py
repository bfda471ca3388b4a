"""Check an expression against the declared facts: text in, typed tree or located faults out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from assay.engine.cel import checked_tree as tree, syntax
from assay.engine.cel.calls import check_call, check_macro, is_macro
from assay.engine.cel.faults import FaultList
from assay.engine.cel.names import check_has, check_path
from assay.engine.cel.schema import (
    BOOL,
    BROKEN,
    DOUBLE,
    INT,
    Schema,
    Type,
    is_broken,
    join,
    join_all,
    list_of,
    literal_type,
    map_of,
)
from assay.engine.cel.scope import CheckScope
from assay.engine.cel.signatures import binary, is_key, operator_fault, unary
from assay.engine.cel.syntax import Builder, parse
from assay.engine.cel.tokens import LIMITS, Limits, scan


@dataclass(frozen=True, slots=True, eq=False)
class CheckedExpression:
    """An expression without faults: its typed tree, and what it reads.

    `reads` holds dotted paths (also those in `has`), plain variables by name, and the bare name of
    a root that is passed whole to a function. If `absorbs` is set, the expression may have a value
    although an operand has none. `closure` caches the exact evaluator's closure.
    """

    text: str
    tree: tree.CheckedNode
    reads: frozenset[str]
    roots: frozenset[str]
    functions: frozenset[str]
    absorbs: bool
    closure: list[Any] = field(default_factory=list, repr=False)

    @property
    def type(self) -> Type:
        """Return the type of the expression's value."""
        return self.tree.type


def check(
    text: str,
    schema: Schema,
    *,
    expected: Type | None = None,
    judging: bool = True,
    limits: Limits = LIMITS,
) -> CheckedExpression:
    """Check an expression; raise ExpressionFaults with all of its faults."""
    faults = FaultList(text)
    scanned = scan(text, limits, faults)
    node = Builder(scanned, limits, faults).build(parse(scanned, faults))
    checker = _ExpressionChecker(schema, faults, limits, judging=judging)
    root = checker.check(node)
    if expected is not None and not join(root.type, expected):
        faults.add(scanned.start, f"this must be {expected}, and is {root.type}")
    if faults.found:
        raise faults.error()
    reads, roots, functions = map(frozenset, (checker.reads, checker.roots, checker.functions))
    return CheckedExpression(text, root, reads, roots, functions, checker.absorbs)


class _ExpressionChecker(CheckScope):
    """Turns untyped nodes into typed ones; a faulty node gets the type `broken`."""

    def __init__(self, schema: Schema, faults: FaultList, limits: Limits, *, judging: bool) -> None:
        super().__init__(schema, faults, limits, judging=judging)
        self._rules: dict[type, Callable[[Any], tree.CheckedNode]] = {
            syntax.Constant: self._constant,
            syntax.Name: lambda node: check_path(self, node),
            syntax.Select: lambda node: check_path(self, node),
            syntax.CallNode: self._call,
            syntax.Operator: self._operator,
            syntax.ListLiteral: self._list,
            syntax.MapLiteral: self._map,
            syntax.UnsupportedNode: self.broken,
        }

    def check(self, node: syntax.SyntaxNode) -> tree.CheckedNode:
        """Check a node and all below it."""
        return self._rules[type(node)](node)

    def _constant(self, node: syntax.Constant) -> tree.CheckedNode:
        if node.broken:
            return self.broken(node)
        value: Any = node.value
        return tree.Literal(literal_type(value), *self.place(node), value)

    def _call(self, node: syntax.CallNode) -> tree.CheckedNode:
        if node.name == "has" and node.target is None:
            return check_has(self, node)
        return check_macro(self, node) if is_macro(node) else check_call(self, node)

    def _operator(self, node: syntax.Operator) -> tree.CheckedNode:
        operands = tuple(map(self.check, node.operands))
        if node.symbol in {"&&", "||"}:
            self._bools(node, node.operands, operands)
            self.absorbs = True
            return tree.Logic(BOOL, *self.place(node), node.symbol, operands)
        if node.symbol == "?:":
            return self._choice(node, operands)
        if node.symbol == "!":
            self._bools(node, node.operands, operands)
            return tree.Operation(BOOL, *self.place(node), "!", operands)
        types = [operand.type for operand in operands]
        if is_broken(*types):
            return self._after_fault(node, types)
        resolved = (
            unary(node.symbol, types[0])
            if len(types) == 1
            else binary(node.symbol, types[0], types[1])
        )
        if resolved is None:
            self.faults.add(node.offset, self._mismatch(node, types))
            return self._after_fault(node, types)
        return tree.Operation(resolved[0], *self.place(node), resolved[1], operands)

    def _after_fault(self, node: syntax.Operator, types: list[Type]) -> tree.CheckedNode:
        """Return the placeholder for a faulty operator; that of a comparison is a bool."""
        is_bool = node.symbol in {"==", "!=", "<", "<=", ">", ">=", "in"}
        known = (
            BOOL
            if is_bool
            else DOUBLE
            if set(types) == {INT, DOUBLE} and node.symbol != "[]"
            else BROKEN
        )
        return tree.Literal(known, *self.place(node), None)

    def _mismatch(self, node: syntax.Operator, types: list[Type]) -> str:
        if len(types) == 1:
            return f"{node.symbol} cannot take {types[0]}"
        message = operator_fault(node.symbol, types[0], types[1])
        if set(types) != {INT, DOUBLE} or node.symbol in {"in", "[]"}:
            return message
        whole = node.operands[types.index(INT)]
        if isinstance(whole, syntax.Constant):
            return f"{message}: write {whole.value}.0"
        return f"{message}: convert with double(…)"

    def _bools(
        self,
        node: syntax.Operator,
        written: Iterable[syntax.SyntaxNode],
        operands: Iterable[tree.CheckedNode],
    ) -> None:
        for part, operand in zip(written, operands, strict=True):
            if not join(operand.type, BOOL):
                self.faults.add(
                    part.offset, f"{node.symbol} takes bools, and this is {operand.type}"
                )

    def _choice(
        self, node: syntax.Operator, operands: tuple[tree.CheckedNode, ...]
    ) -> tree.CheckedNode:
        condition, then, otherwise = operands
        if not join(condition.type, BOOL):
            self.faults.add(node.operands[0].offset, f"?: takes a bool, not {condition.type}")
        both = join(then.type, otherwise.type)
        if both is None:
            self.faults.add(
                node.offset, f"?: cannot choose between {then.type} and {otherwise.type}"
            )
            return self.broken(node)
        return tree.Choice(both, *self.place(node), condition, then, otherwise)

    def _list(self, node: syntax.ListLiteral) -> tree.CheckedNode:
        items = tuple(map(self.check, node.items))
        element = self._uniform(node, "a list", items)
        return tree.ListOf(list_of(element), *self.place(node), items)

    def _map(self, node: syntax.MapLiteral) -> tree.CheckedNode:
        entries = tuple((self.check(key), self.check(value)) for key, value in node.entries)
        key = self._uniform(node, "the keys of a map", [k for k, _ in entries])
        value = self._uniform(node, "the values of a map", [v for _, v in entries])
        if not is_key(key):
            self.faults.add(node.offset, f"{key} cannot be a key of a map")
        constants = [
            k.value for k, _ in node.entries if isinstance(k, syntax.Constant) and not k.broken
        ]
        if len(set(constants)) != len(constants):
            self.faults.add(node.offset, "a key occurs twice in this map")
        return tree.MapOf(map_of(key, value), *self.place(node), entries)

    def _uniform(
        self, node: syntax.SyntaxNode, what: str, parts: Iterable[tree.CheckedNode]
    ) -> Type:
        parts = list(parts)
        element = join_all(part.type for part in parts)
        if element is None:
            found = ", ".join(dict.fromkeys(str(part.type) for part in parts))
            self.faults.add(node.offset, f"{what} must be of one type, not {found}")
            return BROKEN
        return element
