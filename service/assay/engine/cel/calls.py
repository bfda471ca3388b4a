"""Check calls: macros, standard functions, and functions that the schema declares."""

from __future__ import annotations

from collections.abc import Sequence

import re2

from assay.engine.cel import checked_tree as tree, syntax
from assay.engine.cel.names import suggest
from assay.engine.cel.schema import (
    BOOL,
    BROKEN,
    INT,
    STRING,
    Function,
    Type,
    is_broken,
    join,
    list_of,
    record,
)
from assay.engine.cel.scope import CheckScope
from assay.engine.cel.signatures import FUNCTIONS, IDENTITY, OUTSIDE, STRING_METHODS

_PATTERN_MEMORY = 1 << 18
"""Bytes for a compiled pattern: ample for names and versions, too few for one that explodes."""


def check_call(scope: CheckScope, node: syntax.CallNode) -> tree.CheckedNode:
    """Check a call that is not a macro."""
    if node.name == "size" and _count(node) == 1:
        return _size(scope, node)
    if node.name == "matches" and _count(node) == 2:  # noqa: PLR2004 - text and pattern
        return _matches(scope, node)
    if node.name in STRING_METHODS and node.target is not None and len(node.arguments) == 1:
        return _string_method(scope, node)
    if node.name in FUNCTIONS and node.target is None and len(node.arguments) == 1:
        return _conversion(scope, node)
    declared = [f for f in scope.schema.functions if f.name == node.name]
    if not declared:
        scope.faults.add(node.offset, _unknown(scope, node))
        for argument in _all(node):
            scope.check(argument)
        return scope.broken(node)
    return _declared(scope, node, declared)


def _all(node: syntax.CallNode) -> tuple[syntax.SyntaxNode, ...]:
    return node.arguments if node.target is None else (node.target, *node.arguments)


def _count(node: syntax.CallNode) -> int:
    return len(_all(node))


def _unknown(scope: CheckScope, node: syntax.CallNode) -> str:
    if node.name in STRING_METHODS:
        return f"{node.name} is called on a string with one argument: text.{node.name}(part)"
    if node.name in {"size", "matches", *FUNCTIONS}:
        return f"{node.name} cannot be called like this"
    if node.name in OUTSIDE:
        return f"{node.name} is not in the portable subset"
    known = {
        *FUNCTIONS,
        *STRING_METHODS,
        "size",
        "matches",
        "has",
        *(f.name for f in scope.schema.functions),
    }
    return f"there is no function {node.name}{suggest(node.name, known)}"


def _size(scope: CheckScope, node: syntax.CallNode) -> tree.CheckedNode:
    operand = scope.check(_all(node)[0])
    if operand.type.name not in {"string", "list", "map", "broken"}:
        scope.faults.add(node.offset, f"size takes a string, list or map, not {operand.type}")
    return tree.Operation(INT, *scope.place(node), "size", (operand,))


def _string_method(scope: CheckScope, node: syntax.CallNode) -> tree.CheckedNode:
    operands = tuple(map(scope.check, _all(node)))
    for operand in operands:
        if not join(operand.type, STRING):
            scope.faults.add(node.offset, f"{node.name} takes strings, not {operand.type}")
    return tree.Operation(BOOL, *scope.place(node), node.name, operands)


def _conversion(scope: CheckScope, node: syntax.CallNode) -> tree.CheckedNode:
    operand = scope.check(node.arguments[0])
    known = FUNCTIONS[node.name].get(operand.type)
    if known is None:
        if not is_broken(operand.type):
            convertible = ", ".join(map(str, FUNCTIONS[node.name]))
            scope.faults.add(node.offset, f"{node.name} converts {convertible}, not {operand.type}")
        result = next(iter(FUNCTIONS[node.name].values()))[0]
        return tree.Literal(result, *scope.place(node), None)
    result, operation = known
    return (
        operand
        if operation == IDENTITY
        else tree.Operation(result, *scope.place(node), operation, (operand,))
    )


def _matches(scope: CheckScope, node: syntax.CallNode) -> tree.CheckedNode:
    text, pattern = _all(node)
    operand = scope.check(text)
    if not join(operand.type, STRING):
        scope.faults.add(node.offset, f"matches takes a string, not {operand.type}")
    if not isinstance(pattern, syntax.Constant) or not isinstance(pattern.value, str):
        if not isinstance(pattern, syntax.Constant) or not pattern.broken:
            scope.faults.add(pattern.offset, "the pattern of matches must be a string literal")
        return scope.broken(node)
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    try:
        compiled = re2.compile(pattern.value, options)
    except re2.error as error:
        why = error.args[0] if error.args else "unreadable"
        why = why.decode("utf-8", "replace") if isinstance(why, bytes) else why
        scope.faults.add(pattern.offset, f"bad pattern: {why}")
        return scope.broken(node)
    return tree.Match(BOOL, *scope.place(node), operand, compiled.search)


