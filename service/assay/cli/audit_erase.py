"""`assay audit prune` and `erase`: letting go of what is too old, and of who a tenant was."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cyclopts import Parameter

from assay.cli.options import DatabaseUrl, Json, instant
from assay.cli.output import console, errors, print_json
from assay.cli.questions import OptionsConflict, utc
from assay.decision_log.retention import erase_tenant, prune, prune_snapshots
from assay.engine.errors import CallerError, InvalidField, quoted
from assay.engine.world.request import check_text
from assay.server.database import open_current_database
from assay.server.settings import wall_clock
from assay.store.evidence_retention import prune_outcomes

AGE = re.compile(r"([0-9]{1,6})([dh])", re.ASCII)
UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1)}
Yes = Annotated[
    bool, Parameter(negative="", help="Do it without asking; needed where there is no terminal.")
]


class Unconfirmed(CallerError):
    """Nobody said that it is to be done."""

    def __init__(self, what: str) -> None:
        super().__init__(f"this {what} for good; confirm with --yes")


def prune_command(
    *,
    before: Annotated[
        str | None, Parameter(help="Remove what was decided before this time.")
    ] = None,
    older_than: Annotated[str | None, Parameter(help="Remove what is older: 90d, 36h.")] = None,
    yes: Yes = False,
    url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Remove old records, outcomes, and snapshots that no decision needs any more. What is left still verifies.

    It works in small batches while servers go on. Each stream keeps everything from its first younger record on.

    Example: assay audit prune --older-than 90d --yes

    Example: assay audit prune --before 2025-09-01T00:00:00Z
    """
    now = wall_clock()
    if (before is None) == (older_than is None):
        raise OptionsConflict("give either --before or --older-than, and not both")
    limit = instant("--before", before) or (now - age(older_than or ""))
    if limit > now:
        raise InvalidField("--before", before, "in the past")
    with open_current_database(url) as database:
        confirm(f"removes every decision before {utc(limit)}", yes=yes)
        removed = prune(database, limit, now=now)
        outcomes = prune_outcomes(database, limit, now=now)
        snapshots = prune_snapshots(database, limit)
    if json:
        print_json(
            {"before": utc(limit), "records": removed, "outcomes": outcomes, "snapshots": snapshots}
        )
    else:
        gone = f"{removed} records, {outcomes} outcomes and {snapshots} snapshots"
        console.print(f"{gone} from before {utc(limit)} removed", markup=False)


def age(words: str) -> timedelta:
    """An age such as 90d; raises InvalidField."""
    read = AGE.fullmatch(words)
    oldest = datetime.min.replace(tzinfo=UTC)
    if read is None or wall_clock() - oldest < int(read[1]) * UNITS[read[2]]:
        raise InvalidField("--older-than", words, "a number of days or hours, such as 90d or 36h")
    return int(read[1]) * UNITS[read[2]]


def erase_command(
    tenant: str, *, yes: Yes = False, url: DatabaseUrl = None, json: Json = False
) -> None:
    """Forget who a tenant was: its pseudonyms, settings and preferences, also those in stored snapshots.

    Its decisions stay under their pseudonyms, so that the log still verifies; those that its settings were part of
    cannot be replayed any more. Restart servers afterwards: a running one remembers the tenants it has seen.

    Example: assay audit erase acme --yes
    """
    if not tenant:
        raise InvalidField("TENANT", tenant, "a tenant's name")
    check_text("TENANT", tenant)
    with open_current_database(url) as database:
        confirm(f"forgets the tenant {quoted(tenant)}", yes=yes)
        removed = erase_tenant(database, tenant)
    if json:
        print_json({"tenant": tenant, "rows": removed})
    else:
        console.print(f"{removed} rows that named {quoted(tenant)} removed", markup=False)


def confirm(what: str, *, yes: bool) -> None:
    """Ask whoever sits at the terminal; raises Unconfirmed."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise Unconfirmed(what)
    errors.print(f"This {what} for good. Type yes to go on: ", markup=False, end="")
    if sys.stdin.readline().strip() != "yes":
        raise Unconfirmed(what)
