"""Macros: `all`, `exists`, `exists_one`, `filter` and `map` with one variable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.engine.cel import syntax, tree
from assay.engine.cel.schema import BOOL, Type, list_of
from assay.engine.cel.types import BROKEN, is_broken, join

if TYPE_CHECKING:
    from assay.engine.cel.check import Checker

_RESULTS = {"all": BOOL, "exists": BOOL, "exists_one": BOOL, "filter": None, "map": None}
_ARGUMENTS = {"map": (2, 3)}


def is_macro(node: syntax.Call) -> bool:
    """Tell whether a call is a macro."""
    return node.target is not None and node.name in _RESULTS


def check_macro(checker: Checker, node: syntax.Call) -> tree.Node:
    """Check what is iterated, then the body with the variable in scope."""
    elements = checker.check(node.target or node)
    if len(node.arguments) not in _ARGUMENTS.get(node.name, (2,)) or not isinstance(node.arguments[0], syntax.Name):
        checker.faults.add(node.offset, f"{node.name} takes a variable and an expression: list.{node.name}(x, …)")
        return checker.broken(node)
    if elements.type.name not in {"list", "map", "broken"}:
        checker.faults.add(node.offset, f"{node.name} goes through a list or a map, not {elements.type}")
    known = elements.type.name in {"list", "map"}
    element = elements.type.parameters[0] if known else BROKEN
    slot = len(checker.scope)
    if slot == checker.limits.macros:
        checker.faults.add(node.offset, f"too complex: macros nested deeper than {checker.limits.macros}")
    checker.scope.append((node.arguments[0].name, element))
    try:
        return _body(checker, node, elements, slot)
    finally:
        checker.scope.pop()


def _body(checker: Checker, node: syntax.Call, elements: tree.Node, slot: int) -> tree.Node:
    body = [checker.check(argument) for argument in node.arguments[1:]]
    result = body.pop() if node.name == "map" else None
    condition = body[0] if body else None
    if condition is not None and not join(condition.type, BOOL):
        checker.faults.add(node.arguments[1].offset, f"{node.name} asks for a bool, not {condition.type}")
    kind = _kind(node, elements, result)
    if is_broken(elements.type):
        kind = kind if kind == BOOL else BROKEN
    checker.absorbs = checker.absorbs or node.name in {"all", "exists"}
    return tree.Macro(kind, *checker.place(node), node.name, slot, elements, condition, result)


def _kind(node: syntax.Call, elements: tree.Node, result: tree.Node | None) -> Type:
    if result is not None:
        return list_of(result.type)
    fixed = _RESULTS[node.name]
    if fixed is not None:
        return fixed
    return list_of(elements.type.parameters[0]) if elements.type.name == "map" else elements.type
