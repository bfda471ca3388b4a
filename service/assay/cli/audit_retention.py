"""`assay audit prune` and `assay audit erase`: delete old records, or the identity of a tenant."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.audit_options import OptionsConflict
from assay.cli.options import DatabaseUrl, Json, instant
from assay.cli.output import console, errors, print_json, utc
from assay.decision_log.outcome_matching import WAITING, settle_waiting
from assay.decision_log.retention import erase_tenant, prune, prune_snapshots
from assay.decision_log.writer import delete_shipped
from assay.engine.errors import CallerError, InvalidField, quoted
from assay.engine.world.request import check_text
from assay.server.database import open_current_database
from assay.server.settings import wall_clock
from assay.store.evidence_retention import prune_outcomes

_AGE = re.compile(r"([0-9]{1,6})([dh])", re.ASCII)
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1)}
Yes = Annotated[bool, Parameter(help="Do not ask for confirmation; required without a terminal.")]


class Unconfirmed(CallerError):
    """The user did not confirm a deletion."""

    def __init__(self, effect: str) -> None:
        super().__init__(f"this permanently {effect}; confirm with --yes")


def prune_command(
    *,
    before: Annotated[
        str | None, Parameter(help="Delete data from before this time: 2025-09-01T00:00:00Z.")
    ] = None,
    older_than: Annotated[
        str | None, Parameter(help="Delete data older than this: 90d, 36h.")
    ] = None,
    yes: Yes = False,
    url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Delete old records and outcomes, and the snapshots that no decision needs any more.

    The remaining log still verifies: each stream loses only its oldest records, up to the first
    one that is new enough. Outcomes that have waited for their decision since before the time, or
    for a day, are counted as unknown. Servers may run meanwhile; the command deletes in small
    batches.

    Exit codes: 0 deleted; 1 the database failed; 2 invalid usage, or not confirmed.

    Example: assay audit prune --older-than 90d --yes

    Example: assay audit prune --before 2025-09-01T00:00:00Z
    """
    now = wall_clock()
    if (before is None) == (older_than is None):
        raise OptionsConflict("give either --before or --older-than, not both")
    limit = instant("--before", before) or _time_before(now, older_than or "")
    if limit > now:
        raise InvalidField("--before", before, "in the past")
    with open_current_database(url, create=False) as database:
        _confirm(f"deletes every decision before {utc(limit)}", yes=yes)
        settle_waiting(database, max(limit, now - WAITING))
        records = prune(database, limit, now=now)
        outcomes = prune_outcomes(database, limit, now=now)
        snapshots = prune_snapshots(database, limit)
    if json:
        print_json(
            {"before": utc(limit), "records": records, "outcomes": outcomes, "snapshots": snapshots}
        )
    else:
        deleted = f"{records} records, {outcomes} outcomes and {snapshots} snapshots"
        console.print(f"deleted {deleted} from before {utc(limit)}")


def _time_before(now: datetime, age: str) -> datetime:
    """Return the time that was an age such as 90d ago; raise InvalidField."""
    match = _AGE.fullmatch(age)
    try:
        if match:
            return now - int(match[1]) * _UNITS[match[2]]
    except OverflowError:  # before the year 1
        pass
    raise InvalidField("--older-than", age, "a number of days or hours, such as 90d or 36h")


def erase_command(
    tenant: str,
    *,
    journal: Annotated[
        list[Path] | None,
        Parameter(help="Ship this journal first, and delete what is shipped; may be repeated."),
    ] = None,
    yes: Yes = False,
    url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Erase a tenant: its pseudonyms, settings and preferences, in stored snapshots too.

    The tenant's decisions stay in the log under its pseudonyms, so that the log still verifies.
    Decisions that depended on the tenant's settings can no longer be replayed. Stop the servers
    before and name their journals, which keep what was shipped in the last 10 minutes: a running
    server caches the tenants it has seen, and its journal is not touched.

    Exit codes: 0 erased; 1 the database or a journal failed; 2 invalid usage, or not confirmed.

    Example: assay audit erase acme --journal /var/lib/assay/one --yes
    """
    if not tenant:
        raise InvalidField("TENANT", tenant, "a tenant's name")
    check_text("TENANT", tenant)
    with open_current_database(url, create=False) as database:
        _confirm(f"erases the tenant {quoted(tenant)}", yes=yes)
        for directory in journal or ():
            if not directory.is_dir():
                raise InvalidField("--journal", str(directory), "the directory of a journal")
            delete_shipped(directory, database)
        rows = erase_tenant(database, tenant)
    if json:
        print_json({"tenant": tenant, "rows": rows})
    else:
        console.print(f"deleted {rows} rows that name {quoted(tenant)}")


def _confirm(effect: str, *, yes: bool) -> None:
    """Ask for confirmation on the terminal; raise Unconfirmed without it."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise Unconfirmed(effect)
    errors.print(f"This permanently {effect}. Type yes to continue: ", end="")
    if sys.stdin.readline().strip() != "yes":
        raise Unconfirmed(effect)
