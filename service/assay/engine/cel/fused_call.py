"""One call of fused code: variables on first reading, and fallback to the exact evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from assay.engine.cel.check import CheckedExpression
from assay.engine.cel.exact_evaluator import Stop, Value, evaluate
from assay.engine.cel.values import Absent, Failure

Row = Mapping[str, Any]
Memo = dict[Any, Any]
"""Values of variables by name; under `stopped(name)`, the outcome of a variable without a value."""


@dataclass(frozen=True, slots=True)
class GeneratedExpression:
    """An expression with its generated code; `per_row` if it reads the row, also through variables.

    The code takes the row, the row's memo, the call's memo, the shared roots and the call.
    """

    checked: CheckedExpression
    run: Callable[..., Any]
    per_row: bool


@dataclass(frozen=True, slots=True)
class FusionContext:
    """What all calls of one fused function share: the row's root, constants by root, variables."""

    row: str
    constants: Mapping[str, Mapping[str, Any]]
    variables: dict[str, GeneratedExpression]

    def with_constants(self, shared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return the shared roots with the constants among them as facts."""
        roots = dict(shared)
        for root, facts in self.constants.items():
            roots[root] = {**facts, **shared.get(root, {})}
        return roots


def stopped(name: str) -> tuple[str]:
    """Return the key under which a memo keeps the outcome of a variable without a value."""
    return (name,)


@dataclass(slots=True)
class FusedCall:
    """One call of fused code: what its rows share."""

    context: FusionContext
    shared: Mapping[str, Mapping[str, Any]]
    memo: Memo
    known: Mapping[str, Any] | None = None

    def exact(
        self, checked: CheckedExpression, row: Row | None, memo: Memo, raised: object
    ) -> Value:
        """Evaluate exactly, or reuse the outcome that the generated code raised as a Stop."""
        if isinstance(raised, Stop) and not checked.absorbs:
            return raised.outcome
        if self.known is None:
            self.known = self.context.with_constants(self.shared)
        activation = {**self.known, "variables": _Variables(self, row, memo)}
        if row is not None:
            activation[self.context.row] = row
        return evaluate(checked, activation)

    def verdict(
        self, checked: CheckedExpression, row: Row | None, memo: Memo, found: object
    ) -> bool | Absent | Failure:
        """Evaluate a rule exactly; `found` is what its generated code returned or raised.

        A value other than a bool is a failure.
        """
        value = self.exact(checked, row, memo, found)
        if value is True or value is False or isinstance(value, Absent | Failure):
            return value
        return Failure("the value is not a bool", checked.tree.line, checked.tree.column)

    def variable(self, name: str, row: Row | None, memo: Memo, raised: Exception) -> Value:
        """Return a variable's exact value after its generated code raised.

        A variable without a value stops its reader, and the memo keeps the outcome.
        """
        value = self.exact(self.context.variables[name].checked, row, memo, raised)
        if isinstance(value, Absent | Failure):
            memo[stopped(name)] = value
            raise Stop(value)
        return value


@dataclass(frozen=True, slots=True)
class _Variables:
    """The root `variables` as the exact evaluator reads it."""

    call: FusedCall
    row: Row | None
    memo: Memo

    def __getitem__(self, name: str) -> Value:
        """Return a variable, computed on first reading; one without a value stops its reader."""
        call = self.call
        variable = call.context.variables[name]
        row, memo = (self.row, self.memo) if variable.per_row else (None, call.memo)
        if name in memo:
            return memo[name]
        return variable.run(row, memo, call.memo, call.shared, call)
