"""The exact evaluator: closures that absorb errors as CEL says; runs where the generated code met an exception."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from assay.engine.cel import checked_tree as tree
from assay.engine.cel.check import CheckedExpression
from assay.engine.cel.operations import OPERATIONS, map_of
from assay.engine.cel.schema import BOOL
from assay.engine.cel.values import Absent, Failure

Value = Any
"""A CEL value in Python; the checker has seen to its type."""

Activation = Mapping[str, Value]
Program = Callable[[Activation, list[Value]], Value]
"""Takes the activation and the values of the enclosing macros' variables."""


class Stop(Exception):
    """An operand came to no value."""

    def __init__(self, outcome: Absent | Failure) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def failure(node: tree.CheckedNode, error: Exception) -> Stop:
    """Turn what Python raised into a failure at the node's place."""
    return Stop(Failure(str(error) or type(error).__name__, node.line, node.column))


def truth(node: tree.CheckedNode, value: object) -> bool:
    """Insist on a bool, so that nothing merely truthy ever passes."""
    if value is True or value is False:
        return bool(value)
    raise Stop(Failure("a value that is no bool", node.line, node.column))


def evaluate(checked: CheckedExpression, activation: Activation) -> Value:
    """Give the expression's value, or Absent or Failure.

    The activation maps each root to its flat mapping (`{"endpoint": {"tools.tool_call_requests": 12.0}}`) and each plain variable
    to its value; what is not there is absent.
    """
    if not checked.program:
        checked.program.append(compile_node(checked.tree))
    try:
        return checked.program[0](activation, [])
    except Stop as stop:
        return stop.outcome


def compile_node(node: tree.CheckedNode) -> Program:
    """Give the closure that evaluates a node."""
    return _COMPILERS[type(node)](node)


def _literal(node: tree.Literal) -> Program:
    value = node.value
    return lambda _activation, _locals: value


def _fact(node: tree.FactRead) -> Program:
    root, key, path = node.root, node.key, node.path

    def read(activation: Activation, _locals: list[Value]) -> Value:
        try:
            value = activation[root][key]
        except KeyError:
            raise Stop(Absent(path)) from None
        return _passed_on(value)

    return read


def _variable(node: tree.VariableRead) -> Program:
    name = node.name

    def read(activation: Activation, _locals: list[Value]) -> Value:
        if name not in activation:
            raise Stop(Absent(name))
        return _passed_on(activation[name])

    return read


def _passed_on(value: Value) -> Value:
    """Hand on a value; an outcome that a variable came to becomes its reader's."""
    if isinstance(value, Absent | Failure):
        raise Stop(value)
    return value


def _has_fact(node: tree.HasFact) -> Program:
    root, key = node.root, node.key
    return lambda activation, _locals: root in activation and key in activation[root]


def _root(node: tree.RootRead) -> Program:
    root = node.root
    return lambda activation, _locals: activation.get(root, {})


def _local(node: tree.LocalRead) -> Program:
    slot = node.slot
    return lambda _activation, values: values[slot]


def _operation(node: tree.Operation) -> Program:
    operands = tuple(map(compile_node, node.operands))
    if node.name == "!":
        return _negation(node, operands[0])
    operation = OPERATIONS[node.name]

    def run(activation: Activation, values: list[Value]) -> Value:
        given = [operand(activation, values) for operand in operands]
        try:
            return operation(*given)
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise failure(node, error) from None

    return run


def _negation(node: tree.Operation, operand: Program) -> Program:
    return lambda activation, values: not truth(node, operand(activation, values))


def _logic(node: tree.Logic) -> Program:
    parts = tuple(map(compile_node, node.parts))
    decisive = node.symbol == "||"

    def run(activation: Activation, values: list[Value]) -> bool:
        first: Stop | None = None
        for part in parts:
            try:
                if truth(node, part(activation, values)) is decisive:
                    return decisive
            except Stop as stop:
                first = first or stop
        if first is not None:
            raise first
        return not decisive

    return run


