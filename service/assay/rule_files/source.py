"""Read the restricted YAML of rule files into nodes, and report everything else at its place.

How it works
------------
The parser's events are read in one pass into nodes that keep their places. Anchors, aliases, tags,
merge keys, directives and second documents are faults, so that a file's text is all there is to
read, and small text cannot expand into large data. Scalars follow YAML 1.2's core schema.

An expression must be located by character, so that a fault in CEL gets its line and column in the
file. Its scalar style decides how: plain and quoted scalars start at their mark, a `|` block has an
indent, and a quoted scalar with escapes needs the column of each character (EscapedExpression).
Folded scalars (`>`) lose line breaks, so expressions may not be folded.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import yaml

from assay.engine.policy.faults import Fault
from assay.engine.policy.rule_set import Expression, Place
from assay.rule_files.nodes import Listing, MappingEntry, Node, Plain, Scalar, Table

# YAML 1.2's core schema without forms that YAML 1.1 reads otherwise:
# yes, on, 0o7, 010, 0x1f, 1_000, 1:30 and dates are text.
WORDS: Final[dict[str, Plain]] = {"": None, "~": None, "null": None, "true": True, "false": False}
WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
NUMBER: Final = re.compile(
    r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII
)
NOT_FINITE: Final = re.compile(r"[-+]?\.inf|\.nan", re.ASCII | re.IGNORECASE)
INT64: Final = range(-(2**63), 2**63)
INT64_DIGITS: Final = 20
ESCAPE: Final = re.compile(r"\\(x..|u.{4}|U.{8}|.)|.", re.DOTALL)
SINGLE: Final = re.compile(r"''|.", re.DOTALL)


class UnreadableScalar(ValueError):
    """A scalar has no value that a rule file may contain; the message says why."""


@dataclass(frozen=True, slots=True)
class EscapedExpression(Expression):
    """A quoted expression with escapes; `columns` maps each character and the end to its column."""

    columns: tuple[int, ...] = ()

    def locate(self, line: int, column: int) -> Place:
        """Return the place of a line and column (from 1) of the text, which is on one line."""
        before = self.text.split("\n")[: line - 1]
        offset = sum(len(text) + 1 for text in before) + column - 1
        return Place(
            self.place.file, self.place.line, self.columns[min(offset, len(self.columns) - 1)]
        )


def resolve_scalar(text: str) -> Plain:
    """Return the value of a plain scalar; raise UnreadableScalar for numbers beyond 64 bits."""
    if text in WORDS:
        return WORDS[text]
    if WHOLE.fullmatch(text):
        if len(text) > INT64_DIGITS or int(text) not in INT64:
            raise UnreadableScalar("the whole number does not fit into 64 bits")
        return int(text)
    if NOT_FINITE.fullmatch(text) or (NUMBER.fullmatch(text) and not math.isfinite(float(text))):
        raise UnreadableScalar("the number is not finite")
    return float(text) if NUMBER.fullmatch(text) else text


def _written_expression(file: str, event: yaml.ScalarEvent, source: str) -> Expression | None:
    """Return a scalar's text with the place of each character; `None` if it is folded."""
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
    """Return the text of a `|` block, which starts on the line after its header."""
    pairs = zip(text.split("\n"), raw.split("\n")[1:], strict=False)
    # The last line of the text has lost its trailing blanks, so both are stripped to compare them.
    indent = next(
        (len(outer.rstrip()) - len(inner.rstrip()) for inner, outer in pairs if inner.strip()), 0
    )
    return Expression(text, Place(header.file, header.line + 1, indent + 1), indent)


MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 32
MAX_CHARACTER_FAULTS: Final = 20
# Controls, invisible formatting (such as changes of text direction), surrogates, line separators.
REJECTED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
NONCHARACTER: Final = 0xFFFE  # these bits are set in the last two code points of every plane
NOT_UTF8: Final = "\N{REPLACEMENT CHARACTER}"  # it replaces bytes that are not text
_CALLED: Final = {NOT_UTF8: "a byte that is not UTF-8", "\ufeff": "a byte order mark"}


class _Mark(Protocol):
    """A position as the parser counts, from 0."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class _Stop(Exception):
    """The rest of the file cannot be read."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def read_source(file: str, text: str) -> tuple[Node | None, list[Fault]]:
    """Return the file's document and its faults; `None` if it cannot be read to the end."""
    faults = list(_unfit(file, text))
    if faults:
        return None, faults
    reader = _Reader(file, text)
    try:
        return reader.document(), reader.faults
    except _Stop as stop:
        return None, [*reader.faults, stop.fault]


def _unfit(file: str, text: str) -> Iterator[Fault]:
    """Yield faults of the text itself, before it is read as YAML."""
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        yield Fault(Place(file, 1, 1), f"the file is larger than {MAX_BYTES // 1024} KiB")
        return
    if NOT_UTF8 not in text and text.replace("\n", "").isprintable():
        return
    found = 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        for column, character in enumerate(line, start=1):
            if _is_rejected(character) and character != "\t":
                called = _CALLED.get(character) or f"the invisible character U+{ord(character):04X}"
                place = Place(file, number, column)
                yield Fault(place, f"{called} is not allowed in a rule file")
                found += 1
                if found == MAX_CHARACTER_FAULTS:
                    return


