"""`assay curator repair`: undo hours that were closed by a clock that was ahead."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, print_json, utc
from assay.curator.clock import curator_clock
from assay.server.database import open_current_database
from assay.server.settings import wall_clock
from assay.store.hour_repair import HourRepair, plan_hour_repair, repair_hours

_NEEDED = 1


def repair_command(
    *,
    apply: Annotated[
        bool, Parameter(help="Repair, instead of showing what would be done.")
    ] = False,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Undo hours that were closed before they were over, by a clock that was ahead.

    Deletes these hours and the changes of pools that they caused, restores the states of the
    endpoints that they moved, and publishes the last snapshot that was judged in time. Servers may
    run meanwhile. Without --apply nothing is changed. Check first that this host's clock is right.

    Exit codes: 0 repaired, or nothing to repair; 1 a repair is needed, or the database failed.

    Example: assay curator repair

    Example: assay curator repair --apply --database postgresql://assay@db/assay
    """
    with open_current_database(url, create=False) as database:
        now = curator_clock(wall_clock, database)()
        repair = repair_hours(database, now) if apply else plan_hour_repair(database, now)
    if json:
        last = None if repair.last is None else utc(repair.last)
        print_json(
            {
                "now": utc(now),
                "applied": apply and repair.is_needed,
                "hours": repair.hours,
                "last": last,
                "changes": repair.changes,
                "endpoints": repair.endpoints,
                "snapshot_id": repair.snapshot_id,
            }
        )
    else:
        _show(repair, is_applied=apply)
    return _NEEDED if repair.is_needed and not apply else 0


def _show(repair: HourRepair, *, is_applied: bool) -> None:
    if repair.last is None:
        console.print("nothing to repair: no hour is closed ahead of time")
        return
    verb = "deleted" if is_applied else "would delete"
    console.print(f"{verb} {repair.hours} hours, the last ends {utc(repair.last)}")
    console.print(f"{verb} {repair.changes} changes of {repair.endpoints} endpoints")
    if repair.snapshot_id is not None:
        verb = "published" if is_applied else "would publish"
        console.print(f"{verb} snapshot {repair.snapshot_id} again")
    if not is_applied:
        console.print("nothing was changed; run it again with --apply")
