"""A CSV file of ours: named columns, and rows that know the line they stood on."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from assay.engine.errors import BadData, quoted
from assay.importers.cells import InvalidItemError
from assay.importers.documents import Rejection
from assay.importers.packing import TABLE_LIMIT, digest, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

LONGEST_CELL = 4096
MANY_ROWS = 500_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row: its line (the header is line 1) and its cells by column; a blank cell is absent."""

    line: int
    cells: Mapping[str, str]

    @property
    def where(self) -> str:
        """Name the row in refusals."""
        return f"line {self.line}"

    def read(self, column: str, reader: Callable[[str, str], T]) -> T | None:
        """Read a cell that may be blank."""
        text = self.cells.get(column)
        return None if text is None else reader(column, text)

    def need(self, column: str, reader: Callable[[str, str], T]) -> T:
        """Read a cell that must not be blank."""
        return reader(column, self.cells.get(column, ""))


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A CSV file by rows; rows that are none (wrong width, over-long, said before) are refused already."""

    digest: str
    rows: tuple[CsvRow, ...]
    rejected: tuple[Rejection, ...]


def read_table(data: bytes, *, required: Sequence[str], optional: Sequence[str] = ()) -> CsvTable:
    """Read a plain or gzip CSV in UTF-8 whose header names known columns in any order."""
    content = unpacked(data, TABLE_LIMIT)
    lines = _lines(_text(content))
    _, header = next(lines, (1, []))
    columns = _checked([name.strip() for name in header], required, optional)
    rows: list[CsvRow] = []
    refused: list[Rejection] = []
    seen: dict[tuple[str, ...], int] = {}
    for line, cells in lines:
        if len(seen) + len(refused) >= MANY_ROWS:
            raise BadData(f"line {line}: more than {MANY_ROWS} rows")
        try:
            rows.append(CsvRow(line, _named_cells(columns, cells)))
        except InvalidItemError as error:
            refused.append(Rejection(f"line {line}", str(error)))
            continue
        first = seen.setdefault(tuple(cells), line)
        if first != line:
            rows.pop()
            refused.append(Rejection(f"line {line}", f"the same row as line {first}"))
    return CsvTable(digest(content), tuple(rows), tuple(refused))


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadData(f"line {line}: the file is not in UTF-8") from error
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
            raise BadData(f"line 1: column {name} stands twice")
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
        if len(cell) > LONGEST_CELL:
            raise InvalidItemError(column, cell, f"of at most {LONGEST_CELL} characters")
    return {column: cell for column, cell in named.items() if cell}
