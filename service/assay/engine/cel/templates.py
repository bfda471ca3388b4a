"""Templates of the generated code, and how checked expressions are put into them and compiled."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from assay.engine.cel.check import CheckedExpression
from assay.engine.cel.emit import Emitter
from assay.engine.cel.exact_evaluator import Stop
from assay.engine.cel.program import FusedCall, stopped
from assay.engine.cel.values import NOT_ASKED

NOTHING: Mapping[str, Any] = MappingProxyType({})

VALUE = """
def run(e, w, g, s, call):
    return EXPRESSION
"""
VARIABLE = """
def run(e, w, g, s, call):
    if STOPPED in w:
        raise h_stop(w[STOPPED])
    try:
        x = EXPRESSION
    except h_error as error:
        x = h_variable(call, NAME, e, w, error)
    w[NAME] = x
    return x
"""
LOOP = """
def run(rows, out, call, g, s):
    memos = MEMOS
    PASSES
"""
OVER_ROWS = """
for e, r, w in h_zip(rows, out, memos):
    BLOCK
"""
RULE = """
try:
    x = EXPRESSION
except h_error as error:
    x = error
if x is not True:
    if x is not False:
        x = h_verdict(call, CHECKED, e, w, x)
    if x is False:
        TELL
    elif x is not True:
        r.append((INDEX, x))
"""
SILENT = """
r.append(BROKEN)
"""
TOLD = """
try:
    m = MESSAGE
except h_error as error:
    m = h_exact(call, CHECKED, e, w, error)
r.append((INDEX, m if h_type(m) is h_str else False))
"""
GUARDED = """
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
ASKED_ONCE = """
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
CELL = """
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
    "h_nothing": NOTHING,
    "h_not_asked": NOT_ASKED,
    "h_exact": FusedCall.exact,
    "h_type": type,
    "h_str": str,
    "h_verdict": FusedCall.verdict,
    "h_variable": FusedCall.variable,
}

Part = ast.expr | list[ast.stmt]


class _Fill(ast.NodeTransformer):
    """Puts expressions and blocks in the place of a template's capital names."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = parts

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | list[ast.stmt]:
        """Replace a capital name that stands alone by a block."""
        block = self.parts.get(node.value.id) if isinstance(node.value, ast.Name) else None
        return block if isinstance(block, list) else self._descend(node)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace a capital name by an expression."""
        part = self.parts.get(node.id)
        return part if isinstance(part, ast.expr) else node

    def _descend(self, node: ast.Expr) -> ast.stmt:
        self.generic_visit(node)
        return node


def fill(template: str, parts: Mapping[str, Part]) -> list[ast.stmt]:
    """Give a template's statements with its capital names replaced."""
    module = _Fill(parts).visit(ast.parse(template))
    body: list[ast.stmt] = module.body
    return body


def rule_block(
    emitter: Emitter, index: int, expression: CheckedExpression, message: CheckedExpression | None
) -> list[ast.stmt]:
    """Give the statements that judge one row by one rule, and word it where it is false and has a message."""
    parts: dict[str, Part] = {
        "INDEX": ast.Constant(index),
        "BROKEN": ast.Constant((index, False)),  # type: ignore[arg-type]  # any constant will do, typeshed knows not all
        "EXPRESSION": emitter.emit(expression.tree),
        "CHECKED": emitter.keep("k", expression),
    }
    tell: dict[str, Part] = {}
    if message is not None:
        tell = {"MESSAGE": emitter.emit(message.tree), "CHECKED": emitter.keep("k", message)}
    parts["TELL"] = fill(TOLD if tell else SILENT, parts | tell)
    return fill(RULE, parts)


def guarded(
    emitter: Emitter, index: int, when: CheckedExpression, block: list[ast.stmt], *, once: bool
) -> list[ast.stmt]:
    """Give a rule's block behind a guard: within the row, or as a pass of its own that `once` may leave out."""
    parts: dict[str, Part] = {
        "INDEX": ast.Constant(index),
        "WHEN": emitter.emit(when.tree),
        "CHECKED": emitter.keep("k", when),
        "BLOCK": over_rows(block) if once else block,
    }
    return fill(ASKED_ONCE if once else GUARDED, parts)


def cell_block(emitter: Emitter, checked: CheckedExpression) -> list[ast.stmt]:
    """Give the statements that compute one expression for one row."""
    return fill(
        CELL, {"EXPRESSION": emitter.emit(checked.tree), "CHECKED": emitter.keep("k", checked)}
    )


def over_rows(block: list[ast.stmt]) -> list[ast.stmt]:
    """Give a pass over the rows."""
    return fill(OVER_ROWS, {"BLOCK": block or [ast.Pass()]})


def loop(emitter: Emitter, passes: list[ast.stmt], roots: Iterable[str]) -> Callable[..., Any]:
    """Compile passes over the rows into one function; a row's memo lasts through all of them."""
    memos = "[{} for _ in rows]" if emitter.variables else "rows"
    parts: dict[str, Part] = {
        "PASSES": passes or [ast.Pass()],
        "MEMOS": ast.parse(memos, mode="eval").body,
    }
    return _compiled(fill(LOOP, parts), emitter, roots)


def expression(
    emitter: Emitter, checked: CheckedExpression, name: str | None, roots: Iterable[str]
) -> Callable[..., Any]:
    """Compile one expression into a function; with a name, one that remembers its value as that variable's."""
    parts: dict[str, Part] = {"EXPRESSION": emitter.emit(checked.tree)}
    if name is not None:
        remembered = ast.Constant(stopped(name))  # type: ignore[arg-type]  # any constant will do, typeshed knows not all
        parts |= {"NAME": ast.Constant(name), "STOPPED": remembered}
    return _compiled(fill(VALUE if name is None else VARIABLE, parts), emitter, roots)


def _compiled(body: list[ast.stmt], emitter: Emitter, roots: Iterable[str]) -> Callable[..., Any]:
    """Compile a function in a namespace of its own, without builtins."""
    for function in body:
        if isinstance(function, ast.FunctionDef):
            function.body[:0] = [_take(root) for root in sorted(roots)]
    emitter.namespace.update(_NAMES)
    module = ast.fix_missing_locations(ast.Module(body, []))
    exec(compile(module, "<cel>", "exec"), emitter.namespace)  # noqa: S102 - built from checked nodes, names and all
    run: Callable[..., Any] = emitter.namespace["run"]
    return run


def _take(root: str) -> ast.stmt:
    """`s_root = s.get("root", h_nothing)`."""
    get = ast.Attribute(ast.Name("s", ast.Load()), "get", ast.Load())
    value = ast.Call(get, [ast.Constant(root), ast.Name("h_nothing", ast.Load())], [])
    return ast.Assign([ast.Name(f"s_{root}", ast.Store())], value)
