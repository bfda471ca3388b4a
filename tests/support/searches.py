"""Searches for a text in all that was stored: files and database tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from sqlalchemy import Engine, MetaData, select

from assay.store.database import reading


def files_containing(folder: Path, text: str, *, except_suffix: str = "") -> list[str]:
    """Return the files below a folder that contain a text; those with a suffix are not searched."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not (except_suffix and path.suffix == except_suffix)
        and text.encode() in path.read_bytes()
    ]


def tables_containing(database: Engine, text: str) -> set[str]:
    """Return the tables that contain a text in any cell."""
    tables = MetaData()
    tables.reflect(database)
    with reading(database) as connection:
        return {
            table.name
            for table in tables.sorted_tables
            if any(text in cell for cell in _cells(connection.execute(select(table))))
        }


def _cells(rows: Iterable[Iterable[object]]) -> Iterator[str]:
    for row in rows:
        for cell in row:
            yield cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)
