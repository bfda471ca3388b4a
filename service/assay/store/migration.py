"""Migrations of the database.

`directory` is the one that holds `migrations/`.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, Engine

from assay.engine.errors import StoreUnavailable
from assay.store.database import masked, writing


def migrate(
    database: Engine, directory: Path, target: str = "head"
) -> tuple[str | None, str | None]:
    """Migrate up or down to `target` in one transaction; return the revision before and after."""
    config = alembic_config(directory)
    with writing(database) as connection:
        before = _revision(connection)
        config.attributes["connection"] = connection
        try:
            move = command.downgrade if _is_below(config, target, before) else command.upgrade
            move(config, target)
        except (CommandError, RevisionError) as error:
            message = f"database {masked(database.url)} at revision {before or 'none'}: {error}"
            raise StoreUnavailable(message) from error
        return before, _revision(connection)


def alembic_config(directory: Path) -> Config:
    """Return alembic's configuration for the migrations, without a file."""
    config = Config()
    config.set_main_option("script_location", str(directory).replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _is_below(config: Config, target: str, before: str | None) -> bool:
    """Whether migrating from `before` to `target` is a downgrade."""
    if before is None or target == before:
        return False
    steps = ScriptDirectory.from_config(config).iterate_revisions(before, "base")
    return target == "base" or target in {step.revision for step in steps}
