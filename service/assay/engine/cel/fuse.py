"""Rules fused into one Python function that judges many rows: templates, and how they are filled.

How it works
------------
A rule set has dozens of expressions over hundreds of rows (endpoints). Calling one function for
each expression and row would cost more than the arithmetic in it. Fusion generates *one* function
for all rules of a rule set, with the loop over the rows inside:

    def run(rows, s):                          # rows and the shared roots
        ...
        for e, r, w in zip(rows, out, memos):  # row, its list of findings, its values of variables
            try:
                x = e["price.prompt"] <= 2.0   # rule 0
            except Exception as error:
                x = error
            if x is not True:                  # the common case costs one comparison
                ...                            # ask the exact evaluator, and append a finding
        return out

The templates below are Python text with names in capitals. `_fill` parses a template and puts
expressions (from `emit`) and blocks of statements in the place of those names. The result is
compiled once per rule set and binding.

Three things keep the fused code equal to evaluating each rule alone:

- Whatever is not plainly True or False goes to `FusedCall.verdict` and thus to the exact evaluator.
- Variables are computed on first reading, per row (`w`) or per call (`g`), by a function of their
  own. A variable without a value is remembered too, so that all readers get the same outcome.
- A rule's `when` that does not read the row is evaluated once per call, in a pass of its own. False
  skips the rule for all rows. Rules between two such rules share a pass, so that findings keep the
  order of the rules.

INVARIANT: authors' names and texts enter the code as constants only, never as Python names.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Any

from assay.engine.cel.check import CheckedExpression
from assay.engine.cel.emit import Emitter
from assay.engine.cel.exact_evaluator import Stop
from assay.engine.cel.fused_call import FusedCall, FusionContext, GeneratedExpression, stopped
from assay.engine.cel.values import NOT_ASKED, Outcome

Rows = Sequence[Mapping[str, object]]
Shared = Mapping[str, Mapping[str, object]]
RowFindings = list[tuple[int, Outcome]]
FusedRules = Callable[[Rows, Shared], list[RowFindings]]
FusedColumns = Callable[[Rows, Shared], list[list[Any]]]
Variables = Sequence[tuple[str, CheckedExpression]]

_NO_FACTS: Mapping[str, Any] = MappingProxyType({})

_VARIABLE = """
def run(e, w, g, s, call):
    ROOTS
    if STOPPED in w:
        raise h_stop(w[STOPPED])
    try:
        x = EXPRESSION
    except h_error as error:
        x = h_variable(call, NAME, e, w, error)
    w[NAME] = x
    return x
"""
_LOOP = """
def run(rows, s):
    s = SHARED
    g = {}
    call = h_call(h_context, s, g)
    ROOTS
    out = [[] for _ in rows]
    memos = MEMOS
    PASSES
    return RESULT
"""
_OVER_ROWS = """
for e, r, w in h_zip(rows, out, memos):
    BLOCK
"""
_RULE = """
try:
    x = EXPRESSION
except h_error as error:
    x = error
if x is not True:
    if x is not False:
        x = h_verdict(call, CHECKED, e, w, x)
    if x is False:
        BROKEN
    elif x is not True:
        r.append((INDEX, x))
"""
_WITHOUT_MESSAGE = """
r.append(FALSE)
"""
_WITH_MESSAGE = """
try:
    m = MESSAGE
except h_error as error:
    m = h_exact(call, CHECKED, e, w, error)
r.append((INDEX, m if h_type(m) is h_str else False))
"""
_GUARDED = """
try:
    y = WHEN
except h_error as error:
    y = error
if y is not True and y is not False:
    y = h_verdict(call, CHECKED, e, w, y)
if y is True:
    BLOCK
else:
    r.append((INDEX, h_not_asked if y is False else y))
"""
_GUARDED_ONCE = """
try:
    y = WHEN
except h_error as error:
    y = error
if y is not True and y is not False:
    y = h_verdict(call, CHECKED, None, g, y)
if y is True:
    BLOCK
elif y is not False:
    for r in out:
        r.append((INDEX, y))
"""
_CELL = """
try:
    x = EXPRESSION
except h_error as error:
    x = h_exact(call, CHECKED, e, w, error)
