"""Alembic's environment: uses the connection of `assay migrate`, or opens `sqlalchemy.url`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import context

from assay.decision_log.schema import metadata
from assay.store.database import open_database, with_limits, writing
from assay.store.time_limits import MIGRATING

if TYPE_CHECKING:
    from sqlalchemy import Connection


def run(connection: Connection) -> None:
    """Run all steps in one transaction, on SQLite too."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transactional_ddl=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


def run_by_url(url: str) -> None:
    """Open the database of `sqlalchemy.url` and run."""
    database = open_database(url)
    with writing(with_limits(database, MIGRATING)) as connection:
        run(connection)
    database.dispose()


handed = context.config.attributes.get("connection")
if handed is None:
    run_by_url(context.config.get_main_option("sqlalchemy.url") or "")
else:
    run(handed)
