"""Many expressions over many rows as generated Python: one loop per rule, exact where plain code would raise."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from assay.engine.cel.check import Checked
from assay.engine.cel.emit import Emitter
from assay.engine.cel.lazy import Call, Program, Row
from assay.engine.cel.values import NOT_ASKED, Absent, Failure, Outcome

Rows = Sequence[Mapping[str, object]]
Shared = Mapping[str, Mapping[str, object]]
Findings = list[tuple[int, Outcome]]
FusedRules = Callable[[Rows, Shared], list[Findings]]
FusedColumns = Callable[[Rows, Shared], list[list[Any]]]

_NOTHING: Mapping[str, object] = MappingProxyType({})

_VALUE = """
def run(e, w, g, s):
    return EXPRESSION
"""
_RULE = """
def run(rows, variables, out, call, g, s):
    for e, w, r in h_zip(rows, variables, out):
        try:
            x = EXPRESSION
        except h_error:
            x = None
        if x is not True:
            if x is not False:
                x = h_verdict(call, h_expression, e, w)
            if x is not True:
                r.append((INDEX, x))
"""
_GUARDED_RULE = """
def run(rows, variables, out, call, g, s):
    for e, w, r in h_zip(rows, variables, out):
        try:
            x = WHEN
        except h_error:
            x = None
        if x is not True:
            if x is not False:
                x = h_verdict(call, h_when, e, w)
            if x is not True:
                r.append((INDEX, h_not_asked if x is False else x))
                continue
        try:
            x = EXPRESSION
        except h_error:
            x = None
        if x is not True:
            if x is not False:
                x = h_verdict(call, h_expression, e, w)
            if x is not True:
                r.append((INDEX, x))
"""
_COLUMN = """
def run(rows, variables, call, g, s):
    column = []
    for e, w in h_zip(rows, variables):
        try:
            x = EXPRESSION
        except h_error:
            x = h_exact(call, h_expression, e, w)
        column.append(x)
    return column
