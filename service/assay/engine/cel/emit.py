"""Typed tree to Python's own syntax tree: plain fast code that raises wherever the exact evaluator must decide."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from operator import contains
from typing import Any

from assay.engine.cel import checked_tree as tree
from assay.engine.cel.operations import OPERATIONS
from assay.engine.cel.program import GeneratedExpression
from assay.engine.cel.schema import BOOL, Function

_COMPARE: dict[str, type[ast.cmpop]] = {
    "==": ast.Eq,
    "!=": ast.NotEq,
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
    "in": ast.In,
}
_BINARY: dict[str, type[ast.operator]] = {
    "double +": ast.Add,
    "double -": ast.Sub,
    "double *": ast.Mult,
    "double /": ast.Div,  # by zero raises, and the exact evaluator gives the infinity
}
_SIGNS: dict[str, type[ast.unaryop]] = {"!": ast.Not, "double -_": ast.USub}
_METHODS = {"startsWith": "startswith", "endsWith": "endswith"}
_TRUTH = {True: True, False: False}


def _bool(value: object) -> bool:
    if value is True or value is False:
        return bool(value)
    raise TypeError("a value that is no bool")


_HELPERS: dict[str, Any] = {
    "any": any,
    "all": all,
    "len": len,
    "sum": sum,
    "bool": _bool,
    "truth": _TRUTH,
    "contains": contains,
}


class Emitter:
    """Emits expressions and gathers what their names stand for; constants are inlined.

    All names of the result come from here, so the names of rules never become Python's: `e` is the row, `w` its
    memo of variables, `g` the call's memo, `s` the shared roots and `s_root` one of them, `call` the call.
    """

    def __init__(
        self,
        row: str,
        constants: Mapping[str, object],
        variables: Mapping[str, GeneratedExpression],
    ) -> None:
        self.row, self.constants, self.variables = row, constants, variables
        self.namespace: dict[str, Any] = {"__builtins__": {}}

    # INVARIANT: operands are evaluated in the exact evaluator's order, so that both meet the same Stop first.
    def emit(self, node: tree.CheckedNode) -> ast.expr:
        """Give the Python expression of a node."""
        return _EMITTERS[type(node)](self, node)

    def mapping(self, root: str) -> str:
        """Name the Python variable that holds the facts of a root."""
        return "e" if root == self.row else f"s_{root}"

    def keep(self, prefix: str, value: object) -> ast.expr:
        """Put a value into the namespace under a name of its own."""
        name = f"{prefix}{len(self.namespace)}"
        self.namespace[name] = value
        return _load(name)

    def helper(self, name: str) -> ast.expr:
        """Name one of Python's functions, or one of CEL's operations."""
        if name in _HELPERS:
            self.namespace[f"h_{name}"] = _HELPERS[name]
            return _load(f"h_{name}")
        return self.keep("h", OPERATIONS[name])


def _load(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _call(function: ast.expr, arguments: Sequence[ast.expr]) -> ast.expr:
    return ast.Call(function, list(arguments), [])


def _compare(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> ast.expr:
    return ast.Compare(left, [operator], [right])


def _literal(_emitter: Emitter, node: tree.Literal) -> ast.expr:
    return ast.Constant(node.value)


def _fact(emitter: Emitter, node: tree.FactRead) -> ast.expr:
    if node.path in emitter.constants:
        return _constant(emitter, emitter.constants[node.path])
    if node.root == "variables":
        return _computed(emitter, node.key)
    return _guarded(emitter, node, _item(emitter.mapping(node.root), node.key))


def _computed(emitter: Emitter, name: str) -> ast.expr:
    """`w["name"] if "name" in w else f(…)`: a variable, computed on first reading."""
    program = emitter.variables[name]
    memo, row = ("w", _load("e")) if program.per_row else ("g", ast.Constant(None))
    compute = _call(emitter.keep("v", program.run), [row, *map(_load, (memo, "g", "s", "call"))])
    return ast.IfExp(
        _compare(ast.Constant(name), ast.In(), _load(memo)), _item(memo, name), compute
    )


def _item(mapping: str, key: str) -> ast.expr:
    return ast.Subscript(_load(mapping), ast.Constant(key), ast.Load())


def _guarded(emitter: Emitter, node: tree.CheckedNode, value: ast.expr) -> ast.expr:
    """Raise for a fact declared bool that is none: something merely truthy or falsy must not open a `!`."""
    return ast.Subscript(emitter.helper("truth"), value, ast.Load()) if node.type == BOOL else value


def _constant(emitter: Emitter, value: object) -> ast.expr:
    return (
        ast.Constant(value)
        if isinstance(value, bool | int | float | str)
        else emitter.keep("c", value)
    )


def _has_fact(emitter: Emitter, node: tree.HasFact) -> ast.expr:
    if f"{node.root}.{node.key}" in emitter.constants:
        return ast.Constant(True)  # noqa: FBT003 - an ast node, not a flag
    return _compare(ast.Constant(node.key), ast.In(), _load(emitter.mapping(node.root)))


def _variable(emitter: Emitter, node: tree.VariableRead) -> ast.expr:
    return _guarded(emitter, node, _item("s", node.name))


def _root(emitter: Emitter, node: tree.RootRead) -> ast.expr:
    return _load(emitter.mapping(node.root))


def _local_name(slot: int) -> str:
    return f"l{slot}"


def _local(_emitter: Emitter, node: tree.LocalRead) -> ast.expr:
    return _load(_local_name(node.slot))


def _operation(emitter: Emitter, node: tree.Operation) -> ast.expr:
    operands = [emitter.emit(operand) for operand in node.operands]
    name = node.name
    if name in _SIGNS:
        return ast.UnaryOp(_SIGNS[name](), operands[0])
    if name in _COMPARE:
        return _compare(operands[0], _COMPARE[name](), operands[1])
    if name in _BINARY:
        return ast.BinOp(operands[0], _BINARY[name](), operands[1])
    if name in _METHODS:
        return _call(ast.Attribute(operands[0], _METHODS[name], ast.Load()), operands[1:])
    return _call(emitter.helper("len" if name == "size" else name), operands)


def _logic(emitter: Emitter, node: tree.Logic) -> ast.expr:
    operator = ast.And() if node.symbol == "&&" else ast.Or()
    return ast.BoolOp(operator, [emitter.emit(part) for part in node.parts])


def _choice(emitter: Emitter, node: tree.Choice) -> ast.expr:
    return ast.IfExp(*(emitter.emit(part) for part in (node.condition, node.then, node.otherwise)))


def _list(emitter: Emitter, node: tree.ListOf) -> ast.expr:
    return ast.List([emitter.emit(item) for item in node.items], ast.Load())


def _map(emitter: Emitter, node: tree.MapOf) -> ast.expr:
    return _call(
        emitter.helper("map"), [emitter.emit(part) for entry in node.entries for part in entry]
    )


def _match(emitter: Emitter, node: tree.Match) -> ast.expr:
    found = _call(emitter.keep("p", node.search), [emitter.emit(node.operand)])
    return _compare(found, ast.IsNot(), ast.Constant(None))


def _function(emitter: Emitter, node: tree.FunctionCall) -> ast.expr:
    function: Function = node.function
    arguments = [emitter.emit(argument) for argument in node.arguments]
    result = _call(emitter.keep("f", function.implementation), arguments)
    return _call(emitter.helper("bool"), [result]) if function.result == BOOL else result


def _macro(emitter: Emitter, node: tree.Macro) -> ast.expr:
    elements = emitter.emit(node.elements)
    condition = None if node.condition is None else emitter.emit(node.condition)
    element = _load(_local_name(node.slot))
    if node.kind in {"all", "exists"} and condition is not None:
        body = ast.GeneratorExp(condition, [_each(node, elements, None)])
        return _call(emitter.helper("all" if node.kind == "all" else "any"), [body])
    if node.kind == "exists_one":
        ones = ast.GeneratorExp(ast.Constant(1), [_each(node, elements, condition)])
        return _compare(_call(emitter.helper("sum"), [ones]), ast.Eq(), ast.Constant(1))
    result = element if node.result is None else emitter.emit(node.result)
    return ast.ListComp(result, [_each(node, elements, condition)])


def _each(node: tree.Macro, elements: ast.expr, condition: ast.expr | None) -> ast.comprehension:
    target = ast.Name(_local_name(node.slot), ast.Store())
    return ast.comprehension(target, elements, [] if condition is None else [condition], 0)


_EMITTERS: dict[type, Callable[[Emitter, Any], ast.expr]] = {
    tree.Literal: _literal,
    tree.FactRead: _fact,
    tree.HasFact: _has_fact,
    tree.VariableRead: _variable,
    tree.RootRead: _root,
    tree.LocalRead: _local,
    tree.Operation: _operation,
    tree.Logic: _logic,
    tree.Choice: _choice,
    tree.ListOf: _list,
    tree.MapOf: _map,
    tree.Match: _match,
    tree.FunctionCall: _function,
    tree.Macro: _macro,
}