r.append(x)
"""
_NAMES: Mapping[str, Any] = {
    "h_zip": zip,
    "h_error": Exception,
    "h_stop": Stop,
    "h_nothing": _NO_FACTS,
    "h_not_asked": NOT_ASKED,
    "h_list": list,
    "h_call": FusedCall,
    "h_with_constants": FusionContext.with_constants,
    "h_exact": FusedCall.exact,
    "h_type": type,
    "h_str": str,
    "h_verdict": FusedCall.verdict,
    "h_variable": FusedCall.variable,
}


@dataclass(frozen=True, slots=True)
class Item:
    """A rule or an order key; `when` says for which rows, or for which calls, a rule is asked.

    `message` is the sentence for a row for which the rule is false.
    """

    name: str
    expression: CheckedExpression
    when: CheckedExpression | None = None
    message: CheckedExpression | None = None

    @property
    def expressions(self) -> tuple[CheckedExpression, ...]:
        """Return every expression that it may evaluate."""
        parts = (self.expression, self.when, self.message)
        return tuple(part for part in parts if part is not None)


def fuse_rules(
    items: Sequence[Item],
    *,
    variables: Variables = (),
    row: str,
    constants: Mapping[str, object] = _NO_FACTS,
) -> FusedRules:
    """Return a function of (rows, shared roots) that lists, per row, each item that is not true.

    An item is listed by its index with False, its message, Absent, Failure or NOT_ASKED. A `when`
    that does not read the row is evaluated once a call: false skips the item for every row, and
    without a value it is the item's outcome for every row.
    """
    return _Fusion(_variables_behind(items, variables), row, constants).rules(items)


def fuse_columns(
    items: Sequence[Item],
    *,
    variables: Variables = (),
    row: str,
    constants: Mapping[str, object] = _NO_FACTS,
) -> FusedColumns:
    """Return a function of (rows, shared roots) that returns one column for each item.

    A column holds the item's value, Absent or Failure for each row.
    """
    return _Fusion(_variables_behind(items, variables), row, constants).columns(items)


def _variables_behind(items: Iterable[Item], variables: Variables) -> Variables:
    """Return the variables that items read, directly or through others, as they were declared."""
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


class _Fusion:
    """Generates the code of one fused function, variables first."""

    def __init__(self, variables: Variables, row: str, constants: Mapping[str, object]) -> None:
        self.constants = constants
        by_root: dict[str, dict[str, object]] = {}
        for path, value in constants.items():
            root, _, key = path.partition(".")
            by_root.setdefault(root, {})[key] = value
        self.context = FusionContext(row, by_root, {})
        self.has_whole_roots = False
        for name, checked in variables:
            self.context.variables[name] = self._variable(name, checked)

    def rules(self, items: Sequence[Item]) -> Callable[..., Any]:
        """Generate the passes over the rows: one for each rule guarded once, one for neighbors."""
        emitter, passes = self._emitter(), list[ast.stmt]()
        for once, neighbors in groupby(enumerate(items), lambda each: self._guarded_once(each[1])):
            blocks: list[ast.stmt] = []
            for index, item in neighbors:
                blocks += self._rule(emitter, index, item)
            passes += blocks if once else _over_rows(blocks)
        return self._loop(emitter, passes, [e for item in items for e in item.expressions], "out")

    def columns(self, items: Sequence[Item]) -> Callable[..., Any]:
        """Generate the pass that computes every item for every row."""
        emitter, cells = self._emitter(), list[ast.stmt]()
        for item in items:
            cells += _fill(_CELL, _parts_of(emitter, "EXPRESSION", item.expression))
        columns = f"[h_list(cells) for cells in h_zip(*out)] or {[[]] * len(items)}"
        return self._loop(emitter, _over_rows(cells), [i.expression for i in items], columns)

    def _variable(self, name: str, checked: CheckedExpression) -> GeneratedExpression:
        emitter = self._emitter()
        parts: dict[str, _Part] = {
            "ROOTS": self._load_roots([checked]),
            "EXPRESSION": emitter.visit(checked.tree),
            "NAME": ast.Constant(name),
            "STOPPED": ast.Constant(stopped(name)),  # type: ignore[arg-type] # a tuple is constant
        }
        run = _compile(_fill(_VARIABLE, parts), emitter)
        return GeneratedExpression(checked, run, self._reads_row(checked))

    def _rule(self, emitter: Emitter, index: int, item: Item) -> list[ast.stmt]:
        """Return the statements for one rule and one row; for all rows if it is guarded once."""
        judged = _parts_of(emitter, "EXPRESSION", item.expression)
        judged["INDEX"] = ast.Constant(index)
        if item.message is None:
            false = ast.Constant((index, False))  # type: ignore[arg-type] # a tuple is constant
            judged["BROKEN"] = _fill(_WITHOUT_MESSAGE, {"FALSE": false})
        else:
            message = _parts_of(emitter, "MESSAGE", item.message)
            judged["BROKEN"] = _fill(_WITH_MESSAGE, {**message, "INDEX": ast.Constant(index)})
        block = _fill(_RULE, judged)
        if item.when is None:
            return block
        parts = _parts_of(emitter, "WHEN", item.when)
        parts["INDEX"] = ast.Constant(index)
        once = self._guarded_once(item)
        parts["BLOCK"] = _over_rows(block) if once else block
        return _fill(_GUARDED_ONCE if once else _GUARDED, parts)

    def _loop(
        self,
        emitter: Emitter,
        passes: list[ast.stmt],
        read: Sequence[CheckedExpression],
        result: str,
    ) -> Callable[..., Any]:
        """Compile passes over the rows; a row's memo lasts through all of them.

        Constants are facts among the shared roots only if a function takes a whole root.
        """
        roots = self._load_roots(read)
        shared = "h_with_constants(h_context, s)" if self.has_whole_roots else "s"
        memos = "[{} for _ in rows]" if emitter.variables else "rows"
        parts: dict[str, _Part] = {"ROOTS": roots, "PASSES": passes}
        for name, text in (("SHARED", shared), ("MEMOS", memos), ("RESULT", result)):
            parts[name] = ast.parse(text, mode="eval").body
        emitter.namespace["h_context"] = self.context
        return _compile(_fill(_LOOP, parts), emitter)

    def _guarded_once(self, item: Item) -> bool:
        """Return whether an item's guard is evaluated once a call."""
        return item.when is not None and not self._reads_row(item.when)

    def _reads_row(self, checked: CheckedExpression) -> bool:
        """Return whether an expression reads the row, also through variables."""
        if self.context.row in checked.roots:
            return True
        names = [p.partition(".")[2] for p in checked.reads if p.startswith("variables.")]
        return any(self.context.variables[name].per_row for name in names)

    def _emitter(self) -> Emitter:
        return Emitter(self.context.row, self.constants, self.context.variables)

    def _load_roots(self, read: Sequence[CheckedExpression]) -> list[ast.stmt]:
        """Load the roots besides the row; note whether any is passed whole to a function."""
        roots = {root for checked in read for root in checked.roots}
        roots -= {self.context.row, "variables"}
        if any(not roots.isdisjoint(checked.reads) for checked in read):
            self.has_whole_roots = True
        loads = (f"s_{root} = s.get({root!r}, h_nothing)" for root in sorted(roots))
        return ast.parse("\n".join(loads)).body


