"""`assay audit tenants`: tenants whose reports do not count, because they fail everywhere."""

from __future__ import annotations

from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, print_json, print_table
from assay.decision_log.queries import tenants_by_pseudonym
from assay.engine.pool.report import tenants_set_aside
from assay.server.database import open_current_database, published_snapshot


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
        names = tenants_by_pseudonym(database) if aside else {}
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
