"""CSV files in our forms: named columns, and rows with their line numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

from assay.engine.errors import BadData, quoted
from assay.importers.cells import InvalidItemError
from assay.importers.documents import Rejection, Rejections
from assay.importers.packing import TABLE_LIMIT, digest, unpacked

_LONGEST_CELL = 4096
_MANY_ROWS = 500_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row: its line (the header is line 1) and its cells by column, without blank ones."""

    line: int
    cells: Mapping[str, str]

    @property
    def where(self) -> str:
        """The row's name in rejections."""
        return f"line {self.line}"

    def read(self, column: str, reader: Callable[[str, str], T]) -> T | None:
        """Read a cell that may be blank."""
        text = self.cells.get(column)
        return None if text is None else reader(column, text)

    def need(self, column: str, reader: Callable[[str, str], T]) -> T:
        """Read a cell that must not be blank."""
        return reader(column, self.cells.get(column, ""))


def read_table(  # noqa: PLR0913 - what a table is: its columns, its rows and their keys
    data: bytes,
    read_row: Callable[[CsvRow], T],
    *,
    required: Sequence[str],
    optional: Sequence[str] = (),
    key_of: Callable[[T], Hashable] | None = None,
    repeated: str = "",
) -> tuple[str, tuple[T, ...], tuple[Rejection, ...]]:
    """Read a plain or gzip CSV file in UTF-8 whose header names known columns in any order.

    Return its digest, the items that `read_row` makes, and the rejections in the order of lines:
    rows of a wrong width, with too long cells, or repeated. Of two items with one key the second is
    rejected, as `repeated`.
    """
    content = unpacked(data, TABLE_LIMIT)
    lines = _lines(_text(content))
    _, header = next(lines, (1, []))
    columns = _checked([name.strip() for name in header], required, optional)
    found: list[T] = []
    rejected = Rejections()
    rows: dict[tuple[str, ...], int] = {}
    keys: dict[Hashable, int] = {}
    for number, (line, cells) in enumerate(lines):
        if number >= _MANY_ROWS:
            raise BadData(f"line {line}: more than {_MANY_ROWS} rows")
        with rejected.at(f"line {line}"):
            row = CsvRow(line, _named_cells(columns, cells))
            same_row = rows.setdefault(tuple(cells), line)
            if same_row != line:
                rejected.append(Rejection(row.where, f"the same row as line {same_row}"))
                continue
            item = read_row(row)
            same_key = keys.setdefault(key_of(item), line) if key_of else line
            if same_key == line:
                found.append(item)
            else:
                rejected.append(Rejection(row.where, f"{repeated} as line {same_key}"))
    return digest(content), tuple(found), tuple(rejected)


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadData(f"line {line}: the file is not UTF-8") from error
    if "\0" in text:
        raise BadData(
            f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: the file holds a NUL byte"
        )
    return text


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank with the physical line it starts on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise BadData(f"line {start}: not a CSV row: {error}") from error


def _checked(header: list[str], required: Sequence[str], optional: Sequence[str]) -> list[str]:
    known = (*required, *optional)
    for place, name in enumerate(header):
        if name not in known:
            near = get_close_matches(name[:100], known, 1, 0.5)
            hint = f", did you mean {near[0]}?" if near else f", known are {', '.join(known)}"
            raise BadData(f"line 1: unknown column {quoted(name, 40)}{hint}")
        if name in header[:place]:
            raise BadData(f"line 1: column {name} occurs twice")
    missing = [name for name in required if name not in header]
    if missing:
        raise BadData(f"line 1: missing column {', '.join(missing)}")
    return header


def _named_cells(columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(columns):
        raise InvalidItemError(
            "row", f"{len(cells)} cells", f"as wide as the header, {len(columns)}"
        )
    named = {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
    for column, cell in named.items():
        if len(cell) > _LONGEST_CELL:
            raise InvalidItemError(column, cell, f"of at most {_LONGEST_CELL} characters")
    return {column: cell for column, cell in named.items() if cell}
