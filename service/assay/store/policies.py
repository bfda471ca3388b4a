"""Policy revisions: every set of rule files that was active, numbered in order of activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, insert, select

from assay.store.database import reading
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


def number_policy(
    connection: Connection,
    digest: str,
    files: Mapping[str, str],
    *,
    now: datetime,
    note: str | None = None,
) -> int:
    """Return the number of a revision: the newest keeps its number, any other gets the next.

    Call it in a transaction of `writing`.
    """
    newest = _read_first(connection, _newest_first())
    if newest is not None and newest.digest == digest:
        return newest.number
    number = 1 if newest is None else newest.number + 1
    source = {"digest": digest, "files": dict(sorted(files.items()))}
    insert_missing(connection, policy_source, [source])
    row = {"number": number, "digest": digest, "created_at": now, "note": note}
    connection.execute(insert(policy_revision), row)
    return number


def load_policy(database: Engine, number: int) -> PolicyRevision | None:
    """Read a revision by number."""
    with reading(database) as connection:
        return _read_first(connection, _select().where(policy_revision.c.number == number))


def latest_policy(database: Engine) -> PolicyRevision | None:
    """Read the newest revision."""
    with reading(database) as connection:
        return _read_first(connection, _newest_first())


def list_policies(
    database: Engine, *, below: int | None = None, limit: int
) -> tuple[PolicyRevision, ...]:
    """Return the newest revisions, those with numbers lower than `below`."""
    query = _newest_first().limit(limit)
    if below is not None:
        query = query.where(policy_revision.c.number < below)
    with reading(database) as connection:
        return tuple(map(_revision_of, connection.execute(query)))


def _select() -> Select[Any]:
    return select(policy_revision, policy_source.c.files).join(policy_source)


def _newest_first() -> Select[Any]:
    return _select().order_by(policy_revision.c.number.desc())


def _read_first(connection: Connection, query: Select[Any]) -> PolicyRevision | None:
    row: Row[Any] | None = connection.execute(query.limit(1)).first()
    return None if row is None else _revision_of(row)


def _revision_of(row: Row[Any]) -> PolicyRevision:
    return PolicyRevision(row.number, row.digest, row.files, row.created_at, row.note)
