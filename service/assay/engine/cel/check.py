"""Check an expression against the declared facts: text in, typed tree or located faults out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from assay.engine.cel import checked_tree as tree, syntax
from assay.engine.cel.calls import MACROS, check_call, check_macro
from assay.engine.cel.faults import ExpressionFault, FaultList
from assay.engine.cel.schema import (
    BOOL,
    BROKEN,
    DOUBLE,
    INT,
    KEYS,
    NULL,
    ORDERED,
    STRING,
    Schema,
    Type,
    is_broken,
    join,
    join_all,
    list_of,
    literal_type,
    map_of,
)
from assay.engine.cel.scope import CheckScope, check_has, check_path
from assay.engine.cel.syntax import Builder, parse
from assay.engine.cel.tokens import LIMITS, Limits, scan

_ARITHMETIC = {(symbol, INT): f"int {symbol}" for symbol in "+-*/%"}
_ARITHMETIC |= {(symbol, DOUBLE): f"double {symbol}" for symbol in "+-*/"}
_ARITHMETIC[("+", STRING)] = "string +"
_COMPARISONS = frozenset({"<", "<=", ">", ">="})


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
    node, start, found = _read(text, limits)
    faults.found.update(found)
    checker = _ExpressionChecker(schema, faults, limits, judging=judging)
    root = checker.check(node)
    if expected is not None and not join(root.type, expected):
        faults.add(start, f"this must be {expected}, and is {root.type}")
    if faults.found:
        raise faults.error()
    reads, roots, functions = map(frozenset, (checker.reads, checker.roots, checker.functions))
    return CheckedExpression(text, root, reads, roots, functions, checker.absorbs)


@lru_cache(maxsize=2048)
def _read(text: str, limits: Limits) -> tuple[syntax.SyntaxNode, int, frozenset[ExpressionFault]]:
    """Return the syntax tree of a text, where it starts, and the faults found so far.

    Parsing takes longest. The same rule is checked in each rule set that inherits it, and again
    with each revision, so that most texts have been read before.
    """
    faults = FaultList(text)
    scanned = scan(text, limits, faults)
    node = Builder(scanned, limits, faults).build(parse(scanned, faults))
    return node, scanned.start, frozenset(faults.found)


class _ExpressionChecker(CheckScope):
    """Turns untyped nodes into typed ones; a faulty node gets the type `broken`."""

    def check(self, node: syntax.SyntaxNode) -> tree.CheckedNode:
        """Check a node and all below it."""
        match node:
            case syntax.Constant(broken=False):
                value: Any = node.value
                checked: tree.CheckedNode = tree.Literal(
                    literal_type(value), *self.place(node), value
                )
            case syntax.Name() | syntax.Select():
                checked = check_path(self, node)
            case syntax.CallNode(name="has", target=None):
                checked = check_has(self, node)
            case syntax.CallNode(target=target) if target is not None and node.name in MACROS:
                checked = check_macro(self, node, target)
            case syntax.CallNode():
                checked = check_call(self, node)
            case syntax.Operator():
                checked = self._operator(node, tuple(map(self.check, node.operands)))
            case syntax.ListLiteral():
                items = tuple(map(self.check, node.items))
                element = self._uniform(node, "a list", items)
                checked = tree.ListOf(list_of(element), *self.place(node), items)
            case syntax.MapLiteral():
                checked = self._map(node)
            case _:  # it has been reported
                checked = self.broken(node)
        return checked

    def _operator(
        self, node: syntax.Operator, operands: tuple[tree.CheckedNode, ...]
    ) -> tree.CheckedNode:
        symbol, types = node.symbol, [operand.type for operand in operands]
        if symbol == "?:":
            return self._choice(node, *operands)
        if symbol in {"&&", "||", "!"}:
            for part, type_ in zip(node.operands, types, strict=True):
                if not join(type_, BOOL):
                    self.fault(part, f"{symbol} takes bools, and this is {type_}")
            if symbol == "!":
                return tree.Operation(BOOL, *self.place(node), "!", operands)
            self.absorbs = True
            return tree.Logic(BOOL, *self.place(node), symbol, operands)
        if not is_broken(*types):
            resolved = _resolve(symbol, types)
            if resolved is not None:
                return tree.Operation(resolved[0], *self.place(node), resolved[1], operands)
            self.fault(node, _mismatch(node, types))
        # The placeholder has the type that the operator would have with other operands.
        known = BROKEN
        if symbol in {"==", "!=", "in", *_COMPARISONS}:
            known = BOOL
        elif set(types) == {INT, DOUBLE} and symbol != "[]":
            known = DOUBLE
        return tree.Literal(known, *self.place(node), None)

    def _choice(
        self,
        node: syntax.Operator,
        condition: tree.CheckedNode,
        then: tree.CheckedNode,
        otherwise: tree.CheckedNode,
    ) -> tree.CheckedNode:
        if not join(condition.type, BOOL):
            self.fault(node.operands[0], f"?: takes a bool, not {condition.type}")
        both = join(then.type, otherwise.type)
        if both is None:
            return self.fault(node, f"?: cannot choose between {then.type} and {otherwise.type}")
        return tree.Choice(both, *self.place(node), condition, then, otherwise)

    def _map(self, node: syntax.MapLiteral) -> tree.CheckedNode:
        entries = tuple((self.check(key), self.check(value)) for key, value in node.entries)
        key = self._uniform(node, "the keys of a map", [k for k, _ in entries])
        value = self._uniform(node, "the values of a map", [v for _, v in entries])
        if not any(join(key, allowed) for allowed in KEYS):
            self.fault(node, f"{key} cannot be a key of a map")
        written = [k for k, _ in node.entries]
        constants = [k.value for k in written if isinstance(k, syntax.Constant) and not k.broken]
        if len(set(constants)) != len(constants):
            self.fault(node, "a key occurs twice in this map")
        return tree.MapOf(map_of(key, value), *self.place(node), entries)

    def _uniform(
        self, node: syntax.SyntaxNode, what: str, parts: Sequence[tree.CheckedNode]
    ) -> Type:
        element = join_all(part.type for part in parts)
        if element is None:
            found = ", ".join(dict.fromkeys(str(part.type) for part in parts))
            self.fault(node, f"{what} must be of one type, not {found}")
            return BROKEN
        return element


def _resolve(symbol: str, types: Sequence[Type]) -> tuple[Type, str] | None:
    """Return an operator's type and the name of its operation; None if it rejects the operands.

    The checker itself resolves `&&`, `||`, `!` and `?:`.
    """
    if len(types) == 1:
        operand = types[0]
        return (operand, f"{operand} -_") if operand in {INT, DOUBLE} else None
    left, right = types
    if symbol in {"in", "[]"}:
        return _resolve_in(left, right) if symbol == "in" else _resolve_index(left, right)
    both = join(left, right)
    if both is None or both.name == "record":
        return None
    if symbol in {"==", "!="}:
        return BOOL, f"deep {symbol}" if both.parameters else symbol
    if symbol in _COMPARISONS:
        return (BOOL, symbol) if both in ORDERED else None
    known = "list +" if (symbol, both.name) == ("+", "list") else _ARITHMETIC.get((symbol, both))
    return None if known is None else (both, known)


def _resolve_in(element: Type, container: Type) -> tuple[Type, str] | None:
    if container.name not in {"list", "map"}:
        return None
    both = join(element, container.parameters[0])
    if both is None:
        return None
    deep = container.name == "list" and (both == DOUBLE or bool(both.parameters))
    return BOOL, "deep in" if deep else "in"


def _resolve_index(container: Type, index: Type) -> tuple[Type, str] | None:
    if container.name == "list":
        return (container.parameters[0], "list []") if join(index, INT) else None
    if container.name == "map" and join(index, container.parameters[0]):
        return container.parameters[1], "map []"
    return None


def _mismatch(node: syntax.Operator, types: Sequence[Type]) -> str:
    """Return why `_resolve` returned None, with a hint if there is one."""
    symbol = node.symbol
    if len(types) == 1:
        return f"{symbol} cannot take {types[0]}"
    left, right = types
    if symbol == "in" and right.name not in {"list", "map"}:
        return f"in looks into a list or a map, not {right}"
    if symbol == "[]":
        return f"{left} cannot be indexed by {right}"
    message = f"{symbol} cannot take {left} and {right}"
    if NULL in {left, right} and left != right:
        return f"{message}: only null equals null, ask has(…) whether a fact is there"
    if set(types) != {INT, DOUBLE} or symbol == "in":
        return message
    whole = node.operands[types.index(INT)]
    hint = (
        f"write {whole.value}.0" if isinstance(whole, syntax.Constant) else "convert with double(…)"
    )
    return f"{message}: {hint}"
