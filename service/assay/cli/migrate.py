"""`assay migrate`: migrate the database to the newest revision."""

from __future__ import annotations

from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, print_json
from assay.server.database import open_unmigrated
from assay.server.settings import migrations_dir
from assay.store.migration import migrate
from assay.store.time_limits import MIGRATING


def migrate_command(*, url: DatabaseUrl = None, json: Json = False) -> None:
    """Migrate the database to the newest revision.

    Waits at most 10 seconds for each lock that another session holds, and then changes nothing.

    Exit codes: 0 migrated, or nothing to do; 1 the database failed.

    Example: assay migrate --database postgresql://assay@localhost/assay
    """
    with open_unmigrated(url, limits=MIGRATING) as database:
        before, after = migrate(database, migrations_dir())
    if json:
        print_json({"from": before, "to": after})
    elif before == after:
        console.print(f"at revision {after}, nothing to do")
    else:
        console.print(f"from {before or 'an empty database'} to revision {after}")
