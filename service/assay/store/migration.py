"""The database's schema version: move it, or say that it has to be moved. `directory` is where `migrations/` lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError

from assay.engine.errors import StoreUnavailable, quoted
from assay.store.database import masked, reading, writing

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection, Engine


def migrate(
    database: Engine, directory: Path, target: str = "head"
) -> tuple[str | None, str | None]:
    """Move the schema up or down to `target` in one transaction; return the revision before and after."""
    config = configured(directory)
    with writing(database) as connection:
        before = revision(connection)
        config.attributes["connection"] = connection
        try:
            move = command.downgrade if is_below(config, target, before) else command.upgrade
            move(config, target)
        except (CommandError, RevisionError) as error:
            message = f"database {masked(database.url)} at revision {before or 'none'}: {error}"
            raise StoreUnavailable(message) from error
        return before, revision(connection)


def require_current(database: Engine, directory: Path) -> None:
    """Refuse a database whose schema is not the one this Assay was built for."""
    script = ScriptDirectory.from_config(configured(directory))
    needed = script.get_current_head()
    with reading(database) as connection:
        found = revision(connection)
    if found == needed:
        return
    known = found is None or found in {step.revision for step in script.walk_revisions()}
    if known:
        state = f"is at revision {found}" if found else "is empty"
        message = f"database {masked(database.url)} {state}, this Assay needs {needed}: run `assay migrate`"
    else:
        message = f"database {masked(database.url)} is at revision {quoted(found)}, newer than this Assay's {needed}"
    raise StoreUnavailable(message)


def configured(directory: Path) -> Config:
    """Point alembic at the migrations, without a file."""
    config = Config()
    config.set_main_option("script_location", str(directory).replace("%", "%%"))
    return config


def revision(connection: Connection) -> str | None:
    """Tell the schema's revision, `None` before the first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def is_below(config: Config, target: str, before: str | None) -> bool:
    """Whether going from `before` to `target` undoes migrations."""
    if before is None or target == before:
        return False
    steps = ScriptDirectory.from_config(config).iterate_revisions(before, "base")
    return target == "base" or target in {step.revision for step in steps}