def _choice(node: tree.Choice) -> Program:
    condition, then, otherwise = map(compile_node, (node.condition, node.then, node.otherwise))

    def run(activation: Activation, values: list[Value]) -> Value:
        chosen = then if truth(node, condition(activation, values)) else otherwise
        return chosen(activation, values)

    return run


def _list(node: tree.ListOf) -> Program:
    items = tuple(map(compile_node, node.items))
    return lambda activation, values: [item(activation, values) for item in items]


def _map(node: tree.MapOf) -> Program:
    parts = tuple(compile_node(part) for entry in node.entries for part in entry)

    def run(activation: Activation, values: list[Value]) -> Value:
        given = [part(activation, values) for part in parts]
        try:
            return map_of(*given)
        except (LookupError, TypeError) as error:
            raise failure(node, error) from None

    return run


def _match(node: tree.Match) -> Program:
    operand, search = compile_node(node.operand), node.search

    def run(activation: Activation, values: list[Value]) -> bool:
        given = operand(activation, values)
        try:
            return search(given) is not None
        except (TypeError, ValueError) as error:
            raise failure(node, error) from None

    return run


def _function(node: tree.FunctionCall) -> Program:
    arguments = tuple(map(compile_node, node.arguments))
    implementation, is_bool = node.function.implementation, node.function.result == BOOL
    record = next((a.root for a in node.arguments if isinstance(a, tree.RootRead)), None)

    def run(activation: Activation, values: list[Value]) -> Value:
        given = [argument(activation, values) for argument in arguments]
        try:
            result = implementation(*given)
        except KeyError as error:
            if record is not None and error.args and isinstance(error.args[0], str):
                raise Stop(Absent(f"{record}.{error.args[0]}")) from None
            raise failure(node, error) from None
        except Exception as error:  # noqa: BLE001 - whatever a function raises is the outcome of the expression
            raise failure(node, error) from None
        return truth(node, result) if is_bool else result

    return run


def _macro(node: tree.Macro) -> Program:
    return compile_macro(node, compile_node)


_COMPILERS: dict[type, Callable[[Any], Program]] = {
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


Compile = Callable[[tree.CheckedNode], Program]


def compile_macro(node: tree.Macro, compile_node: Compile) -> Program:
    """Give the closure of a macro."""
    steps = _steps(node, compile_node)
    if node.kind in {"all", "exists"}:
        return _absorbing(node, steps)
    if node.kind == "exists_one":
        return lambda activation, values: (
            sum(1 for kept, _ in steps(activation, values) if _raised(node, kept)) == 1
        )
    return lambda activation, values: [
        made for kept, made in steps(activation, values) if _raised(node, kept)
    ]


Steps = Callable[[Activation, list[Value]], Iterator[tuple[Value, Value]]]
"""Goes through the elements: what the condition came to (a Stop if nothing), and what the element becomes."""


def _steps(node: tree.Macro, compile_node: Compile) -> Steps:
    elements = compile_node(node.elements)
    condition = None if node.condition is None else compile_node(node.condition)
    result = None if node.result is None else compile_node(node.result)

    def run(activation: Activation, values: list[Value]) -> Iterator[tuple[Value, Value]]:
        given = elements(activation, values)
        try:
            iterator = iter(given)
        except TypeError as error:
            raise failure(node, error) from None
        for element in iterator:
            inner = [*values, element]
            kept: Value = True
            if condition is not None:
                try:
                    kept = condition(activation, inner)
                except Stop as stop:
                    kept = stop
            made = result(activation, inner) if result is not None and kept is True else element
            yield kept, made

    return run


def _raised(node: tree.Macro, kept: Value) -> bool:
    if isinstance(kept, Stop):
        raise kept
    return truth(node, kept)


def _absorbing(node: tree.Macro, steps: Steps) -> Program:
    decisive = node.kind == "exists"

    def run(activation: Activation, values: list[Value]) -> bool:
        first: Stop | None = None
        for kept, _ in steps(activation, values):
            try:
                if _raised(node, kept) is decisive:
                    return decisive
            except Stop as stop:
                first = first or stop
        if first is not None:
            raise first
        return not decisive

    return run
