"""The exact evaluator: CEL's rules for missing facts and errors, for the rows that need them.

How it works
------------
Generated code (see `emit`) is fast, but raises an exception wherever a fact is missing or an
operation fails. Then the expression is evaluated here. Each node becomes a closure that takes the
activation (the roots and variables) and the values of the enclosing macros' variables. An operand
without a value raises `Stop` with its outcome: `Absent` for a missing fact, `Failure` for an error.

`Stop` passes through strict operators and functions up to the expression, whose outcome it becomes,
unless something on the way absorbs it. As the CEL specification says:

- `false && error` is false and `true || error` is true, in either order of the operands. If no part
  is decisive, the outcome of the first part without a value is the outcome of the whole.
- `all` and `exists` absorb likewise over the elements. The other macros do not.
- `has(fact)` asks whether the fact is there, and never stops.

INVARIANT: an expression that does not absorb (`CheckedExpression.absorbs`) stops at the first
operand without a value, which is the one where the generated code raised `Stop`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from assay.engine.cel import checked_tree as tree
from assay.engine.cel.check import CheckedExpression
from assay.engine.cel.operations import OPERATIONS, map_of
from assay.engine.cel.schema import BOOL
from assay.engine.cel.values import Absent, Failure

Value = Any
"""A CEL value in Python; the checker has verified its type."""

Activation = Mapping[str, Value]
Closure = Callable[[Activation, list[Value]], Value]
"""Takes the activation and the values of the enclosing macros' variables."""

Steps = Callable[[Activation, list[Value]], Iterator[tuple[Value, Value]]]
"""Yields, for each element, its condition (a Stop if that has no value) and its result."""


class Stop(Exception):
    """An operand has no value; `outcome` says why."""

    def __init__(self, outcome: Absent | Failure) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def evaluate(checked: CheckedExpression, activation: Activation) -> Value:
    """Return the expression's value, or Absent or Failure.

    The activation maps each root to its flat mapping, such as `{"endpoint": {"demoted": False}}`,
    and each plain variable to its value. A missing key is a missing fact.
    """
    if not checked.closure:
        checked.closure.append(_COMPILER.visit(checked.tree))
    try:
        return checked.closure[0](activation, [])
    except Stop as stop:
        return stop.outcome


def _failure(node: tree.CheckedNode, error: Exception) -> Stop:
    return Stop(Failure(str(error) or type(error).__name__, node.line, node.column))


def _truth(node: tree.CheckedNode, value: object) -> bool:
    """Return a bool, and stop at any other value, so that nothing merely truthy ever passes."""
    if value is True or value is False:
        return bool(value)
    raise Stop(Failure("the value is not a bool", node.line, node.column))


def _value_of(found: Value) -> Value:
    """Return a value; the outcome of a variable without one becomes its reader's."""
    if isinstance(found, Absent | Failure):
        raise Stop(found)
    return found