_Part = ast.expr | list[ast.stmt]


class _Fill(ast.NodeTransformer):
    """Puts expressions and blocks in the place of a template's capital names."""

    def __init__(self, parts: Mapping[str, _Part]) -> None:
        self.parts = parts

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | list[ast.stmt]:
        """Replace a statement that is a capital name by a block."""
        block = self.parts.get(node.value.id) if isinstance(node.value, ast.Name) else None
        if isinstance(block, list):
            return block
        self.generic_visit(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace a capital name by an expression."""
        part = self.parts.get(node.id)
        return part if isinstance(part, ast.expr) else node


def _fill(template: str, parts: Mapping[str, _Part]) -> list[ast.stmt]:
    module = _Fill(parts).visit(ast.parse(template))
    body: list[ast.stmt] = module.body
    return body


def _parts_of(emitter: Emitter, name: str, checked: CheckedExpression) -> dict[str, _Part]:
    return {name: emitter.visit(checked.tree), "CHECKED": emitter.keep("k", checked)}


def _over_rows(block: list[ast.stmt]) -> list[ast.stmt]:
    return _fill(_OVER_ROWS, {"BLOCK": block or [ast.Pass()]})


def _compile(body: list[ast.stmt], emitter: Emitter) -> Callable[..., Any]:
    """Compile a function in a namespace of its own, without builtins."""
    emitter.namespace.update(_NAMES)
    module = ast.fix_missing_locations(ast.Module(body, []))
    exec(compile(module, "<cel>", "exec"), emitter.namespace)  # noqa: S102 - from checked nodes
    run: Callable[..., Any] = emitter.namespace["run"]
    return run
