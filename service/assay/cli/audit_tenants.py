"""`assay audit tenants`: tenants whose reports do not count, because they fail everywhere."""

from __future__ import annotations

from sqlalchemy import select

from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, print_json, print_table
from assay.engine.pool.report import tenants_set_aside
from assay.server.database import open_current_database, published_snapshot
from assay.store.database import reading
from assay.store.tables import tenant_pseudonym


def tenants_command(*, url: DatabaseUrl = None, json: Json = False) -> None:
    """List the tenants whose reports are set aside, by model.

    Their tool calls fail at three providers or more, far more often than those of all others, so
    the fault is theirs: a schema that nothing fits, or an answer that is cut short. They count
    again by themselves once their calls succeed. `assay pool MODEL --explain ENDPOINT` shows what
    they reported.

    Exit codes: 0 shown; 1 the database failed.

    Example: assay audit tenants
    """
    with open_current_database(url, create=False) as database:
        snapshot = published_snapshot(database)
        aside = tenants_set_aside(snapshot) if snapshot else {}
        own = tenant_pseudonym.c
        wanted = {each for names in aside.values() for each in names}
        query = select(own.pseudonym, own.tenant).where(own.pseudonym.in_(sorted(wanted)))
        with reading(database) as connection:
            names = {row.pseudonym: row.tenant for row in connection.execute(query)}
    rows = [
        (model, names.get(pseudonym, pseudonym))
        for model, pseudonyms in sorted(aside.items())
        for pseudonym in sorted(pseudonyms)
    ]
    if json:
        print_json([{"model": model, "tenant": tenant} for model, tenant in rows])
    elif rows:
        print_table("tenants whose reports are set aside", ("model", "tenant"), rows)
    else:
        console.print("no tenant's reports are set aside")
