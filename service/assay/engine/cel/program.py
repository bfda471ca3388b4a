"""One call of fused code: variables computed when first read, and the exact evaluator behind the generated code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from assay.engine.cel.check import CheckedExpression
from assay.engine.cel.exact_evaluator import Stop, Value, evaluate
from assay.engine.cel.values import Absent, Failure

Row = Mapping[str, Any]
Memo = dict[Any, Any]
"""Values of variables by name, and under `stopped(name)` the outcome of one that came to no value."""


@dataclass(frozen=True, slots=True)
class GeneratedExpression:
    """An expression with its generated code; `per_row` when it reads the row, also through variables.

    The code takes the row, the row's memo, the call's memo, the shared roots and the call.
    """

    checked: CheckedExpression
    run: Callable[..., Any]
    per_row: bool


@dataclass(frozen=True, slots=True)
class FusionContext:
    """What the calls of one fused function have in common: the row's root, constants by root, variables."""

    row: str
    constants: Mapping[str, Mapping[str, Any]]
    programs: dict[str, GeneratedExpression]

    def with_constants(self, shared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Give the shared roots with the constants among them as facts."""
        return {
            **shared,
            **{root: {**facts, **shared.get(root, {})} for root, facts in self.constants.items()},
        }


def stopped(name: str) -> tuple[str]:
    """Give the key under which a memo keeps what a variable came to instead of a value."""
    return (name,)


class FusedCall:
    """One call of fused code: what is shared by its rows."""

    __slots__ = ("known", "memo", "shared", "stage")

    def __init__(self, stage: FusionContext, shared: Mapping[str, Mapping[str, Any]]) -> None:
        self.stage, self.shared = stage, shared
        self.memo: Memo = {}
        self.known: Mapping[str, Any] | None = None

    def exact(
        self, checked: CheckedExpression, row: Row | None, memo: Memo, raised: object
    ) -> Value:
        """Evaluate exactly, save where generated code raised what the exact evaluator would."""
        if isinstance(raised, Stop) and not checked.absorbs:
            return raised.outcome
        if self.known is None:
            self.known = self.stage.with_constants(self.shared)
        activation = {**self.known, "variables": _Variables(self, row, memo)}
        if row is not None:
            activation[self.stage.row] = row
        return evaluate(checked, activation)

    def verdict(
        self, checked: CheckedExpression, row: Row | None, memo: Memo, found: object
    ) -> bool | Absent | Failure:
        """Evaluate a rule exactly, of which generated code found or raised something else; no bool is a failure."""
        value = self.exact(checked, row, memo, found)
        if value is True or value is False or isinstance(value, Absent | Failure):
            return value
        return Failure("a value that is no bool", checked.tree.line, checked.tree.column)

    def variable(self, name: str, row: Row | None, memo: Memo, raised: Exception) -> Value:
        """Give a variable exactly, as its generated code raised; no value is remembered and stops the reader."""
        value = self.exact(self.stage.programs[name].checked, row, memo, raised)
        if isinstance(value, Absent | Failure):
            memo[stopped(name)] = value
            raise Stop(value)
        return value


class _Variables:
    """The root `variables` as the exact evaluator reads it."""

    __slots__ = ("call", "memo", "row")

    def __init__(self, call: FusedCall, row: Row | None, memo: Memo) -> None:
        self.call, self.row, self.memo = call, row, memo

    def __getitem__(self, name: str) -> Value:
        """Give a variable, computing it on first reading; one without a value stops the reader."""
        call = self.call
        program = call.stage.programs[name]
        row, memo = (self.row, self.memo) if program.per_row else (None, call.memo)
        return memo[name] if name in memo else program.run(row, memo, call.memo, call.shared, call)
