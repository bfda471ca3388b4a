"""The macros of the exact evaluator: `all` and `exists` absorb errors, the others pass the first one on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from assay.engine.cel import tree
from assay.engine.cel.stop import Activation, Program, Stop, Value, failure, truth

Compile = Callable[[tree.Node], Program]


def compile_macro(node: tree.Macro, compile_node: Compile) -> Program:
    """Give the closure of a macro."""
    steps = _steps(node, compile_node)
    if node.kind in {"all", "exists"}:
        return _absorbing(node, steps)
    if node.kind == "exists_one":
        return lambda activation, values: sum(1 for kept, _ in steps(activation, values) if _raised(node, kept)) == 1
    return lambda activation, values: [made for kept, made in steps(activation, values) if _raised(node, kept)]


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
