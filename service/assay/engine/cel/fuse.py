"""Many expressions over many rows as one piece of generated Python, exact where plain code would raise."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

from assay.engine.cel import templates
from assay.engine.cel.check import CheckedExpression
from assay.engine.cel.emit import Emitter
from assay.engine.cel.program import FusedCall, FusionContext, GeneratedExpression
from assay.engine.cel.templates import NOTHING
from assay.engine.cel.values import Outcome

Rows = Sequence[Mapping[str, object]]
Shared = Mapping[str, Mapping[str, object]]
Findings = list[tuple[int, Outcome]]
FusedRules = Callable[[Rows, Shared], list[Findings]]
FusedColumns = Callable[[Rows, Shared], list[list[Any]]]


@dataclass(frozen=True, slots=True)
class Item:
    """A rule or an order key: `when` says for which rows, or for which calls, a rule is asked.

    `message` words a false rule for the row.
    """

    name: str
    expression: CheckedExpression
    when: CheckedExpression | None = None
    message: CheckedExpression | None = None

    @property
    def expressions(self) -> Iterable[CheckedExpression]:
        """All that it may evaluate."""
        return (e for e in (self.expression, self.when, self.message) if e is not None)


def fuse_rules(
    items: Sequence[Item],
    *,
    variables: Sequence[tuple[str, CheckedExpression]] = (),
    row: str,
    constants: Mapping[str, object] = NOTHING,
) -> FusedRules:
    """Give a function of (rows, shared roots) that lists, per row, every item that is not true, by its index.

    An item comes to False, or its message instead, or Absent, Failure or NOT_ASKED. A `when` that does not read the
    row is evaluated once a call: false leaves the item out altogether; no value is the item's outcome for every row.
    """
    builder = _Builder(behind(items, variables), row, constants)
    loop = builder.rules(items)

    def run(rows: Rows, shared: Shared) -> list[Findings]:
        call = builder.call(shared)
        out: list[Findings] = [[] for _ in rows]
        loop(rows, out, call, call.memo, call.shared)
        return out

    return run


def fuse_columns(
    items: Sequence[Item],
    *,
    variables: Sequence[tuple[str, CheckedExpression]] = (),
    row: str,
    constants: Mapping[str, object] = NOTHING,
) -> FusedColumns:
    """Give a function of (rows, shared roots) that gives one column per item: its value, Absent or Failure per row."""
    builder = _Builder(behind(items, variables), row, constants)
    loop = builder.cells(items)

    def run(rows: Rows, shared: Shared) -> list[list[Any]]:
        call = builder.call(shared)
        cells: list[list[Any]] = [[] for _ in rows]
        loop(rows, cells, call, call.memo, call.shared)
        return (
            [list(column) for column in zip(*cells, strict=True)] if cells else [[] for _ in items]
        )

    return run


def behind(
    items: Iterable[Item], variables: Sequence[tuple[str, CheckedExpression]]
) -> list[tuple[str, CheckedExpression]]:
    """Give the variables that items read, directly or through others, in the order they were declared."""
    names = [name for name, _ in variables]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"variable {twice} is given twice")
    wanted = {path for item in items for checked in item.expressions for path in checked.reads}
    needed: list[tuple[str, CheckedExpression]] = []
    for name, checked in reversed(variables):
        if f"variables.{name}" in wanted:
            needed.insert(0, (name, checked))
            wanted |= checked.reads
    return needed


class _Builder:
    """Generates the code of one fused function, variables first."""

    def __init__(
        self,
        variables: Sequence[tuple[str, CheckedExpression]],
        row: str,
        constants: Mapping[str, object],
    ) -> None:
        self.constants = constants
        by_root: dict[str, dict[str, object]] = {}
        for path, value in constants.items():
            root, _, key = path.partition(".")
            by_root.setdefault(root, {})[key] = value
        self.stage = FusionContext(row, by_root, {})
        self.whole_roots = False
        for name, checked in variables:
            self.stage.programs[name] = self.program(checked, name)

    def call(self, shared: Shared) -> FusedCall:
        """Begin a call; constants are inlined, and needed as facts only where a function takes a whole root."""
        return FusedCall(
            self.stage, self.stage.with_constants(shared) if self.whole_roots else shared
        )

    def program(self, checked: CheckedExpression, name: str | None = None) -> GeneratedExpression:
        """Generate the code of one expression, a variable's if it has a name."""
        run = templates.expression(self._emitter(), checked, name, self._shared([checked]))
        return GeneratedExpression(checked, run, self.per_row(checked))

    def rules(self, items: Sequence[Item]) -> Callable[..., Any]:
        """Generate the passes that judge every row: rules asked once a call have one each, neighbours share one."""
        emitter, passes = self._emitter(), list[ast.stmt]()
        for once, neighbours in groupby(enumerate(items), lambda numbered: self.once(numbered[1])):
            blocks = list(
                chain.from_iterable(
                    self._judged(emitter, index, item) for index, item in neighbours
                )
            )
            passes += blocks if once else templates.over_rows(blocks)
        return templates.loop(
            emitter, passes, self._shared(e for item in items for e in item.expressions)
        )

    def _judged(self, emitter: Emitter, index: int, item: Item) -> list[ast.stmt]:
        """Give the statements that judge one row by one rule, or all rows where its guard is asked once a call."""
        block = templates.rule_block(emitter, index, item.expression, item.message)
        return (
            block
            if item.when is None
            else templates.guarded(emitter, index, item.when, block, once=self.once(item))
        )

    def once(self, item: Item) -> bool:
        """Tell whether an item's guard is asked once a call."""
        return item.when is not None and not self.per_row(item.when)

    def cells(self, items: Sequence[Item]) -> Callable[..., Any]:
        """Generate the pass that computes every item for every row."""
        emitter = self._emitter()
        cells = chain.from_iterable(
            templates.cell_block(emitter, item.expression) for item in items
        )
        return templates.loop(
            emitter, templates.over_rows(list(cells)), self._shared(i.expression for i in items)
        )

    def per_row(self, checked: CheckedExpression) -> bool:
        """Tell whether an expression reads the row, also through variables."""
        read = (
            path.removeprefix("variables.")
            for path in checked.reads
            if path.startswith("variables.")
        )
        return self.stage.row in checked.roots or any(
            self.stage.programs[name].per_row for name in read
        )

    def _emitter(self) -> Emitter:
        return Emitter(self.stage.row, self.constants, self.stage.programs)

    def _shared(self, read: Iterable[CheckedExpression]) -> set[str]:
        read = list(read)
        roots = {root for checked in read for root in checked.roots} - {self.stage.row, "variables"}
        self.whole_roots = self.whole_roots or any(
            root in checked.reads for checked in read for root in roots
        )
        return roots
