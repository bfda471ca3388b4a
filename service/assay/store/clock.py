"""The clock of the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine, text

from assay.store.database import reading


@dataclass(frozen=True, slots=True)
class DatabaseTime:
    """What PostgreSQL's clock says, and whether it is the clock of another host than ours."""

    now: datetime
    is_remote: bool


def database_time(database: Engine) -> DatabaseTime | None:
    """Return the time of the database's clock; `None` for SQLite, which has none of its own.

    A server on a Unix socket, or one whose address is also its client's, is on this host.
    """
    if database.dialect.name != "postgresql":
        return None
    query = "SELECT clock_timestamp(), inet_server_addr() <> inet_client_addr()"
    with reading(database) as connection:
        now, is_remote = connection.execute(text(query)).one()
    return DatabaseTime(now.astimezone(UTC), bool(is_remote))
