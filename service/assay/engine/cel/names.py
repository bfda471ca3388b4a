"""Resolve names and dotted paths to macro variables, plain variables and facts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from assay.engine.cel import checked_tree as tree, syntax
from assay.engine.cel.faults import locate
from assay.engine.cel.schema import BOOL, BROKEN, STRING, Fact, is_broken, join

if TYPE_CHECKING:
    from assay.engine.cel.check import ExpressionChecker

_SHOWN = 5


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that suggests the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)
    return f", did you mean {near[0]}?" if near else ""


def path_of(node: syntax.SyntaxNode) -> tuple[syntax.Name, list[syntax.Select]] | None:
    """Split `a.b.c` into its first name and the selections after it; None without such a name."""
    selects: list[syntax.Select] = []
    while isinstance(node, syntax.Select):
        selects.append(node)
        node = node.operand
    return (node, selects[::-1]) if isinstance(node, syntax.Name) else None


def check_path(checker: ExpressionChecker, node: syntax.Name | syntax.Select) -> tree.CheckedNode:
    """Check a name or a selection."""
    path = path_of(node)
    if path is None and isinstance(node, syntax.Select):
        return _select(checker, checker.check(node.operand), node)
    name, selects = path or (syntax.Name(node.offset, ""), [])
    value = _first(checker, name)
    if value is None and name.name in checker.schema.roots:
        found = _fact(checker, name, selects)
        if found is None:
            return checker.broken(name)
        fact, key, selects = found
        checker.read(name.name, f"{name.name}.{key}")
        value = tree.FactRead(fact.type, *checker.place(name), name.name, key)
    if value is None:
        value = _undeclared(checker, name, selects)
    for select in selects:
        value = _select(checker, value, select)
    return value


def _first(checker: ExpressionChecker, name: syntax.Name) -> tree.CheckedNode | None:
    for slot, (local, type_) in reversed(list(enumerate(checker.scope))):
        if local == name.name:
            return tree.LocalRead(type_, *checker.place(name), slot)
    if name.name in checker.schema.variables:
        checker.read(None, name.name)
        return tree.VariableRead(
            checker.schema.variables[name.name], *checker.place(name), name.name
        )
    return None


def _fact(
    checker: ExpressionChecker, name: syntax.Name, selects: list[syntax.Select]
) -> tuple[Fact, str, list[syntax.Select]] | None:
    """Find the longest declared path; the remaining selections are keys of a map."""
    facts = checker.schema.roots[name.name]
    for length in range(len(selects), 0, -1):
        key = _key(checker, name, selects[:length])
        if key in facts:
            return facts[key], key, selects[length:]
    _no_fact(checker, name, ".".join(select.field for select in selects))
    return None


def _key(checker: ExpressionChecker, name: syntax.Name, selects: list[syntax.Select]) -> str:
    """Return the path below a root; the current one for a former path that the schema accepts."""
    key = ".".join(select.field for select in selects)
    path = f"{name.name}.{key}"
    if checker.schema.accept_former and path in checker.schema.former:
        return checker.schema.former[path].partition(".")[2]
    return key


def _no_fact(checker: ExpressionChecker, name: syntax.Name, key: str) -> None:
    facts = checker.schema.roots[name.name]
    path = f"{name.name}.{key}" if key else name.name
    if path in checker.schema.former:
        current = checker.schema.former[path]
        checker.faults.add(name.offset, f"{path} was renamed: write {current}")
        return
    below = sorted(
        f"{name.name}.{known}" for known in facts if not key or known.startswith(f"{key}.")
    )
    if below:
        more = ", …" if len(below) > _SHOWN else ""
        message = f"{path} is a group of facts: name one of {', '.join(below[:_SHOWN])}{more}"
    else:
        groups = (known[:dot] for known in facts for dot, sign in enumerate(known) if sign == ".")
        near = suggest(key, {*facts, *groups})
        message = f"{path} is not declared{near.replace('mean ', f'mean {name.name}.')}"
    checker.faults.add(name.offset, message)


def _undeclared(
    checker: ExpressionChecker, name: syntax.Name, selects: list[syntax.Select]
) -> tree.CheckedNode:
    known = [
        *checker.schema.roots,
        *checker.schema.variables,
        *(local for local, _ in checker.scope),
    ]
    near = suggest(name.name, known)
    if not near and selects:
        path = ".".join([name.name, *(select.field for select in selects)])
        near = suggest(
            path, [f"{root}.{key}" for root, facts in checker.schema.roots.items() for key in facts]
        )
    checker.faults.add(name.offset, f"{name.name} is not declared{near}")
    return checker.broken(name)


def _select(
    checker: ExpressionChecker, operand: tree.CheckedNode, select: syntax.Select
) -> tree.CheckedNode:
    """`operand.field` where the operand is a map with string keys."""
    if is_broken(operand.type):
        return checker.broken(select)
    if operand.type.name != "map" or not join(operand.type.parameters[0], STRING):
        checker.faults.add(select.place, f"{operand.type} has no field {select.field}")
        return checker.broken(select)
    place = locate(checker.faults.text, select.place)
    key = tree.Literal(STRING, *place, select.field)
    return tree.Operation(operand.type.parameters[1], *place, "map []", (operand, key))


def check_has(checker: ExpressionChecker, node: syntax.CallNode) -> tree.CheckedNode:
    """Check `has(root.path)` or `has(map.key)`."""
    argument = node.arguments[0] if len(node.arguments) == 1 else None
    if not isinstance(argument, syntax.Select):
        checker.faults.add(node.offset, "has takes one fact: has(root.path)")
        return checker.broken(node)
    path = path_of(argument)
    if (
        path is not None
        and _first(checker, path[0]) is None
        and path[0].name in checker.schema.roots
    ):
        name, selects = path
        key = _key(checker, name, selects)
        if key in checker.schema.roots[name.name]:
            return _has_fact(checker, node, name.name, key)
    if not _is_value(checker, path):
        check_path(checker, argument)
        return checker.broken(node)
    chosen = _select(checker, checker.check(argument.operand), argument)
    if not isinstance(chosen, tree.Operation):
        return checker.broken(node)
    return tree.Operation(BOOL, *checker.place(node), "map has", chosen.operands)


def _has_fact(
    checker: ExpressionChecker, node: syntax.CallNode, root: str, key: str
) -> tree.CheckedNode:
    if root == "variables":
        checker.faults.add(
            node.offset,
            f"has asks for facts, and {root}.{key} is computed: ask for the facts it reads",
        )
        return tree.Literal(BROKEN, *checker.place(node), None)
    checker.read(root, f"{root}.{key}")
    return tree.HasFact(BOOL, *checker.place(node), root, key)


def _is_value(
    checker: ExpressionChecker, path: tuple[syntax.Name, list[syntax.Select]] | None
) -> bool:
    """Return whether the part before the last dot is a value, not a group of facts."""
    if (
        path is None
        or path[0].name not in checker.schema.roots
        or _first(checker, path[0]) is not None
    ):
        return True
    fields = [select.field for select in path[1][:-1]]
    facts = checker.schema.roots[path[0].name]
    return any(".".join(fields[:length]) in facts for length in range(1, len(fields) + 1))