class _Compiler(tree.TreeVisitor[Closure]):
    """Makes the closure of each node."""

    def literal(self, node: tree.Literal) -> Closure:
        value = node.value
        return lambda _activation, _locals: value

    def fact_read(self, node: tree.FactRead) -> Closure:
        root, key, path = node.root, node.key, node.path

        def read(activation: Activation, _locals: list[Value]) -> Value:
            try:
                value = activation[root][key]
            except KeyError:
                raise Stop(Absent(path)) from None
            return _value_of(value)

        return read

    def variable_read(self, node: tree.VariableRead) -> Closure:
        name = node.name

        def read(activation: Activation, _locals: list[Value]) -> Value:
            if name not in activation:
                raise Stop(Absent(name))
            return _value_of(activation[name])

        return read

    def has_fact(self, node: tree.HasFact) -> Closure:
        root, key = node.root, node.key
        return lambda activation, _locals: root in activation and key in activation[root]

    def root_read(self, node: tree.RootRead) -> Closure:
        root = node.root
        return lambda activation, _locals: activation.get(root, {})

    def local_read(self, node: tree.LocalRead) -> Closure:
        slot = node.slot
        return lambda _activation, values: values[slot]

    def operation(self, node: tree.Operation) -> Closure:
        if node.name == "!":
            operand = self.visit(node.operands[0])
            return lambda activation, values: not _truth(node, operand(activation, values))
        return self._strict(node, OPERATIONS[node.name], node.operands)

    def _strict(
        self,
        node: tree.CheckedNode,
        operation: Callable[..., Value],
        operands: Iterable[tree.CheckedNode],
    ) -> Closure:
        """Return the closure that applies an operation to the values of all operands."""
        closures = tuple(map(self.visit, operands))

        def run(activation: Activation, values: list[Value]) -> Value:
            given = [operand(activation, values) for operand in closures]
            try:
                return operation(*given)
            except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
                raise _failure(node, error) from None

        return run

    def logic(self, node: tree.Logic) -> Closure:
        parts = tuple(map(self.visit, node.parts))
        decisive = node.symbol == "||"

        def run(activation: Activation, values: list[Value]) -> bool:
            def is_true(part: Closure) -> bool:
                return _truth(node, part(activation, values))

            return _absorbing(parts, is_true, decisive=decisive)

        return run

    def choice(self, node: tree.Choice) -> Closure:
        condition, then, otherwise = map(self.visit, (node.condition, node.then, node.otherwise))

        def run(activation: Activation, values: list[Value]) -> Value:
            chosen = then if _truth(node, condition(activation, values)) else otherwise
            return chosen(activation, values)

        return run

    def list_of(self, node: tree.ListOf) -> Closure:
        items = tuple(map(self.visit, node.items))
        return lambda activation, values: [item(activation, values) for item in items]

    def map_of(self, node: tree.MapOf) -> Closure:
        parts = (part for entry in node.entries for part in entry)
        return self._strict(node, map_of, parts)

    def match(self, node: tree.Match) -> Closure:
        search = node.search
        return self._strict(node, lambda text: search(text) is not None, (node.operand,))

    def function_call(self, node: tree.FunctionCall) -> Closure:
        arguments = tuple(map(self.visit, node.arguments))
        implementation, is_bool = node.function.implementation, node.function.result == BOOL
        record = next((a.root for a in node.arguments if isinstance(a, tree.RootRead)), None)

        def run(activation: Activation, values: list[Value]) -> Value:
            given = [argument(activation, values) for argument in arguments]
            try:
                result = implementation(*given)
            except KeyError as error:
                if record is not None and error.args and isinstance(error.args[0], str):
                    raise Stop(Absent(f"{record}.{error.args[0]}")) from None
                raise _failure(node, error) from None
            except Exception as error:  # noqa: BLE001 - any error of a function is the outcome
                raise _failure(node, error) from None
            return _truth(node, result) if is_bool else result

        return run

    def macro(self, node: tree.Macro) -> Closure:
        steps = self._steps(node)

        def holds(condition: Value) -> bool:
            if isinstance(condition, Stop):
                raise condition
            return _truth(node, condition)

        def absorb(activation: Activation, values: list[Value]) -> bool:
            conditions = (condition for condition, _ in steps(activation, values))
            return _absorbing(conditions, holds, decisive=node.kind == "exists")

        def collect(activation: Activation, values: list[Value]) -> list[Value]:
            return [made for condition, made in steps(activation, values) if holds(condition)]

        if node.kind in {"all", "exists"}:
            return absorb
        if node.kind == "exists_one":
            return lambda activation, values: len(collect(activation, values)) == 1
        return collect

    def _steps(self, node: tree.Macro) -> Steps:
        elements = self.visit(node.elements)
        condition = None if node.condition is None else self.visit(node.condition)
        result = None if node.result is None else self.visit(node.result)

        def run(activation: Activation, values: list[Value]) -> Iterator[tuple[Value, Value]]:
            given = elements(activation, values)
            try:
                iterator = iter(given)
            except TypeError as error:
                raise _failure(node, error) from None
            for element in iterator:
                inner = [*values, element]
                is_kept: Value = True
                if condition is not None:
                    try:
                        is_kept = condition(activation, inner)
                    except Stop as stop:
                        is_kept = stop
                if result is not None and is_kept is True:
                    yield is_kept, result(activation, inner)
                else:
                    yield is_kept, element

        return run


def _absorbing(parts: Iterable[Value], is_true: Callable[[Value], bool], *, decisive: bool) -> bool:
    """Return `decisive` if any part is that; otherwise raise the first Stop, if there is one."""
    first: Stop | None = None
    for part in parts:
        try:
            if is_true(part) is decisive:
                return decisive
        except Stop as stop:
            first = first or stop
    if first is not None:
        raise first
    return not decisive


_COMPILER = _Compiler()
