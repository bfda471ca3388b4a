"""Variables of one call of fused code: computed when first read, once per row or once per call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.engine.cel.check import Checked
from assay.engine.cel.slow import evaluate
from assay.engine.cel.stop import Stop, Value
from assay.engine.cel.values import Absent, Failure

Row = Mapping[str, Any]
Fast = Callable[[Any, Any, Any, Any], Any]
"""Generated code of one expression: (row, its variables, the call's variables, the shared roots) to a value."""


@dataclass(frozen=True, slots=True)
class Program:
    """An expression with its generated code; `per_row` when it reads the row, also through variables."""

    checked: Checked
    fast: Fast
    per_row: bool


class Variables(dict[str, Any]):
    """Values of variables by name, computed on first reading; one that came to no value stops every reader.

    Both the generated code and the exact evaluator read it, as the root `variables`.
    """

    __slots__ = ("call", "failed", "row")

    def __init__(self, call: Call, row: Row | None) -> None:
        self.call, self.row = call, row
        self.failed: dict[str, Absent | Failure] | None = None

    def __missing__(self, name: str) -> Value:
        """Compute a variable."""
        if self.failed is not None and name in self.failed:
            raise Stop(self.failed[name])
        program = self.call.programs[name]
        if self.row is not None and not program.per_row:
            return self.call.variables[name]
        value = self.call.value(program, self.row, self)
        if isinstance(value, Absent | Failure):
            self.failed = {**(self.failed or {}), name: value}
            raise Stop(value)
        self[name] = value
        return value


class Call:
    """One call of fused code: what is shared by its rows."""

    __slots__ = ("of_rows", "programs", "root", "shared", "variables")

    def __init__(self, programs: Mapping[str, Program], root: str, shared: Mapping[str, Any]) -> None:
        self.programs, self.root = programs, root
        self.variables = Variables(self, None)
        self.shared: Mapping[str, Any] = {**shared, "variables": self.variables}
        self.of_rows: list[Variables] | None = None

    def variables_of(self, rows: Sequence[Row]) -> list[Variables]:
        """Give each row's variables, the same for every rule."""
        if self.of_rows is None:
            self.of_rows = [Variables(self, row) for row in rows]
        return self.of_rows

    def value(self, program: Program, row: Row | None, variables: Variables) -> Value:
        """Run an expression, by the exact evaluator if the generated code raises."""
        try:
            return program.fast(row, variables, self.variables, self.shared)
        except Exception:  # noqa: BLE001  whatever it was, the exact evaluator says what it means
            return self.exact(program.checked, row, variables)

    def exact(self, checked: Checked, row: Row | None, variables: Variables) -> Value:
        """Evaluate exactly."""
        if row is None:
            return evaluate(checked, self.shared)
        return evaluate(checked, {**self.shared, self.root: row, "variables": variables})

    def verdict(self, checked: Checked, row: Row | None, variables: Variables) -> bool | Absent | Failure:
        """Evaluate a rule exactly; what is no bool is a failure."""
        value = self.exact(checked, row, variables)
        if value is True or value is False or isinstance(value, Absent | Failure):
            return value
        return Failure("a value that is no bool", checked.tree.line, checked.tree.column)
