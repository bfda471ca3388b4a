"""Rows on their way into the tables of the log, past everything that costs time per row.

On SQLite the driver's own executemany; on PostgreSQL binary COPY straight into the tables: the stored position says
that none of the rows is there yet, so there is no staging table to pay for. Should one be there after all, the
database says so and `fill_in` takes the batch row by row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Integer, LargeBinary, Table
from sqlalchemy.exc import DataError, DBAPIError

from assay.decision_log.batch import CELLS, Batch, Cells, Words
from assay.decision_log.tables import (
    decision,
    finding_set_word,
    journal_record,
    tenant_pseudonym,
    unreadable_record,
)
from assay.store.types import UtcTime

Load = Callable[[Connection, Batch], None]

COLUMNS: Final[Mapping[Table, tuple[str, ...]]] = {
    journal_record: ("stream", "seq", "kind", "payload", "chain"),
    decision: ("stream", "seq", "decided_at", *(column.name for column in CELLS)),
    finding_set_word: ("finding_set", "kind", "word"),
    tenant_pseudonym: ("pseudonym", "tenant", "created_at"),
    unreadable_record: ("stream", "digest", "kind", "payload"),
}
"""In which order cells come."""

PLACEHOLDER: Final = {"sqlite": "?", "postgresql": "%s"}
SPELLED: Final = (
    (UtcTime, "timestamptz"),
    (LargeBinary, "bytea"),
    (BigInteger, "int8"),
    (Integer, "int4"),
)
UNKNOWN_SETS: Final = {
    "sqlite": "SELECT value FROM json_each(?) WHERE NOT EXISTS"
    " (SELECT 1 FROM finding_set_word WHERE finding_set = value)",
    "postgresql": "SELECT value FROM json_array_elements_text(%s) AS value WHERE NOT EXISTS"
    " (SELECT 1 FROM finding_set_word WHERE finding_set = value)",
}


def inserting(table: Table, dialect: str) -> str:
    """The statement that inserts one row."""
    names = COLUMNS[table]
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join([PLACEHOLDER[dialect]] * len(names))})"  # noqa: S608 - our own names


INSERT: Final = {
    dialect: {table: inserting(table, dialect) for table in COLUMNS} for dialect in PLACEHOLDER
}
COPY: Final = {
    table: f"COPY {table.name} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)"
    for table, names in COLUMNS.items()
}
TYPES: Final = {
    table: [
        next((spelled for kind, spelled in SPELLED if isinstance(table.c[name].type, kind)), "text")
        for name in names
    ]
    for table, names in COLUMNS.items()
}


def load(connection: Connection, batch: Batch) -> None:
    """Add rows of which none is there yet."""
    bulk = insert_many if connection.dialect.name == "sqlite" else copy
    for table, rows in ((journal_record, batch.records), (decision, batch.decisions)):
        if rows:
            bulk(connection, table, rows)


def insert_many(connection: Connection, table: Table, rows: Sequence[Cells]) -> None:
    """Hand all rows to the driver at once."""
    connection.exec_driver_sql(INSERT[connection.dialect.name][table], list(rows))


def copy(connection: Connection, table: Table, rows: Sequence[Cells]) -> None:
    """Stream the rows to PostgreSQL."""
    driver: Any = connection.connection.driver_connection
    with driving(connection), driver.cursor() as cursor, cursor.copy(COPY[table]) as into:
        into.set_types(TYPES[table])
        for row in rows:
            into.write_row(row)


@contextmanager
def driving(connection: Connection) -> Iterator[None]:
    """Give errors of the driver the form that they have when SQLAlchemy calls it."""
    dbapi = connection.dialect.loaded_dbapi
    try:
        yield
    except dbapi.Error as error:
        raise DBAPIError.instance(
            "COPY", None, error, dbapi.Error, dialect=connection.dialect
        ) from error


def fill_in(connection: Connection, batch: Batch) -> None:
    """Add rows one by one: what the journal holds is what happened, so a row in the place of another makes way.

    An id that another place in the log has already stays there; a row that the database refuses is left out. The record
    is kept in either case.
    """
    mark = PLACEHOLDER[connection.dialect.name]
    insert = INSERT[connection.dialect.name]
    replacing = " ON CONFLICT (stream, seq) DO UPDATE SET" + ",".join(
        f" {name} = excluded.{name}" for name in ("kind", "payload", "chain")
    )
    remove = f"DELETE FROM decision WHERE stream = {mark} AND seq = {mark}"  # noqa: S608 - a mark is a placeholder
    for row in batch.records:
        connection.exec_driver_sql(insert[journal_record] + replacing, row)
        connection.exec_driver_sql(remove, row[:2])
    for row in batch.decisions:
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(insert[decision] + " ON CONFLICT DO NOTHING", row)
        except DataError:
            continue


def add_words(connection: Connection, words: Mapping[str, Words]) -> None:
    """Add the words of the sets that are not known yet, in an order that lets no two shippers wait for each other."""
    if not words:
        return
    query = UNKNOWN_SETS[connection.dialect.name]
    unknown = connection.exec_driver_sql(query, (json.dumps(list(words)),)).scalars()
    rows = [
        (name, kind, word)
        for name in sorted(unknown)
        for kind, each in words[name].items()
        for word in each
    ]
    add_missing(connection, finding_set_word, rows)


def add_missing(connection: Connection, table: Table, rows: Sequence[Cells]) -> None:
    """Add the rows whose key is not there yet."""
    if rows:
        connection.exec_driver_sql(
            INSERT[connection.dialect.name][table] + " ON CONFLICT DO NOTHING", list(rows)
        )
