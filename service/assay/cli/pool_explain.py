"""`assay pool --explain ENDPOINT`: what each group of tenants contributed to its accuracy."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine

from assay.cli.output import console, print_json, print_table
from assay.decision_log.queries import tenants_by_pseudonym
from assay.engine.errors import InvalidField
from assay.engine.evidence.contributions import AccuracyAccount, account_for
from assay.engine.pool.report import PoolReport
from assay.engine.snapshot.snapshot import Snapshot
from assay.store.database import reading
from assay.store.traffic import load_traffic

_TOOLS = ("1–3 tools", "4–15 tools", "16 tools or more")
_MOST_NAMES = 20


def show_explanation(
    database: Engine, snapshot: Snapshot, report: PoolReport, endpoint: str, *, json: bool
) -> None:
    """Show how an endpoint's accuracy came about; it is named by its tag or its id.

    Counters are read as of the pool's time. Raises InvalidField for an endpoint that is not the
    model's.
    """
    account = _account(database, snapshot, report, endpoint)
    names = _names(database, account) if account else {}
    if json:
        print_json(_json(account, names) if account else None)
    elif account:
        _show(endpoint, account, names)
    else:
        console.print(f"nothing was reported of {endpoint}; it has imported observations at most")


def _account(
    database: Engine, snapshot: Snapshot, report: PoolReport, endpoint: str
) -> AccuracyAccount | None:
    known = [each.verdict for each in (*report.members, *report.others)]
    found = [v.endpoint_id for v in known if endpoint in (v.endpoint_id, v.tag)]
    if not found:
        tags = ", ".join(sorted(v.tag for v in known))
        raise InvalidField("--explain", endpoint, f"the tag or the id of an endpoint: {tags}")
    fold = snapshot.policy.bindings[report.binding].fold
    spec = snapshot.policy.folds[fold]
    own = [v.endpoint_id for v in known]
    with reading(database) as connection:
        table = load_traffic(connection, {fold: spec}, snapshot.as_of)[fold]
    return account_for(table.of_endpoints(own), found[0], spec)


def _names(database: Engine, account: AccuracyAccount) -> dict[str, str]:
    """Return the names of the tenants that are left out, as far as pseudonyms are known."""
    known = tenants_by_pseudonym(database)
    return {each: known.get(each, each) for each in (*account.outliers, *account.aside)}


def _json(account: AccuracyAccount, names: dict[str, str]) -> dict[str, Any]:
    """Return an account for programs."""
    known = asdict(account)
    return {
        **known,
        "contributions": [
            {**each, "stratum": _stratum(each["stratum"])} for each in known["contributions"]
        ],
        "outliers": [names[each] for each in account.outliers],
        "aside": [names[each] for each in account.aside],
    }


def _show(endpoint: str, account: AccuracyAccount, names: dict[str, str]) -> None:
    """Print an account as a table, and what follows from it."""
    columns = (
        "tenants", "", "source", "requests", "tool calls", "errored", "count", "errored", "usual",
    )  # fmt: skip
    rows = [
        (
            each.tenants,
            each.group,
            each.source,
            _stratum(each.stratum),
            f"{each.calls:.1f}",
            f"{each.errored:.1f}",
            f"{each.counted_calls:.1f}",
            f"{each.counted_errored:.1f}",
            f"{each.usual_errors:.1f}",
        )
        for each in account.contributions
    ]
    print_table(f"reported traffic of {endpoint}, discounted by age", columns, rows)
    for what, tenants in (("outliers", account.outliers), ("set aside", account.aside)):
        if tenants:
            shown = [names[each] for each in tenants[:_MOST_NAMES]]
            more = "" if len(tenants) <= _MOST_NAMES else f" and {len(tenants) - _MOST_NAMES} more"
            console.print(f"{what}: {', '.join(shown)}{more}")
    console.print(
        f"It errs {account.factor:.2f} times as often as an average endpoint would. With the mix of"
        f" requests of the whole pool, of which {account.usual:.2%} err at an average endpoint, and"
        f" of which it has served {account.coverage:.0%}, its counts say as much as"
        f" {account.size:.1f} tool-call requests with {account.errored:.1f} errors,"
        f" {account.design_effect:.2f} of which say as much as one independent request."
    )


def _stratum(number: int) -> str:
    turn = "after a tool result" if number >= len(_TOOLS) else "first turn"
    return f"{_TOOLS[number % len(_TOOLS)]}, {turn}"
