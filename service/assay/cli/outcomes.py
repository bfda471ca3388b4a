"""`assay outcomes`: the reported outcomes that moved nothing, and those that still wait."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter

from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, print_json, print_table, utc
from assay.engine.errors import InvalidField
from assay.server.database import open_current_database
from assay.server.settings import wall_clock
from assay.store.uncounted_outcomes import list_uncounted, list_waiting

_MOST_DAYS = 3650


def outcomes_command(
    *,
    days: Annotated[int, Parameter(help="Show the last days, in UTC, with today.")] = 7,
    url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List reported outcomes that moved nothing, by day, kind, source and endpoint.

    Kinds: duplicate, contradicting, wrong-endpoint, no-such-attempt, early, late and
    unknown-decision. Outcomes whose decision is not in the log yet are listed as waiting; they
    become unknown-decision after a day.

    Exit codes: 0 listed; 1 the database failed; 2 invalid usage.

    Example: assay outcomes

    Example: assay outcomes --days 30 --json
    """
    if not 1 <= days <= _MOST_DAYS:
        raise InvalidField("--days", days, f"a number from 1 to {_MOST_DAYS}")
    since = wall_clock().date() - timedelta(days=days - 1)
    with open_current_database(url, create=False) as database:
        uncounted, waiting = list_uncounted(database, since), list_waiting(database)
    if json:
        print_json(
            {
                "since": since.isoformat(),
                "uncounted": [asdict(each) for each in uncounted],
                "waiting": [{**asdict(each), "since": utc(each.since)} for each in waiting],
            }
        )
        return
    if not uncounted and not waiting:
        console.print(f"every outcome since {since} counts")
    if uncounted:
        print_table(
            f"Outcomes that moved nothing, since {since}",
            ("day", "kind", "source", "endpoint", "outcomes"),
            [(e.day, e.kind, e.source, e.endpoint_id, f"{e.outcomes:,}") for e in uncounted],
            whole=("day", "kind", "outcomes"),
        )
    if waiting:
        print_table(
            "Outcomes that wait for their decision",
            ("source", "endpoint", "waiting since", "outcomes"),
            [(e.source, e.endpoint_id, utc(e.since), f"{e.outcomes:,}") for e in waiting],
            whole=("waiting since", "outcomes"),
        )
