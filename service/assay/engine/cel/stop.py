"""How an Absent or Failure travels from an operand to whoever absorbs it, and what a compiled closure is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from assay.engine.cel import tree
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


def failure(node: tree.Node, error: Exception) -> Stop:
    """Turn what Python raised into a failure at the node's place."""
    return Stop(Failure(str(error) or type(error).__name__, node.line, node.column))


def truth(node: tree.Node, value: object) -> bool:
    """Insist on a bool, so that nothing merely truthy ever passes."""
    if value is True or value is False:
        return bool(value)
    raise Stop(Failure("a value that is no bool", node.line, node.column))
