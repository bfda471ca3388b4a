"""Rows by the thousand into tables that have some of their keys: counts are added up, all else stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, Integer, Table

from assay.store.types import UtcTime

Cells = tuple[Any, ...]
ARRAYS: Final = ((UtcTime, "int8"), (BigInteger, "int8"), (Integer, "int4"))


def add_up(connection: Connection, table: Table, rows: Sequence[Cells]) -> None:
    """Add to every column outside the key; cells come in the order of the columns, each key once."""
    if rows:
        write(connection, table, rows, adding(table))


def keep_first(connection: Connection, table: Table, rows: Sequence[Cells]) -> None:
    """Add the rows whose key is not there yet; cells come in the order of the columns, times in microseconds."""
    if rows:
        write(connection, table, rows, "DO NOTHING")


@cache
def adding(table: Table) -> str:
    """What to do where the key is there."""
    counts = [column.name for column in table.columns if not column.primary_key]
    return "DO UPDATE SET " + ", ".join(
        f"{name} = {table.name}.{name} + excluded.{name}" for name in counts
    )


def write(connection: Connection, table: Table, rows: Sequence[Cells], meeting: str) -> None:
    """One statement for all rows: SQLite's driver repeats it, PostgreSQL takes each column as an array."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(repeated(table, meeting), list(rows))
    else:
        columns = zip(table.columns, zip(*rows, strict=True), strict=True)
        connection.exec_driver_sql(
            at_once(table, meeting), tuple(array(column, cells) for column, cells in columns)
        )


@cache
def repeated(table: Table, meeting: str) -> str:
    """Inserts one row."""
    marks = ", ".join("?" for _ in table.columns)
    return f"INSERT INTO {table.name} ({names(table)}) VALUES ({marks}) ON CONFLICT ({key(table)}) {meeting}"  # noqa: S608 - our own names


@cache
def at_once(table: Table, meeting: str) -> str:
    """Inserts all rows."""
    arrays = ", ".join(f"CAST(%s AS {array_of(column)}[])" for column in table.columns)
    values = ", ".join(value_of(column) for column in table.columns)
    return (
        f"INSERT INTO {table.name} ({names(table)}) SELECT {values} FROM unnest({arrays}) AS row ({names(table)})"  # noqa: S608 - our own names
        f" ON CONFLICT ({key(table)}) {meeting}"
    )


def names(table: Table) -> str:
    """The columns."""
    return ", ".join(f'"{column.name}"' for column in table.columns)


def key(table: Table) -> str:
    """The columns of the key."""
    return ", ".join(f'"{column.name}"' for column in table.primary_key)


def array(column: Column[Any], cells: Sequence[Any]) -> str:
    """Cells as PostgreSQL spells arrays: the driver would look at each of them. No text of ours holds NUL."""
    if array_of(column) != "text":
        return "{" + ",".join("NULL" if cell is None else str(cell) for cell in cells) + "}"
    escaped = "\0".join(cells).replace("\\", "\\\\").replace('"', '\\"')
    return '{"' + escaped.replace("\0", '","') + '"}'


def array_of(column: Column[Any]) -> str:
    """The type in which PostgreSQL gets a column's cells."""
    return next((spelled for kind, spelled in ARRAYS if isinstance(column.type, kind)), "text")


def value_of(column: Column[Any]) -> str:
    """A cell as the column takes it: microseconds become an instant, exactly."""
    if isinstance(column.type, UtcTime):
        return f"TIMESTAMPTZ 'epoch' + \"{column.name}\" * INTERVAL '1 microsecond'"
    return f'"{column.name}"'
