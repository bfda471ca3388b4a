"""YAML scalars: what a plain one stands for, and where each character of a text stands."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

import yaml

from assay.engine.ruleset import Expression, Place
from assay.rulefiles.nodes import Plain

# YAML 1.2's core schema, less what 1.1 reads otherwise: yes, on, 0o7, 010, 0x1f, 1_000, 1:30 and dates are text.
WORDS: Final[dict[str, Plain]] = {"": None, "~": None, "null": None, "true": True, "false": False}
WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
NOT_FINITE: Final = re.compile(r"[-+]?\.inf|\.nan", re.ASCII | re.IGNORECASE)
INT64: Final = range(-(2**63), 2**63)
INT64_DIGITS: Final = 20
ESCAPE: Final = re.compile(r"\\(x..|u.{4}|U.{8}|.)|.", re.DOTALL)
SINGLE: Final = re.compile(r"''|.", re.DOTALL)


class Unreadable(ValueError):
    """A scalar that stands for nothing a rule file may hold; the message says why."""


@dataclass(frozen=True, slots=True)
class EscapedExpression(Expression):
    """An expression in quotes with escapes: `columns` holds the file column of each character and of the end."""

    columns: tuple[int, ...] = ()

    def locate(self, line: int, column: int) -> Place:
        """Where the text's own line and column (from 1) stand in the file, which is always the same line of it."""
        before = self.text.split("\n")[: line - 1]
        offset = sum(len(text) + 1 for text in before) + column - 1
        return Place(self.place.file, self.place.line, self.columns[min(offset, len(self.columns) - 1)])


def resolve(text: str) -> Plain:
    """What a plain scalar stands for; raises Unreadable for numbers that no 64 bits hold."""
    if text in WORDS:
        return WORDS[text]
    if WHOLE.fullmatch(text):
        if len(text) > INT64_DIGITS or int(text) not in INT64:
            raise Unreadable("the whole number does not fit into 64 bits")
        return int(text)
    if NOT_FINITE.fullmatch(text) or (NUMBER.fullmatch(text) and not math.isfinite(float(text))):
        raise Unreadable("the number is not finite")
    return float(text) if NUMBER.fullmatch(text) else text


def written(file: str, event: yaml.ScalarEvent, source: str) -> Expression | None:
    """A scalar's text with the place of every character, or `None` where it is folded from several lines."""
    start, end = event.start_mark, event.end_mark
    if start is None or end is None:
        return None
    place = Place(file, start.line + 1, start.column + 1)
    text = event.value.rstrip()
    if event.style == "|":
        return _block(place, text, source[start.index : end.index])
    if event.style == ">" or start.line != end.line:
        return None
    if event.style is None:
        return Expression(text, place)
    inner = Place(file, place.line, place.column + 1)
    raw = source[start.index + 1 : end.index - 1]
    if raw == event.value:
        return Expression(text, inner)
    pieces = (ESCAPE if event.style == '"' else SINGLE).finditer(raw)
    columns = (*(inner.column + piece.start() for piece in pieces), inner.column + len(raw))
    return EscapedExpression(text, inner, columns=columns)


def _block(header: Place, text: str, raw: str) -> Expression:
    """The text of a `|` block, which begins on the line after its header."""
    pairs = zip(text.split("\n"), raw.split("\n")[1:], strict=False)
    # The last line of the text has lost its trailing blanks, so both are cut before they are compared.
    indent = next((len(outer.rstrip()) - len(inner.rstrip()) for inner, outer in pairs if inner.strip()), 0)
    return Expression(text, Place(header.file, header.line + 1, indent + 1), indent)
