"""The schema version that this Assay needs, and the one that a database has.

Every start looks at it. Alembic, which takes a tenth of a start to import, is needed only to
migrate: see `migration`.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, inspect, text

from assay.engine.errors import StoreUnavailable, quoted
from assay.store.database import masked, reading


def require_current(database: Engine, directory: Path) -> None:
    """Raise StoreUnavailable unless the schema is the one of the migrations in `directory`."""
    revisions = {file.name.partition("_")[0] for file in (directory / "versions").glob("0*.py")}
    needed, found = max(revisions), _revision(database)
    if found == needed:
        return
    name = f"database {masked(database.url)}"
    if found is None:
        message = f"{name} is empty, this Assay needs {needed}: run `assay migrate`"
    elif found in revisions:
        message = f"{name} is at revision {found}, this Assay needs {needed}: run `assay migrate`"
    else:
        message = f"{name} is at revision {quoted(found)}, newer than this Assay's {needed}"
    raise StoreUnavailable(message)


def _revision(database: Engine) -> str | None:
    with reading(database) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)