def _declared(
    scope: CheckScope, node: syntax.CallNode, declared: Sequence[Function]
) -> tree.CheckedNode:
    wanted = [f for f in declared if (f.receiver is None) == (node.target is None)]
    if not wanted:
        form = _form(declared[0])
        scope.faults.add(node.offset, f"{node.name} is called as {form}")
        return scope.broken(node)
    arguments = tuple(_argument(scope, a, i, wanted) for i, a in enumerate(_all(node)))
    types = tuple(a.type for a in arguments)
    for function in wanted:
        parameters = _parameters(function)
        if len(parameters) == len(types) and all(map(join, parameters, types)):
            return _call(scope, node, function, arguments)
    if not is_broken(*types):
        given = ", ".join(map(str, types))
        forms = " or ".join(map(_form, wanted))
        scope.faults.add(node.offset, f"{node.name} is called as {forms}, not with ({given})")
    results = {f.result for f in wanted}
    return tree.Literal(results.pop() if len(results) == 1 else BROKEN, *scope.place(node), None)


def _call(
    scope: CheckScope,
    node: syntax.CallNode,
    function: Function,
    arguments: tuple[tree.CheckedNode, ...],
) -> tree.CheckedNode:
    if function.judging and not scope.judging:
        scope.faults.add(node.offset, f"{node.name} judges evidence, which only pool rules may do")
    for argument in arguments:
        if isinstance(argument, tree.RootRead):
            scope.read(argument.root, argument.root)
    scope.functions.add(node.name)
    return tree.FunctionCall(function.result, *scope.place(node), function, arguments)


def _parameters(function: Function) -> tuple[Type, ...]:
    return (
        function.parameters
        if function.receiver is None
        else (function.receiver, *function.parameters)
    )


def _form(function: Function) -> str:
    receiver = "" if function.receiver is None else f"{_spelled(function.receiver)}."
    return f"{receiver}{function.name}({', '.join(map(_spelled, function.parameters))})"


def _spelled(type_: Type) -> str:
    return type_.parameters[0].name if type_.name == "record" else str(type_)


def _argument(
    scope: CheckScope, node: syntax.SyntaxNode, index: int, wanted: Sequence[Function]
) -> tree.CheckedNode:
    """Check an argument; a bare root is allowed if some form of the function takes that record."""
    if isinstance(node, syntax.Name) and node.name in scope.schema.roots:
        local = any(node.name == name for name, _ in scope.macro_variables)
        takes = [_parameters(f)[index : index + 1] for f in wanted]
        if not local and (record(node.name),) in takes:
            return tree.RootRead(record(node.name), *scope.place(node), node.name)
    return scope.check(node)


_RESULTS = {"all": BOOL, "exists": BOOL, "exists_one": BOOL, "filter": None, "map": None}
_ARGUMENTS = {"map": (2, 3)}


def is_macro(node: syntax.CallNode) -> bool:
    """Return whether a call is a macro."""
    return node.target is not None and node.name in _RESULTS


def check_macro(scope: CheckScope, node: syntax.CallNode) -> tree.CheckedNode:
    """Check the list or map, then the body with the variable in scope."""
    elements = scope.check(node.target or node)
    if len(node.arguments) not in _ARGUMENTS.get(node.name, (2,)) or not isinstance(
        node.arguments[0], syntax.Name
    ):
        scope.faults.add(
            node.offset, f"{node.name} takes a variable and an expression: list.{node.name}(x, …)"
        )
        return scope.broken(node)
    if elements.type.name not in {"list", "map", "broken"}:
        scope.faults.add(
            node.offset, f"{node.name} iterates over a list or a map, not {elements.type}"
        )
    known = elements.type.name in {"list", "map"}
    element = elements.type.parameters[0] if known else BROKEN
    slot = len(scope.macro_variables)
    if slot == scope.limits.macros:
        scope.faults.add(
            node.offset, f"too complex: macros nested deeper than {scope.limits.macros}"
        )
    scope.macro_variables.append((node.arguments[0].name, element))
    try:
        return _body(scope, node, elements, slot)
    finally:
        scope.macro_variables.pop()


def _body(
    scope: CheckScope, node: syntax.CallNode, elements: tree.CheckedNode, slot: int
) -> tree.CheckedNode:
    body = [scope.check(argument) for argument in node.arguments[1:]]
    result = body.pop() if node.name == "map" else None
    condition = body[0] if body else None
    if condition is not None and not join(condition.type, BOOL):
        scope.faults.add(
            node.arguments[1].offset, f"{node.name} takes a bool, not {condition.type}"
        )
    kind = _kind(node, elements, result)
    if is_broken(elements.type):
        kind = kind if kind == BOOL else BROKEN
    scope.absorbs = scope.absorbs or node.name in {"all", "exists"}
    return tree.Macro(kind, *scope.place(node), node.name, slot, elements, condition, result)


def _kind(
    node: syntax.CallNode, elements: tree.CheckedNode, result: tree.CheckedNode | None
) -> Type:
    if result is not None:
        return list_of(result.type)
    fixed = _RESULTS[node.name]
    if fixed is not None:
        return fixed
    return list_of(elements.type.parameters[0]) if elements.type.name == "map" else elements.type
