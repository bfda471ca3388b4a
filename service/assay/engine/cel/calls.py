"""Check calls: macros, standard functions, and functions that the schema declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import re2

from assay.engine.cel import checked_tree as tree, syntax
from assay.engine.cel.schema import (
    BOOL,
    BROKEN,
    DOUBLE,
    INT,
    STRING,
    Function,
    Type,
    is_broken,
    join,
    list_of,
    record,
)
from assay.engine.cel.scope import CheckScope, suggest

_IDENTITY = ""
"""The operation of a conversion to the same type."""

_CONVERSIONS: Mapping[str, Mapping[Type, tuple[Type, str]]] = {
    "int": {INT: (INT, _IDENTITY), DOUBLE: (INT, "int(double)")},
    "double": {DOUBLE: (DOUBLE, _IDENTITY), INT: (DOUBLE, "double(int)")},
    "string": {
        STRING: (STRING, _IDENTITY),
        INT: (STRING, "string(int)"),
        DOUBLE: (STRING, "string(double)"),
        BOOL: (STRING, "string(bool)"),
    },
    "bool": {BOOL: (BOOL, _IDENTITY)},
}
"""By function and type of its argument: the type of the result and the operation."""

_STRING_METHODS = frozenset({"startsWith", "endsWith", "contains"})

OUTSIDE = frozenset({
    "uint", "bytes", "timestamp", "duration", "dyn", "type", "getFullYear", "getMonth",
    "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes",
    "getSeconds", "getMilliseconds", "existsOne", "transformList", "transformMap",
    "transformMapEntry", "charAt", "indexOf", "lastIndexOf", "lowerAscii", "upperAscii",
    "replace", "split", "substring", "trim", "join", "quote", "format", "reverse", "orValue",
    "optMap", "optFlatMap", "hasValue", "value",
})  # fmt: skip
"""Functions of CEL and its extensions that are not in the portable subset."""

MACROS: Mapping[str, Type | None] = {
    "all": BOOL, "exists": BOOL, "exists_one": BOOL, "filter": None, "map": None,
}  # fmt: skip
"""The type of each macro's value; None if that depends on its operands."""

_PATTERN_MEMORY = 1 << 18
"""Bytes for a compiled pattern: ample for names and versions, too few for one that explodes."""

_Written = tuple[syntax.SyntaxNode, ...]
"""The arguments of a call as written, the receiver first."""


def check_call(scope: CheckScope, node: syntax.CallNode) -> tree.CheckedNode:
    """Check a call that is not a macro."""
    written = node.arguments if node.target is None else (node.target, *node.arguments)
    if node.name == "size" and len(written) == 1:
        operand = scope.check(written[0])
        if operand.type.name not in {"string", "list", "map", "broken"}:
            scope.fault(node, f"size takes a string, list or map, not {operand.type}")
        return tree.Operation(INT, *scope.place(node), "size", (operand,))
    if node.name == "matches" and len(written) == 2:  # noqa: PLR2004 - text and pattern
        return _matches(scope, node, *written)
    if node.name in _STRING_METHODS and node.target is not None and len(node.arguments) == 1:
        operands = tuple(map(scope.check, written))
        for operand in operands:
            if not join(operand.type, STRING):
                scope.fault(node, f"{node.name} takes strings, not {operand.type}")
        return tree.Operation(BOOL, *scope.place(node), node.name, operands)
    if node.name in _CONVERSIONS and node.target is None and len(written) == 1:
        return _conversion(scope, node)
    declared = [f for f in scope.schema.functions if f.name == node.name]
    if declared:
        return _declared(scope, node, written, declared)
    for argument in written:
        scope.check(argument)
    return scope.fault(node, _unknown(scope, node.name))


def _unknown(scope: CheckScope, name: str) -> str:
    if name in _STRING_METHODS:
        return f"{name} is called on a string with one argument: text.{name}(part)"
    standard = {"size", "matches", *_CONVERSIONS}
    if name in standard:
        return f"{name} cannot be called like this"
    if name in OUTSIDE:
        return f"{name} is not in the portable subset"
    declared = {function.name for function in scope.schema.functions}
    known = {"has", *standard, *_STRING_METHODS, *declared}
    return f"there is no function {name}{suggest(name, known)}"


def _conversion(scope: CheckScope, node: syntax.CallNode) -> tree.CheckedNode:
    operand = scope.check(node.arguments[0])
    conversions = _CONVERSIONS[node.name]
    known = conversions.get(operand.type)
    if known is None:
        if not is_broken(operand.type):
            convertible = ", ".join(map(str, conversions))
            scope.fault(node, f"{node.name} converts {convertible}, not {operand.type}")
        result = next(iter(conversions.values()))[0]
        return tree.Literal(result, *scope.place(node), None)
    result, operation = known
    if operation == _IDENTITY:
        return operand
    return tree.Operation(result, *scope.place(node), operation, (operand,))


