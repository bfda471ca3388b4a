"""Policy revisions: every set of rule files that was in force, numbered in the order in which they came into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, insert, select

from assay.store.database import reading, writing
from assay.store.imports.log import insert_missing
from assay.store.tables import policy_revision, policy_source


@dataclass(frozen=True, slots=True)
class PolicyRevision:
    """A numbered revision and the text of its files by name."""

    number: int
    digest: str
    files: Mapping[str, str]
    created_at: datetime
    note: str | None = None


def record_policy(
    database: Engine,
    digest: str,
    files: Mapping[str, str],
    *,
    now: datetime,
    note: str | None = None,
) -> int:
    """Number a revision: the newest keeps its number, anything else, also an older one again, gets the next."""
    with writing(database) as connection:
        return number_policy(connection, digest, files, now=now, note=note)


def number_policy(
    connection: Connection,
    digest: str,
    files: Mapping[str, str],
    *,
    now: datetime,
    note: str | None = None,
) -> int:
    """Number a revision in a transaction of `writing`."""
    newest = first(connection, newest_first())
    if newest is not None and newest.digest == digest:
        return newest.number
    number = 1 if newest is None else newest.number + 1
    insert_missing(
        connection, policy_source, [{"digest": digest, "files": dict(sorted(files.items()))}]
    )
    row = {"number": number, "digest": digest, "created_at": now, "note": note}
    connection.execute(insert(policy_revision), row)
    return number


def policy(database: Engine, number: int) -> PolicyRevision | None:
    """Read a revision by number."""
    with reading(database) as connection:
        return first(connection, revisions().where(policy_revision.c.number == number))


def latest_policy(database: Engine) -> PolicyRevision | None:
    """Read the newest revision."""
    with reading(database) as connection:
        return first(connection, newest_first())


def policies(
    database: Engine, *, below: int | None = None, limit: int
) -> tuple[PolicyRevision, ...]:
    """The newest revisions, those numbered lower than `below`."""
    query = newest_first().limit(limit)
    if below is not None:
        query = query.where(policy_revision.c.number < below)
    with reading(database) as connection:
        return tuple(map(read, connection.execute(query)))


def revisions() -> Select[Any]:
    """Select revisions with their files."""
    return select(policy_revision, policy_source.c.files).join(policy_source)


def newest_first() -> Select[Any]:
    """Select the newest revision."""
    return revisions().order_by(policy_revision.c.number.desc()).limit(1)


def first(connection: Connection, query: Select[Any]) -> PolicyRevision | None:
    """Read one revision."""
    row: Row[Any] | None = connection.execute(query).first()
    return None if row is None else read(row)


def read(row: Row[Any]) -> PolicyRevision:
    """Read a row of `revisions`."""
    return PolicyRevision(row.number, row.digest, row.files, row.created_at, row.note)
