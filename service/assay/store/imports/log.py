"""The import log, and the counters that tell deciders that the world has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from assay.importers.documents import ImportCounts, Rejection
from assay.store.tables import import_log, world_revision


@dataclass(frozen=True, slots=True)
class Import:
    """One file of one source, as it is about to be taken or was taken before."""

    kind: str
    source: str
    digest: str
    generated_at: datetime | None
    imported_at: datetime

    @property
    def stated_at(self) -> datetime:
        """When the source said so: by its own time, else when we heard it."""
        return self.generated_at or self.imported_at


def newest_import(connection: Connection, kind: str, source: str) -> Import | None:
    """Return the last file taken from a source."""
    log = import_log.c
    query = (
        select(import_log)
        .where(log.kind == kind, log.source == source)
        .order_by(log.import_id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return (
        None
        if row is None
        else Import(row.kind, row.source, row.digest, row.generated_at, row.imported_at)
    )


def note(
    connection: Connection,
    taken: Import,
    tallies: Mapping[str, ImportCounts],
    refused: Sequence[Rejection] = (),
) -> None:
    """Log an import, unless it repeats the last one of its source and changed nothing."""
    last = newest_import(connection, taken.kind, taken.source)
    if (
        last is not None
        and last.digest == taken.digest
        and not any(changed(tally) for tally in tallies.values())
    ):
        return
    counts: dict[str, object] = {name: counted(tally) for name, tally in tallies.items()}
    row = {
        "kind": taken.kind,
        "source": taken.source,
        "digest": taken.digest,
        "generated_at": taken.generated_at,
        "imported_at": taken.imported_at,
        "counts": counts | {"refused": len(refused)},
    }
    connection.execute(insert(import_log), row)


def counted(tally: ImportCounts) -> dict[str, int]:
    """Reduce names to numbers."""
    return {
        "added": len(tally.added),
        "changed": len(tally.changed),
        "gone": len(tally.gone),
        "unchanged": tally.unchanged,
    }


def changed(tally: ImportCounts) -> bool:
    """Whether anything is different now."""
    return bool(tally.added or tally.changed or tally.gone)


def bump(connection: Connection, kind: str) -> None:
    """Count a change of `catalog`, `evidence` or `preferences`, in the transaction that makes it."""
    counter = world_revision.c
    connection.execute(
        update(world_revision).where(counter.kind == kind).values(number=counter.number + 1)
    )


def insert_missing(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]
) -> None:
    """Insert the rows whose primary key is not there yet."""
    if rows:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)
