"""Databases and a journal written by the version before the last reorganization of the code."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Boolean, Column, DateTime, Engine, MetaData, delete, insert
from sqlalchemy.types import JSON

from assay.engine.world.clock import EPOCH
from assay.store.database import open_database, writing
from assay.store.migration import migrate

FOLDER: Final = Path(__file__).resolve().parents[1] / "fixtures" / "released"
COUNTS: Final[dict[str, dict[str, int]]] = json.loads((FOLDER / "counts.json").read_text())
"""How many rows each table holds, by migration revision."""

REVISIONS: Final = tuple(COUNTS)


def unpack(folder: Path) -> None:
    """Extract `0001.db` to `0005.db` and the directory `journal`."""
    with tarfile.open(FOLDER / "released.tar.xz") as archive:
        archive.extractall(folder, filter="data")


def open_released(folder: Path, revision: str, empty_url: str, migrations: Path) -> Engine:
    """Open the database of a revision, as it was written on SQLite; on PostgreSQL load its rows."""
    path = folder / f"{revision}.db"
    if empty_url.startswith("sqlite"):
        return open_database(f"sqlite:///{path}")
    database = open_database(empty_url)
    migrate(database, migrations, revision)
    _copy_rows(path, database)
    return database


def _copy_rows(path: Path, database: Engine) -> None:
    tables = MetaData()
    tables.reflect(database)
    with closing(sqlite3.connect(path)) as source, writing(database) as connection:
        source.row_factory = sqlite3.Row
        for table in tables.sorted_tables:
            readers = {column.name: _reader(column) for column in table.columns}
            query = f"SELECT * FROM {table.name}"  # noqa: S608 - the names of our own tables
            found = source.execute(query).fetchall()
            rows = [{name: read(row[name]) for name, read in readers.items()} for row in found]
            connection.execute(delete(table))
            if rows:
                connection.execute(insert(table), rows)


def _reader(column: Column[Any]) -> Callable[[Any], Any]:
    """Return what turns SQLite's value of a column into PostgreSQL's."""
    if isinstance(column.type, DateTime):
        return lambda us: None if us is None else EPOCH + timedelta(microseconds=us)
    if isinstance(column.type, JSON):
        return lambda text: None if text is None else json.loads(text)
    if isinstance(column.type, Boolean):
        return lambda number: None if number is None else bool(number)
    return lambda value: value