def _matches(
    scope: CheckScope, node: syntax.CallNode, text: syntax.SyntaxNode, pattern: syntax.SyntaxNode
) -> tree.CheckedNode:
    operand = scope.check(text)
    if not join(operand.type, STRING):
        scope.fault(node, f"matches takes a string, not {operand.type}")
    if not isinstance(pattern, syntax.Constant) or not isinstance(pattern.value, str):
        if not isinstance(pattern, syntax.Constant) or not pattern.broken:
            scope.fault(pattern, "the pattern of matches must be a string literal")
        return scope.broken(node)
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    try:
        compiled = re2.compile(pattern.value, options)
    except re2.error as error:
        why = error.args[0] if error.args else "unreadable"
        why = why.decode("utf-8", "replace") if isinstance(why, bytes) else why
        scope.fault(pattern, f"bad pattern: {why}")
        return scope.broken(node)
    return tree.Match(BOOL, *scope.place(node), operand, compiled.search)


def _declared(
    scope: CheckScope, node: syntax.CallNode, written: _Written, declared: Sequence[Function]
) -> tree.CheckedNode:
    wanted = [f for f in declared if (f.receiver is None) == (node.target is None)]
    if not wanted:
        return scope.fault(node, f"{node.name} is called as {_form(declared[0])}")
    arguments = tuple(_argument(scope, a, i, wanted) for i, a in enumerate(written))
    types = tuple(a.type for a in arguments)
    for function in wanted:
        if len(function.operands) == len(types) and all(map(join, function.operands, types)):
            break
    else:
        if not is_broken(*types):
            given, forms = ", ".join(map(str, types)), " or ".join(map(_form, wanted))
            scope.fault(node, f"{node.name} is called as {forms}, not with ({given})")
        results = {f.result for f in wanted}
        result = results.pop() if len(results) == 1 else BROKEN
        return tree.Literal(result, *scope.place(node), None)
    if function.judging and not scope.judging:
        scope.fault(node, f"{node.name} judges evidence, which only pool rules may do")
    for argument in arguments:
        if isinstance(argument, tree.RootRead):
            scope.read(argument.root, argument.root)
    scope.functions.add(node.name)
    return tree.FunctionCall(function.result, *scope.place(node), function, arguments)


def _form(function: Function) -> str:
    spelled = [t.parameters[0].name if t.name == "record" else str(t) for t in function.operands]
    receiver = "" if function.receiver is None else f"{spelled.pop(0)}."
    return f"{receiver}{function.name}({', '.join(spelled)})"


def _argument(
    scope: CheckScope, node: syntax.SyntaxNode, index: int, wanted: Sequence[Function]
) -> tree.CheckedNode:
    """Check an argument; a bare root is allowed if some form of the function takes that record."""
    if isinstance(node, syntax.Name) and node.name in scope.schema.roots:
        local = any(node.name == name for name, _ in scope.macro_variables)
        takes = [f.operands[index : index + 1] for f in wanted]
        if not local and (record(node.name),) in takes:
            return tree.RootRead(record(node.name), *scope.place(node), node.name)
    return scope.check(node)


def check_macro(
    scope: CheckScope, node: syntax.CallNode, target: syntax.SyntaxNode
) -> tree.CheckedNode:
    """Check the list or map, then the body with the variable in scope."""
    elements = scope.check(target)
    sizes = {2, 3} if node.name == "map" else {2}
    if len(node.arguments) not in sizes or not isinstance(node.arguments[0], syntax.Name):
        usage = f"takes a variable and an expression: list.{node.name}(x, …)"
        return scope.fault(node, f"{node.name} {usage}")
    is_known = elements.type.name in {"list", "map"}
    if not is_known and not is_broken(elements.type):
        scope.fault(node, f"{node.name} iterates over a list or a map, not {elements.type}")
    element = elements.type.parameters[0] if is_known else BROKEN
    slot = len(scope.macro_variables)
    if slot == scope.limits.macros:
        scope.fault(node, f"too complex: macros nested deeper than {scope.limits.macros}")
    scope.macro_variables.append((node.arguments[0].name, element))
    body = [scope.check(argument) for argument in node.arguments[1:]]
    scope.macro_variables.pop()
    result = body.pop() if node.name == "map" else None
    condition = body[0] if body else None
    if condition is not None and not join(condition.type, BOOL):
        scope.fault(node.arguments[1], f"{node.name} takes a bool, not {condition.type}")
    kind = MACROS[node.name] or list_of(element if result is None else result.type)
    if not is_known and kind != BOOL:
        kind = BROKEN
    scope.absorbs = scope.absorbs or node.name in {"all", "exists"}
    return tree.Macro(kind, *scope.place(node), node.name, slot, elements, condition, result)