"""


@dataclass(frozen=True, slots=True)
class Item:
    """A rule or an order key: `when` says for which rows, or for which calls, it is asked."""

    name: str
    expression: Checked
    when: Checked | None = None


def fuse_rules(
    items: Sequence[Item],
    *,
    variables: Sequence[tuple[str, Checked]] = (),
    row: str,
    constants: Mapping[str, object] = _NOTHING,
) -> FusedRules:
    """Give a function of (rows, shared roots) that lists, per row, every item that is not true, by its index.

    An item comes to False, Absent, Failure or NOT_ASKED. A `when` that does not read the row is evaluated once a
    call: false leaves the item out altogether; no value is the item's outcome for every row.
    """
    stage = _Stage(variables, row, constants)
    rules = [stage.rule(index, item) for index, item in enumerate(items)]

    def run(rows: Rows, shared: Shared) -> list[Findings]:
        call = stage.call(shared)
        out: list[Findings] = [[] for _ in rows]
        for rule in rules:
            rule(rows, call, out)
        return out

    return run


def fuse_columns(
    items: Sequence[Item],
    *,
    variables: Sequence[tuple[str, Checked]] = (),
    row: str,
    constants: Mapping[str, object] = _NOTHING,
) -> FusedColumns:
    """Give a function of (rows, shared roots) that gives one column per item: its value, Absent or Failure per row."""
    stage = _Stage(variables, row, constants)
    columns = [stage.column(item) for item in items]

    def run(rows: Rows, shared: Shared) -> list[list[Any]]:
        call = stage.call(shared)
        return [column(rows, call) for column in columns]

    return run


class _Stage:
    """What the items of one fused function have in common: variables, constants, the row's root."""

    def __init__(self, variables: Sequence[tuple[str, Checked]], row: str, constants: Mapping[str, object]) -> None:
        self.row, self.constants = row, constants
        self.fixed: dict[str, dict[str, object]] = {}
        for path, value in constants.items():
            root, _, key = path.partition(".")
            self.fixed.setdefault(root, {})[key] = value
        self.programs: dict[str, Program] = {}
        for name, checked in variables:
            if name in self.programs:
                raise ValueError(f"variable {name} is given twice")
            self.programs[name] = self._program(checked)

    def call(self, shared: Shared) -> Call:
        """Begin a call; constants are there as facts too, for the exact evaluator."""
        fixed = {root: {**facts, **shared.get(root, _NOTHING)} for root, facts in self.fixed.items()}
        return Call(self.programs, self.row, {**shared, **fixed})

    def rule(self, index: int, item: Item) -> Callable[[Rows, Call, list[Findings]], None]:
        """Generate one rule's loop."""
        when = item.when
        guarded = when is not None and self._per_row(when)
        once = None if when is None or guarded else self._program(when)
        loop = self._generate(
            _GUARDED_RULE if guarded else _RULE,
            item.expression,
            when if guarded else None,
            {"INDEX": index},
        )
        reads_variables = _reads_variables(item.expression) or (guarded and when is not None and _reads_variables(when))

        def run(rows: Rows, call: Call, out: list[Findings]) -> None:
            asked = True if once is None else _asked(once, call)
            if asked is True:
                loop(rows, call.variables_of(rows) if reads_variables else rows, out, call, call.variables, call.shared)
            elif asked is not False:
                for findings in out:
                    findings.append((index, asked))

        return run

    def column(self, item: Item) -> Callable[[Rows, Call], list[Any]]:
        """Generate one column's loop."""
        loop = self._generate(_COLUMN, item.expression)
        reads_variables = _reads_variables(item.expression)

        def run(rows: Rows, call: Call) -> list[Any]:
            variables = call.variables_of(rows) if reads_variables else rows
            column: list[Any] = loop(rows, variables, call, call.variables, call.shared)
            return column

        return run

    def _program(self, checked: Checked) -> Program:
        return Program(checked, self._generate(_VALUE, checked), self._per_row(checked))

    def _per_row(self, checked: Checked) -> bool:
        read = (path.removeprefix("variables.") for path in checked.reads if path.startswith("variables."))
        return self.row in checked.roots or any(self.programs[name].per_row for name in read)

    def _reader(self, root: str, key: str) -> str:
        """Name the Python variable that holds a root."""
        if root == "variables":
            return "w" if self.programs[key].per_row else "g"
        if root == self.row:
            return "e"
        return f"s_{root}" if root else "s"

    def _generate(
        self, template: str, expression: Checked, when: Checked | None = None, values: Mapping[str, Any] = _NOTHING
    ) -> Callable[..., Any]:
        """Fill a template with expressions and compile it in a namespace of its own, without builtins."""
        emitter = Emitter(self._reader, self.constants)
        parts: dict[str, ast.expr] = {name: ast.Constant(value) for name, value in values.items()}
        parts["EXPRESSION"] = emitter.emit(expression.tree)
        if when is not None:
            parts["WHEN"] = emitter.emit(when.tree)
        module = _Fill(parts).visit(ast.parse(template))
        roots = expression.roots if when is None else expression.roots | when.roots
        shared = sorted(roots - {self.row, "variables"})
        module.body[0].body[:0] = [_take(root) for root in shared]
        names: dict[str, Any] = {"h_zip": zip, "h_error": Exception, "h_not_asked": NOT_ASKED, "h_nothing": _NOTHING}
        names |= {"h_verdict": Call.verdict, "h_exact": Call.exact, "h_expression": expression, "h_when": when}
        emitter.namespace.update(names)
        code = compile(ast.fix_missing_locations(module), f"<cel {expression.text[:40]!r}>", "exec")
        exec(code, emitter.namespace)  # noqa: S102  built from checked nodes only, names and all
        run: Callable[..., Any] = emitter.namespace["run"]
        return run


class _Fill(ast.NodeTransformer):
    """Puts expressions in the place of a template's capital names."""

    def __init__(self, parts: Mapping[str, ast.expr]) -> None:
        self.parts = parts

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace a capital name."""
        return self.parts.get(node.id, node)


def _take(root: str) -> ast.stmt:
    """`s_root = s.get("root", h_nothing)`."""
    get = ast.Attribute(ast.Name("s", ast.Load()), "get", ast.Load())
    value = ast.Call(get, [ast.Constant(root), ast.Name("h_nothing", ast.Load())], [])
    return ast.Assign([ast.Name(f"s_{root}", ast.Store())], value)


def _reads_variables(checked: Checked) -> bool:
    return "variables" in checked.roots


def _asked(program: Program, call: Call) -> bool | Absent | Failure:
    value = call.value(program, None, call.variables)
    if value is True or value is False:
        return bool(value)
    return call.verdict(program.checked, None, call.variables)


__all__ = ["FusedColumns", "FusedRules", "Item", "Row", "fuse_columns", "fuse_rules"]
