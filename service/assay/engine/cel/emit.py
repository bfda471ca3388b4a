"""The code generator: a checked expression becomes Python's own syntax tree.

How it works
------------
Each node becomes the plainest Python expression that gives the same value whenever it gives one:
`a && b` becomes `a and b`, `endpoint.price.prompt` becomes `e["price.prompt"]`. The generated code
does not implement CEL's rules for missing facts and errors. It raises an exception instead (a
`KeyError` for a missing fact, a `ZeroDivisionError`, …), and its caller then asks the exact
evaluator. Most rows have all facts, so most rows never pay for exactness.

For this to be correct, generated code must raise wherever its value could differ from CEL's:

- `x and y` returns early on anything falsy, so facts and functions declared bool must return a real
  bool: `_TRUTH[value]` raises for `1`, `""` or a mock.
- `&&` and `||` absorb errors in CEL. Here an error on the left raises, and the exact evaluator
  decides whether the right side absorbs it.
- Operands are evaluated in the same order as in the exact evaluator, so that both meet the same
  failing operand first.

Names in the generated code come from this module only. Names that authors choose appear as string
constants, so that no rule can reach a Python name, and the namespace has no builtins:

    e       the row                 w     the row's values of variables
    g       the call's values       s     the shared roots; `s_model` is one of them
    call    the FusedCall           l0    the variable of the outermost macro
    c1, f2  constants, functions and patterns that the expression uses
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from assay.engine.cel import checked_tree as tree
from assay.engine.cel.fused_call import GeneratedExpression
from assay.engine.cel.operations import OPERATIONS
from assay.engine.cel.schema import BOOL

_COMPARE: dict[str, type[ast.cmpop]] = {
    "==": ast.Eq, "!=": ast.NotEq, "<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE,
    "in": ast.In,
}  # fmt: skip
_BINARY: dict[str, type[ast.operator]] = {
    "double +": ast.Add,
    "double -": ast.Sub,
    "double *": ast.Mult,
    "double /": ast.Div,  # by zero it raises, and the exact evaluator returns the infinity
}
_SIGNS: dict[str, type[ast.unaryop]] = {"!": ast.Not, "double -_": ast.USub}
_METHODS = {"startsWith": "startswith", "endsWith": "endswith"}
_TRUTH = {True: True, False: False}


def _bool(value: object) -> bool:
    if value is True or value is False:
        return bool(value)
    raise TypeError("the value is not a bool")


_HELPERS: dict[str, Any] = {
    "any": any, "all": all, "len": len, "sum": sum, "bool": _bool, "truth": _TRUTH,
}  # fmt: skip


class Emitter(tree.TreeVisitor[ast.expr]):
    """Emits expressions, inlines constants, and collects the values of names in the code."""

    def __init__(
        self,
        row: str,
        constants: Mapping[str, object],
        variables: Mapping[str, GeneratedExpression],
    ) -> None:
        self.row, self.constants, self.variables = row, constants, variables
        self.namespace: dict[str, Any] = {"__builtins__": {}}

    def keep(self, prefix: str, value: object) -> ast.expr:
        """Put a value into the namespace under a new name, and return that name."""
        name = f"{prefix}{len(self.namespace)}"
        self.namespace[name] = value
        return _load(name)

    def literal(self, node: tree.Literal) -> ast.expr:
        """Emit the value."""
        return ast.Constant(node.value)

    def fact_read(self, node: tree.FactRead) -> ast.expr:
        """Emit an inlined constant, a variable, or a lookup in the root's mapping."""
        if node.path in self.constants:
            value = self.constants[node.path]
            if isinstance(value, bool | int | float | str):
                return ast.Constant(value)
            return self.keep("c", value)
        if node.root == "variables":
            return self._computed(node.key)
        return self._real_bool(node, _item(self._mapping(node.root), node.key))

    def has_fact(self, node: tree.HasFact) -> ast.expr:
        """Emit a test for the key."""
        if f"{node.root}.{node.key}" in self.constants:
            return ast.Constant(True)  # noqa: FBT003 - an ast node, not a flag
        return _compare(ast.Constant(node.key), ast.In(), _load(self._mapping(node.root)))

    def variable_read(self, node: tree.VariableRead) -> ast.expr:
        """Emit a lookup among the shared values."""
        return self._real_bool(node, _item("s", node.name))

    def root_read(self, node: tree.RootRead) -> ast.expr:
        """Emit the root's mapping."""
        return _load(self._mapping(node.root))

    def local_read(self, node: tree.LocalRead) -> ast.expr:
        """Emit the name of a macro's variable."""
        return _load(_local_name(node.slot))

    def operation(self, node: tree.Operation) -> ast.expr:
        """Emit Python's operator where it agrees with CEL, else a call of the operation."""
        operands = [self.visit(operand) for operand in node.operands]
        name = node.name
        if name in _SIGNS:
            return ast.UnaryOp(_SIGNS[name](), operands[0])
        if name in _COMPARE:
            return _compare(operands[0], _COMPARE[name](), operands[1])
        if name in _BINARY:
            return ast.BinOp(operands[0], _BINARY[name](), operands[1])
        if name in _METHODS:
            return _call(ast.Attribute(operands[0], _METHODS[name], ast.Load()), operands[1:])
        return _call(self._helper("len" if name == "size" else name), operands)

    def logic(self, node: tree.Logic) -> ast.expr:
        """Emit `and` or `or`."""
        operator = ast.And() if node.symbol == "&&" else ast.Or()
        return ast.BoolOp(operator, [self.visit(part) for part in node.parts])

    def choice(self, node: tree.Choice) -> ast.expr:
        """Emit a conditional expression."""
        parts = (node.condition, node.then, node.otherwise)
        return ast.IfExp(*(self.visit(part) for part in parts))

    def list_of(self, node: tree.ListOf) -> ast.expr:
        """Emit a list."""
        return ast.List([self.visit(item) for item in node.items], ast.Load())

    def map_of(self, node: tree.MapOf) -> ast.expr:
        """Emit a call that builds the map and rejects a repeated key."""
        parts = [self.visit(part) for entry in node.entries for part in entry]
        return _call(self._helper("map"), parts)

    def match(self, node: tree.Match) -> ast.expr:
        """Emit a search with the compiled pattern."""
        found = _call(self.keep("p", node.search), [self.visit(node.operand)])
        return _compare(found, ast.IsNot(), ast.Constant(None))

    def function_call(self, node: tree.FunctionCall) -> ast.expr:
        """Emit a call of the function's implementation."""
        arguments = [self.visit(argument) for argument in node.arguments]
        result = _call(self.keep("f", node.function.implementation), arguments)
        is_bool = node.function.result == BOOL
        return _call(self._helper("bool"), [result]) if is_bool else result

    def macro(self, node: tree.Macro) -> ast.expr:
        """Emit a comprehension or a generator."""
        elements = self.visit(node.elements)
        condition = None if node.condition is None else self.visit(node.condition)
        element = _load(_local_name(node.slot))
        if node.kind in {"all", "exists"} and condition is not None:
            body = ast.GeneratorExp(condition, [_each(node, elements, None)])
            return _call(self._helper("all" if node.kind == "all" else "any"), [body])
        if node.kind == "exists_one":
            ones = ast.GeneratorExp(ast.Constant(1), [_each(node, elements, condition)])
            return _compare(_call(self._helper("sum"), [ones]), ast.Eq(), ast.Constant(1))
        result = element if node.result is None else self.visit(node.result)
        return ast.ListComp(result, [_each(node, elements, condition)])

    def _computed(self, name: str) -> ast.expr:
        """Emit `w["name"] if "name" in w else v1(…)`: a variable is computed when first read."""
        variable = self.variables[name]
        values, row = ("w", _load("e")) if variable.per_row else ("g", ast.Constant(None))
        arguments = [row, *map(_load, (values, "g", "s", "call"))]
        compute = _call(self.keep("v", variable.run), arguments)
        is_known = _compare(ast.Constant(name), ast.In(), _load(values))
        return ast.IfExp(is_known, _item(values, name), compute)

    def _real_bool(self, node: tree.CheckedNode, value: ast.expr) -> ast.expr:
        """Raise for a value declared bool that is merely truthy or falsy."""
        if node.type != BOOL:
            return value
        return ast.Subscript(self._helper("truth"), value, ast.Load())

    def _mapping(self, root: str) -> str:
        return "e" if root == self.row else f"s_{root}"

    def _helper(self, name: str) -> ast.expr:
        """Return the name of a helper or of one of CEL's operations."""
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


def _item(mapping: str, key: str) -> ast.expr:
    return ast.Subscript(_load(mapping), ast.Constant(key), ast.Load())


def _local_name(slot: int) -> str:
    return f"l{slot}"


def _each(node: tree.Macro, elements: ast.expr, condition: ast.expr | None) -> ast.comprehension:
    target = ast.Name(_local_name(node.slot), ast.Store())
    return ast.comprehension(target, elements, [] if condition is None else [condition], 0)
