"""Blanked text to cel-python's parse tree: the only module that knows cel-python."""

from __future__ import annotations

import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from assay.engine.cel.faults import FaultList
from assay.engine.cel.tokens import ScannedText

if TYPE_CHECKING:
    import celpy

Tree = Any
"""lark's tree; cel-python gives no types for it."""

_LOCK = threading.Lock()


SHOWN = 20  # characters of a literal are enough to find it


@cache
def _environment() -> celpy.Environment:
    """Build cel-python's one environment (0.2 s), undoing its change of the process's recursion limit."""
    import celpy as loaded  # noqa: PLC0415 - a third of a second that only those who compile rules should pay

    limit = sys.getrecursionlimit()
    try:
        return loaded.Environment(runner_class=loaded.InterpretedRunner)
    finally:
        sys.setrecursionlimit(limit)


def parse(scanned: ScannedText, faults: FaultList) -> Tree:
    """Parse the blanked text to a lark tree; a syntax error is the last fault found."""
    with _LOCK:
        environment = _environment()
        from celpy.celparser import CELParseError  # noqa: PLC0415 - loaded by now, as above

        try:
            return environment.compile(scanned.blanked)
        except CELParseError as error:
            cause = error.__context__
    token = getattr(cause, "token", None)
    offset = getattr(cause, "pos_in_stream", None)
    if token is not None and token.type == "$END":
        raise faults.stop(len(scanned.blanked.rstrip()), "the expression ends too early")
    offset = 0 if offset is None else offset
    raise faults.stop(offset, f"unexpected {_shown(scanned, offset)}")


def _shown(scanned: ScannedText, offset: int) -> str:
    literal = scanned.literals.get(offset)
    if literal is not None:
        return literal.text if len(literal.text) <= SHOWN else f"{literal.text[:SHOWN]}…"
    rest = scanned.blanked[offset:]
    word = 0
    while word < len(rest) and (rest[word].isalnum() or rest[word] == "_"):
        word += 1
    return f"'{rest[: max(word, 1)]}'"
