"""Revised rows: a source's new figure supersedes the stored one.

The superseded row stays as an older revision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Row, Table, bindparam, insert, select, update

from assay.importers.documents import ImportCounts, Rejection

Value = TypeVar("Value")
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class RevisedTable(Generic[Value]):
    """A table with the columns `revision`, `imported_at` and `superseded_at`.

    `identity` names the key columns.
    """

    table: Table
    identity: Sequence[str]
    read: Callable[[Row[Any]], Value]
    cells: Callable[[Value], dict[str, Any]]
    name: Callable[[Value], str]

    def key_of(self, value: Value) -> Key:
        """Return what makes a row the same one in another file."""
        cells = self.cells(value)
        return tuple(cells[name] for name in self.identity)


@dataclass(slots=True)
class RevisionPlan(Generic[Value]):
    """The rows of one file, compared with the current revisions of their sources."""

    of: RevisedTable[Value]
    stored: Mapping[Key, tuple[Value, int]]
    added: dict[Key, Value] = field(default_factory=dict)
    superseding: dict[Key, Value] = field(default_factory=dict)
    unchanged: int = 0
    rejected: list[Rejection] = field(default_factory=list)
    seen: dict[Key, str] = field(default_factory=dict)

    def reject(self, where: str, reason: str) -> None:
        """Reject a row."""
        self.rejected.append(Rejection(where, reason))

    def place(self, value: Value) -> None:
        """Add a row, or compare it with the stored one of the same key."""
        key = self.of.key_of(value)
        if key not in self.stored:
            self.added[key] = value
        elif self.stored[key][0] == value:
            self.unchanged += 1
        else:
            self.superseding[key] = value

    def counts(self) -> ImportCounts:
        """Return the names of what is added and changed."""
        return ImportCounts(
            added=tuple(sorted(map(self.of.name, self.added.values()))),
            changed=tuple(sorted(map(self.of.name, self.superseding.values()))),
            unchanged=self.unchanged,
        )

    def store(self, connection: Connection, now: datetime) -> None:
        """Write new rows, and new revisions of known ones; superseded ones stay, marked."""
        table, identity = self.of.table, self.of.identity
        if self.superseding:
            same = [table.c[name] == bindparam(f"this_{name}") for name in identity]
            query = update(table).where(table.c.superseded_at.is_(None), *same)
            names = [f"this_{name}" for name in identity]
            keys = [dict(zip(names, key, strict=True)) for key in self.superseding]
            connection.execute(query.values(superseded_at=now), keys)
        rows = [self._row(value, 1, now) for value in self.added.values()]
        for key, value in self.superseding.items():
            rows.append(self._row(value, self.stored[key][1] + 1, now))
        if rows:
            connection.execute(insert(table), rows)

    def _row(self, value: Value, revision: int, now: datetime) -> dict[str, Any]:
        return {**self.of.cells(value), "revision": revision, "imported_at": now}


def plan_revisions(
    connection: Connection, of: RevisedTable[Value], sources: Sequence[str]
) -> RevisionPlan[Value]:
    """Begin a plan with the current revisions of these sources."""
    table = of.table
    current = select(table).where(table.c.superseded_at.is_(None), table.c.source.in_(sources))
    stored: dict[Key, tuple[Value, int]] = {}
    for row in connection.execute(current):
        value = of.read(row)
        stored[of.key_of(value)] = (value, row.revision)
    return RevisionPlan(of, stored)
