"""Faults as text: the line that editors jump to, and the source line with a caret."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Final

from assay.engine.policy.faults import Fault

TAB: Final = "    "
BEFORE: Final = 80
AFTER: Final = 40
CUT: Final = "…"


def render_fault(fault: Fault, files: Mapping[str, str]) -> str:
    """Return `file:line:column: message`, with an excerpt if the file has that line."""
    lines = files.get(fault.place.file, "").replace("\r\n", "\n").split("\n")
    if not any(lines) or fault.place.line > len(lines):
        return str(fault)
    number = str(fault.place.line)
    gutter = " " * len(number)
    before, after = _window(lines[fault.place.line - 1], fault.place.column - 1)
    caret = " " * sum(map(_width, before)) + "^"
    excerpt = f"{before}{after}".rstrip()
    return f"{fault}\n {gutter} |\n {number} | {excerpt}".rstrip() + f"\n {gutter} | {caret}"


def _window(line: str, offset: int) -> tuple[str, str]:
    """Return the excerpt before and after the place; long lines are cut on both sides."""
    before, after = line[:offset].ljust(offset), line[offset:]
    if len(before) > BEFORE:
        before = CUT + before[1 - BEFORE :]
    if len(after) > AFTER:
        after = after[: AFTER - 1] + CUT
    return _shown(before), _shown(after)


def _shown(text: str) -> str:
    """Return the text with tabs as blanks, and without characters that control a terminal."""
    return "".join(
        TAB if c == "\t" else c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _width(character: str) -> int:
    """Return the columns that a character takes in a terminal."""
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
