"""The names that an expression may use: macro variables, plain variables and facts."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable

from assay.engine.cel import checked_tree as tree, syntax
from assay.engine.cel.faults import FaultList, locate
from assay.engine.cel.schema import BOOL, BROKEN, STRING, Fact, Schema, Type, is_broken, join
from assay.engine.cel.tokens import Limits

_SHOWN = 5


class CheckScope(ABC):
    """The names that an expression may use, and the reads and faults found so far.

    `macro_variables` holds the variables of the macros around the present node, outermost first.
    `reads`, `roots`, `functions` and `absorbs` become the fields of the checked expression.
    """

    def __init__(self, schema: Schema, faults: FaultList, limits: Limits, *, judging: bool) -> None:
        self.schema, self.faults, self.limits, self.judging = schema, faults, limits, judging
        self.macro_variables: list[tuple[str, Type]] = []
        self.reads: set[str] = set()
        self.roots: set[str] = set()
        self.functions: set[str] = set()
        self.absorbs = False

    @abstractmethod
    def check(self, node: syntax.SyntaxNode) -> tree.CheckedNode:
        """Check a node and all below it."""

    def place(self, node: syntax.SyntaxNode) -> tuple[int, int]:
        """Return the line and column of a node."""
        return locate(self.faults.text, node.offset)

    def broken(self, node: syntax.SyntaxNode) -> tree.CheckedNode:
        """Return the placeholder for a node whose fault has been reported."""
        return tree.Literal(BROKEN, *self.place(node), None)

    def fault(self, node: syntax.SyntaxNode, message: str) -> tree.CheckedNode:
        """Report a fault at a node, and return the node's placeholder."""
        self.faults.add(node.offset, message)
        return self.broken(node)

    def read(self, root: str | None, path: str) -> None:
        """Record that the expression reads a path."""
        self.reads.add(path)
        if root is not None:
            self.roots.add(root)


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
            return scope.fault(name, _no_fact(scope, name.name, _joined(selects)))
        fact, key, selects = found
        scope.read(name.name, f"{name.name}.{key}")
        value = tree.FactRead(fact.type, *scope.place(name), name.name, key)
    if value is None:
        value = scope.fault(name, _undeclared(scope, name.name, selects))
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
    return None


def _key(scope: CheckScope, name: syntax.Name, selects: list[syntax.Select]) -> str:
    """Return the path below a root; the current one for a former path that the schema accepts."""
    key = _joined(selects)
    path = f"{name.name}.{key}"
    if scope.schema.accept_former and path in scope.schema.former:
        return scope.schema.former[path].partition(".")[2]
    return key


def _joined(selects: Iterable[syntax.Select]) -> str:
    return ".".join(select.field for select in selects)


def _no_fact(scope: CheckScope, root: str, key: str) -> str:
    """Return why a path below a root is not a fact."""
    facts = scope.schema.roots[root]
    path = f"{root}.{key}" if key else root
    if path in scope.schema.former:
        return f"{path} was renamed: write {scope.schema.former[path]}"
    below = sorted(f"{root}.{k}" for k in facts if not key or k.startswith(f"{key}."))
    if below:
        more = ", …" if len(below) > _SHOWN else ""
        return f"{path} is a group of facts: name one of {', '.join(below[:_SHOWN])}{more}"
    groups = (known[:dot] for known in facts for dot, sign in enumerate(known) if sign == ".")
    near = suggest(key, {*facts, *groups})
    return f"{path} is not declared{near.replace('mean ', f'mean {root}.')}"


def _undeclared(scope: CheckScope, name: str, selects: list[syntax.Select]) -> str:
    schema = scope.schema
    local = (local for local, _ in scope.macro_variables)
    near = suggest(name, [*schema.roots, *schema.variables, *local])
    if not near and selects:
        paths = [f"{root}.{key}" for root, facts in schema.roots.items() for key in facts]
        near = suggest(f"{name}.{_joined(selects)}", paths)
    return f"{name} is not declared{near}"


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
        return scope.fault(node, "has takes one fact: has(root.path)")
    path = path_of(argument)
    if path is not None and _first(scope, path[0]) is None and path[0].name in scope.schema.roots:
        name, selects = path
        root, key, facts = name.name, _key(scope, name, selects), scope.schema.roots[name.name]
        if key in facts and root == "variables":
            what = f"{root}.{key} is computed"
            return scope.fault(node, f"has asks for facts, and {what}: ask for the facts it reads")
        if key in facts:
            scope.read(root, f"{root}.{key}")
            return tree.HasFact(BOOL, *scope.place(node), root, key)
        if not any(_joined(selects[:length]) in facts for length in range(1, len(selects))):
            check_path(scope, argument)  # what is before the last dot is no value: report why
            return scope.broken(node)
    chosen = _select(scope, scope.check(argument.operand), argument)
    if not isinstance(chosen, tree.Operation):
        return scope.broken(node)
    return tree.Operation(BOOL, *scope.place(node), "map has", chosen.operands)
