"""Resolve names and dotted paths to macro variables, plain variables and facts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from assay.engine.cel import checked_tree as tree, syntax
from assay.engine.cel.faults import locate
from assay.engine.cel.schema import BOOL, BROKEN, STRING, Fact, is_broken, join
from assay.engine.cel.scope import CheckScope

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


def check_path(scope: CheckScope, node: syntax.Name | syntax.Select) -> tree.CheckedNode:
    """Check a name or a selection."""
    path = path_of(node)
    if path is None and isinstance(node, syntax.Select):
        return _select(scope, scope.check(node.operand), node)
    name, selects = path or (syntax.Name(node.offset, ""), [])
    value = _first(scope, name)
    if value is None and name.name in scope.schema.roots:
        found = _fact(scope, name, selects)
        if found is None:
            return scope.broken(name)
        fact, key, selects = found
        scope.read(name.name, f"{name.name}.{key}")
        value = tree.FactRead(fact.type, *scope.place(name), name.name, key)
    if value is None:
        value = _undeclared(scope, name, selects)
    for select in selects:
        value = _select(scope, value, select)
    return value


def _first(scope: CheckScope, name: syntax.Name) -> tree.CheckedNode | None:
    for slot, (local, type_) in reversed(list(enumerate(scope.macro_variables))):
        if local == name.name:
            return tree.LocalRead(type_, *scope.place(name), slot)
    if name.name in scope.schema.variables:
        scope.read(None, name.name)
        return tree.VariableRead(scope.schema.variables[name.name], *scope.place(name), name.name)
    return None


def _fact(
    scope: CheckScope, name: syntax.Name, selects: list[syntax.Select]
) -> tuple[Fact, str, list[syntax.Select]] | None:
    """Find the longest declared path; the remaining selections are keys of a map."""
    facts = scope.schema.roots[name.name]
    for length in range(len(selects), 0, -1):
        key = _key(scope, name, selects[:length])
        if key in facts:
            return facts[key], key, selects[length:]
    _no_fact(scope, name, ".".join(select.field for select in selects))
    return None


def _key(scope: CheckScope, name: syntax.Name, selects: list[syntax.Select]) -> str:
    """Return the path below a root; the current one for a former path that the schema accepts."""
    key = ".".join(select.field for select in selects)
    path = f"{name.name}.{key}"
    if scope.schema.accept_former and path in scope.schema.former:
        return scope.schema.former[path].partition(".")[2]
    return key


def _no_fact(scope: CheckScope, name: syntax.Name, key: str) -> None:
    facts = scope.schema.roots[name.name]
    path = f"{name.name}.{key}" if key else name.name
    if path in scope.schema.former:
        current = scope.schema.former[path]
        scope.faults.add(name.offset, f"{path} was renamed: write {current}")
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
    scope.faults.add(name.offset, message)


def _undeclared(
    scope: CheckScope, name: syntax.Name, selects: list[syntax.Select]
) -> tree.CheckedNode:
    known = [
        *scope.schema.roots,
        *scope.schema.variables,
        *(local for local, _ in scope.macro_variables),
    ]
    near = suggest(name.name, known)
    if not near and selects:
        path = ".".join([name.name, *(select.field for select in selects)])
        near = suggest(
            path, [f"{root}.{key}" for root, facts in scope.schema.roots.items() for key in facts]
        )
    scope.faults.add(name.offset, f"{name.name} is not declared{near}")
    return scope.broken(name)


def _select(
    scope: CheckScope, operand: tree.CheckedNode, select: syntax.Select
) -> tree.CheckedNode:
    """`operand.field` where the operand is a map with string keys."""
    if is_broken(operand.type):
        return scope.broken(select)
    if operand.type.name != "map" or not join(operand.type.parameters[0], STRING):
        scope.faults.add(select.place, f"{operand.type} has no field {select.field}")
        return scope.broken(select)
    place = locate(scope.faults.text, select.place)
    key = tree.Literal(STRING, *place, select.field)
    return tree.Operation(operand.type.parameters[1], *place, "map []", (operand, key))


def check_has(scope: CheckScope, node: syntax.CallNode) -> tree.CheckedNode:
    """Check `has(root.path)` or `has(map.key)`."""
    argument = node.arguments[0] if len(node.arguments) == 1 else None
    if not isinstance(argument, syntax.Select):
        scope.faults.add(node.offset, "has takes one fact: has(root.path)")
        return scope.broken(node)
    path = path_of(argument)
    if path is not None and _first(scope, path[0]) is None and path[0].name in scope.schema.roots:
        name, selects = path
        key = _key(scope, name, selects)
        if key in scope.schema.roots[name.name]:
            return _has_fact(scope, node, name.name, key)
    if not _is_value(scope, path):
        check_path(scope, argument)
        return scope.broken(node)
    chosen = _select(scope, scope.check(argument.operand), argument)
    if not isinstance(chosen, tree.Operation):
        return scope.broken(node)
    return tree.Operation(BOOL, *scope.place(node), "map has", chosen.operands)


def _has_fact(scope: CheckScope, node: syntax.CallNode, root: str, key: str) -> tree.CheckedNode:
    if root == "variables":
        scope.faults.add(
            node.offset,
            f"has asks for facts, and {root}.{key} is computed: ask for the facts it reads",
        )
        return tree.Literal(BROKEN, *scope.place(node), None)
    scope.read(root, f"{root}.{key}")
    return tree.HasFact(BOOL, *scope.place(node), root, key)


def _is_value(scope: CheckScope, path: tuple[syntax.Name, list[syntax.Select]] | None) -> bool:
    """Return whether the part before the last dot is a value, not a group of facts."""
    if path is None or path[0].name not in scope.schema.roots or _first(scope, path[0]) is not None:
        return True
    fields = [select.field for select in path[1][:-1]]
    facts = scope.schema.roots[path[0].name]
    return any(".".join(fields[:length]) in facts for length in range(1, len(fields) + 1))
