"""Writes of many rows in one statement that add to existing rows, or leave them as they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, Integer, Table

from assay.store.types import UtcTime

Cells = tuple[Any, ...]
"""The values of one row in the order of the table's columns; times are in microseconds."""

_ARRAYS: Final = ((UtcTime, "int8"), (BigInteger, "int8"), (Integer, "int4"))


def add_up(connection: Connection, table: Table, rows: Sequence[Cells]) -> None:
    """Insert rows, or add to every column outside the key; each key occurs once."""
    if rows:
        _write(connection, table, rows, _adding(table))


def keep_first(connection: Connection, table: Table, rows: Sequence[Cells]) -> None:
    """Insert the rows whose key does not exist yet."""
    if rows:
        _write(connection, table, rows, "DO NOTHING")


def insert_new(connection: Connection, table: Table, rows: Sequence[Cells]) -> set[tuple[Any, ...]]:
    """Insert the rows whose key does not exist yet, and return these keys.

    Keys must differ and begin the row. On PostgreSQL it waits for concurrent writers of the same
    key; SQLite has one writer, so that the keys read before still hold.
    """
    if not rows:
        return set()
    size = len(table.primary_key)
    if connection.dialect.name == "sqlite":
        firsts = json.dumps(sorted({row[0] for row in rows}))
        stored = set(map(tuple, connection.exec_driver_sql(_select_keys(table), (firsts,))))
        new = [row for row in rows if row[:size] not in stored]
        keep_first(connection, table, new)
        return {row[:size] for row in new}
    insert = f"{_insert_arrays(table, 'DO NOTHING')} RETURNING {_names(table.primary_key)}"
    return set(map(tuple, connection.exec_driver_sql(insert, _arrays(table, rows))))


@cache
def _select_keys(table: Table) -> str:
    first = next(iter(table.primary_key)).name
    given = "SELECT value FROM json_each(?)"
    key = _names(table.primary_key)
    listed = f"SELECT {key} FROM {table.name}"  # noqa: S608 - our own names
    return f"{listed} WHERE {first} IN ({given})"


@cache
def _adding(table: Table) -> str:
    counts = [column.name for column in table.columns if not column.primary_key]
    sums = (f"{name} = {table.name}.{name} + excluded.{name}" for name in counts)
    return "DO UPDATE SET " + ", ".join(sums)


def _write(connection: Connection, table: Table, rows: Sequence[Cells], conflict: str) -> None:
    """Run one statement: SQLite's driver repeats it per row, PostgreSQL gets columns as arrays."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_insert_row(table, conflict), list(rows))
    else:
        connection.exec_driver_sql(_insert_arrays(table, conflict), _arrays(table, rows))


@cache
def _insert_row(table: Table, conflict: str) -> str:
    marks = ", ".join("?" for _ in table.columns)
    return _insert(table, f"VALUES ({marks})", conflict)


@cache
def _insert_arrays(table: Table, conflict: str) -> str:
    arrays = ", ".join(f"CAST(%s AS {_array_type(column)}[])" for column in table.columns)
    values = ", ".join(_value(column) for column in table.columns)
    rows = f"unnest({arrays}) AS row ({_names(table.columns)})"
    source = f"SELECT {values} FROM {rows}"  # noqa: S608 - our own names
    return _insert(table, source, conflict)


def _insert(table: Table, source: str, conflict: str) -> str:
    key = _names(table.primary_key)
    target = f"{table.name} ({_names(table.columns)})"
    return f"INSERT INTO {target} {source} ON CONFLICT ({key}) {conflict}"


def _names(columns: Any) -> str:  # noqa: ANN401 - two of SQLAlchemy's collections of columns
    return ", ".join(f'"{column.name}"' for column in columns)


def _arrays(table: Table, rows: Sequence[Cells]) -> tuple[str, ...]:
    columns = zip(table.columns, zip(*rows, strict=True), strict=True)
    return tuple(_array(column, cells) for column, cells in columns)


def _array(column: Column[Any], cells: Sequence[Any]) -> str:
    """Return cells as PostgreSQL's array text; the driver would inspect each. INVARIANT: no NUL."""
    if _array_type(column) != "text":
        return "{" + ",".join("NULL" if cell is None else str(cell) for cell in cells) + "}"
    escaped = "\0".join(cells).replace("\\", "\\\\").replace('"', '\\"')
    return '{"' + escaped.replace("\0", '","') + '"}'


def _array_type(column: Column[Any]) -> str:
    return next((spelled for kind, spelled in _ARRAYS if isinstance(column.type, kind)), "text")


def _value(column: Column[Any]) -> str:
    """Return the SQL of a cell; microseconds become an instant exactly."""
    if isinstance(column.type, UtcTime):
        return f"TIMESTAMPTZ 'epoch' + \"{column.name}\" * INTERVAL '1 microsecond'"
    return f'"{column.name}"'
