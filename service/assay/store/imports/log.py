"""The import log, and the counters that show that the world has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from assay.importers.documents import ImportCounts, ImportReport, Rejection
from assay.store.tables import import_log, world_revision


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """One file of one source, during its import or afterwards."""

    kind: str
    source: str
    digest: str
    generated_at: datetime | None
    imported_at: datetime

    @property
    def stated_at(self) -> datetime:
        """The file's own time; otherwise when it was imported."""
        return self.generated_at or self.imported_at


def newest_import(connection: Connection, kind: str, source: str) -> ImportedFile | None:
    """Return the last imported file of a source."""
    log = import_log.c
    own = select(import_log).where(log.kind == kind, log.source == source)
    row = connection.execute(own.order_by(log.import_id.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    return ImportedFile(row.kind, row.source, row.digest, row.generated_at, row.imported_at)


def finish_import(
    connection: Connection,
    file: ImportedFile,
    counts: dict[str, ImportCounts],
    rejected: Sequence[Rejection],
) -> ImportReport:
    """Log an import, unless it repeats its source's last file and changed nothing; report it."""
    last = newest_import(connection, file.kind, file.source)
    is_repeated = last is not None and last.digest == file.digest
    if not is_repeated or any(each.has_changes for each in counts.values()):
        row = {
            "kind": file.kind,
            "source": file.source,
            "digest": file.digest,
            "generated_at": file.generated_at,
            "imported_at": file.imported_at,
            "counts": {
                **{name: _numbers(each) for name, each in counts.items()},
                "refused": len(rejected),
            },
        }
        connection.execute(insert(import_log), row)
    return ImportReport(file.source, counts, tuple(rejected))


def _numbers(counts: ImportCounts) -> dict[str, int]:
    return {
        "added": len(counts.added),
        "changed": len(counts.changed),
        "gone": len(counts.gone),
        "unchanged": counts.unchanged,
    }


def count_change(connection: Connection, kind: str) -> None:
    """Count a change of a kind (`catalog`, `evidence` or `preferences`).

    Call it in the transaction that makes the change.
    """
    counter = world_revision.c
    query = update(world_revision).where(counter.kind == kind)
    connection.execute(query.values(number=counter.number + 1))


def insert_missing(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]
) -> None:
    """Insert the rows whose primary key does not exist yet."""
    if rows:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)