def _is_rejected(character: str) -> bool:
    """Return whether a character is a control, invisible, or not a character."""
    if character == NOT_UTF8 or ord(character) & NONCHARACTER == NONCHARACTER:
        return True
    return unicodedata.category(character) in REJECTED_CATEGORIES


class _Reader:
    """One pass over the parser's events; the depth limit bounds recursion and the parser's work."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.faults: list[Fault] = []
        self.events = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self.last = Place(file, 1, 1)

    def document(self) -> Node:
        """Read the one document."""
        self.next()
        start = self.next()
        if isinstance(start, yaml.StreamEndEvent):
            raise _Stop(Fault(Place(self.file, 1, 1), "the file is empty"))
        if isinstance(start, yaml.DocumentStartEvent) and (start.version or start.tags):
            self.fault(self.last, "YAML directives are not used in rule files")
        node = self.node(self.next(), 1)
        self.next()
        if not isinstance(self.next(), yaml.StreamEndEvent):
            self.fault(self.last, "a second document begins here; a rule file holds one")
        return node

    def next(self) -> yaml.Event:
        """Return the next event; invalid YAML ends the reading."""
        try:
            event = next(self.events)
        except yaml.MarkedYAMLError as error:
            raise _Stop(self.syntax(error)) from None
        except (yaml.YAMLError, ValueError, OverflowError):
            raise _Stop(
                Fault(self.last, "not valid YAML: an escape or directive after this is malformed")
            ) from None
        self.last = self.place(event.start_mark)
        return event

    def syntax(self, error: yaml.MarkedYAMLError) -> Fault:
        """Return the parser's error as a fault for authors."""
        mark = error.problem_mark or error.context_mark
        place = self.place(mark)
        problem = error.problem or error.context or "malformed"
        if "'\\t'" in problem:
            return Fault(place, "not valid YAML: a tab indents here; YAML is indented with spaces")
        if error.context and error.context_mark and error.context is not problem:
            problem += f" ({error.context} that begins on line {error.context_mark.line + 1})"
        return Fault(place, f"not valid YAML: {problem}")

    def node(self, event: yaml.Event, depth: int) -> Node:
        """Read the node that starts with an event."""
        place = self.place(event.start_mark)
        if depth > MAX_DEPTH:
            raise _Stop(Fault(place, f"nested deeper than {MAX_DEPTH} levels"))
        if isinstance(event, yaml.AliasEvent):
            alias = f"the alias `*{event.anchor}`"
            self.fault(place, f"{alias} is not allowed: write it out, or use params or extends")
            return Scalar(place, "", None, None)
        if anchor := getattr(event, "anchor", None):
            self.fault(place, f"the anchor `&{anchor}` is not allowed in rule files")
        if tag := getattr(event, "tag", None):
            self.fault(place, f"the tag `{tag}` is not allowed in rule files")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, place)
        if isinstance(event, yaml.SequenceStartEvent):
            return Listing(place, tuple(self.items(depth)))
        return Table(place, {entry.key.text: entry for entry in self.entries(depth)})

    def items(self, depth: int) -> Iterator[Node]:
        """Yield a sequence's items."""
        while not isinstance(event := self.next(), yaml.SequenceEndEvent):
            yield self.node(event, depth + 1)

    def entries(self, depth: int) -> Iterator[MappingEntry]:
        """Yield a mapping's entries; of a duplicate key, the first counts."""
        seen: dict[str, int] = {}
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            key = self.node(event, depth + 1)
            value = self.node(self.next(), depth + 1)
            if not isinstance(key, Scalar):
                self.fault(key.place, "a key must be a single word")
            elif key.text == "<<" and key.value == "<<":
                message = (
                    "the merge key `<<` is not allowed: write it out, or use params or extends"
                )
                self.fault(key.place, message)
            elif key.text in seen:
                first = f"first written on line {seen[key.text]}"
                self.fault(key.place, f"duplicate key `{key.text}`, {first}")
            else:
                seen[key.text] = key.place.line
                yield MappingEntry(key, value)

    def scalar(self, event: yaml.ScalarEvent, place: Place) -> Scalar:
        """Read a scalar."""
        value: Plain = event.value
        odd = "" if event.value.isprintable() else event.value.replace("\n", "").replace("\t", "")
        if any(map(_is_rejected, odd)):
            self.fault(place, "an escape here is a control or invisible character")
            value = ""
        elif event.style is None:
            try:
                value = resolve_scalar(event.value)
            except UnreadableScalar as why:
                self.fault(place, f"`{event.value[:40]}`: {why}")
                value = None
        return Scalar(place, event.value, value, _written_expression(self.file, event, self.text))

    def place(self, mark: _Mark | None) -> Place:
        """Return a parser's mark as a place; without a mark, the last known place."""
        return Place(self.file, mark.line + 1, mark.column + 1) if mark else self.last

    def fault(self, place: Place, message: str) -> None:
        """Add a fault."""
        self.faults.append(Fault(place, message))
