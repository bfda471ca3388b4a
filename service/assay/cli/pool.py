"""`assay pool`: who is in a pool, who is not, and what stands between."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from sqlalchemy import Engine

from assay.cli.options import DatabaseUrl, Json, Now, PolicyDir, Tenant, instant
from assay.cli.output import console, print_json, print_table, said
from assay.cli.pool_distance import distance_json, show_distances
from assay.cli.pool_history import finding_json, show_history
from assay.cli.questions import utc
from assay.engine.errors import InvalidField
from assay.engine.pool.report import PoolEndpoint, PoolReport, pool_report
from assay.engine.pool.scorecard import Scorecard, scorecards
from assay.engine.snapshot.snapshot import Snapshot
from assay.server.database import open_current_database, published_snapshot, snapshot_now
from assay.server.settings import wall_clock
from assay.store.pools import pool_changes
from assay.store.snapshots import first_published

At = Annotated[
    str | None,
    Parameter(help="Show the pool that was in force at this time: 2025-09-23T12:00:00Z."),
]
History = Annotated[
    bool, Parameter(negative="", help="Show every change of the pool, with what stood behind it.")
]


def pool_command(  # noqa: PLR0913 - one option per part of the question
    model: str,
    *,
    tenant: Tenant = "",
    now: Now = None,
    at: At = None,
    history: History = False,
    url: DatabaseUrl = None,
    policy: PolicyDir = None,
    json: Json = False,
) -> None:
    """Show the pool of a model and variant: members, and the others with every rule they broke.

    It is the pool in force, as the curator keeps it; with --now, with rules of your own, or before there ever was a
    curator, one judged without memory.

    Example: assay pool moonshotai/kimi-k2-0905:exacto --now 2025-09-23T12:00:00Z

    Example: assay pool moonshotai/kimi-k2-0905:exacto --history
    """
    require_one_time(now=now, at=at, history=history, policy=policy)
    as_of = instant("--now", now)
    with open_current_database(url) as database:
        snapshot = (
            snapshot_now(database, policy, as_of) if at is None else snapshot_at(database, at)
        )
        report = pool_report(snapshot, model, tenant)
        cards = {card.endpoint.verdict.endpoint_id: card for card in scorecards(snapshot, report)}
        changes = pool_changes(database, report.binding, report.model) if history else ()
    if history:
        show_history(report, changes, json=json)
    elif json:
        print_json(as_json(report, cards))
    else:
        show(report)
        show_distances(cards)


def require_one_time(
    *, now: str | None, at: str | None, history: bool, policy: Path | None
) -> None:
    """Refuse options that ask for different things."""
    if at is not None and now is not None:
        raise InvalidField("--at", at, "to be used together with --now, which judges anew")
    if history and (at is not None or now is not None):
        raise InvalidField(
            "--history", "", "to be used together with --at or --now: it is the whole history"
        )
    if policy is not None and (history or at is not None):
        raise InvalidField(
            "--policy",
            str(policy),
            "to be used together with --at or --history: what was, was judged",
        )


def snapshot_at(database: Engine, at: str) -> Snapshot:
    """What was in force at a time; raises InvalidField where that is not known."""
    then = instant("--at", at)
    if then is None or then > wall_clock():
        raise InvalidField("--at", at, "in the past")
    snapshot = published_snapshot(database, then)
    if snapshot is None:
        first = first_published(database)
        since = (
            f"from {utc(first.published_at)} on" if first else "and nothing has been published yet"
        )
        raise InvalidField("--at", at, f"a time of which the pool is kept, {since}")
    return snapshot


def as_json(report: PoolReport, cards: Mapping[str, Scorecard]) -> dict[str, Any]:
    """A pool for programs."""
    return {
        "model": report.model,
        "variant": report.variant,
        "rule_set": report.rule_set,
        "as_of": report.as_of.isoformat().replace("+00:00", "Z"),
        "snapshot_id": report.snapshot_id,
        "members": [endpoint_json(j) for j in report.members],
        "others": [
            {
                **endpoint_json(j),
                "state": j.state,
                "reasons": [finding_json(f) for f in j.verdict.broken],
                "distance": distance_json(cards[j.verdict.endpoint_id]),
            }
            for j in report.others
        ],
    }


def endpoint_json(judged: PoolEndpoint) -> dict[str, Any]:
    """One endpoint with its facts and the rules that abstained."""
    verdict = judged.verdict
    return {
        "endpoint_id": verdict.endpoint_id,
        "provider": verdict.provider,
        "tag": verdict.tag,
        "since": judged.since and utc(judged.since),
        "facts": dict(judged.facts),
        "abstained": [finding_json(f) for f in verdict.abstained],
        "shadow": [finding_json(f) for f in verdict.shadow],
    }


def show(report: PoolReport) -> None:
    """A pool for people."""
    remembered = any(j.state for j in (*report.members, *report.others))
    print_table(
        f"{report.model}:{report.variant} as of {report.as_of:%Y-%m-%d %H:%M} UTC, {len(report.members)} members",
        (
            "endpoint",
            "requests",
            "tool calls",
            "errored",
            "accuracy",
            *(("since",) if remembered else ()),
        ),
        [(j.verdict.tag, *counts(j), *((since(j),) if remembered else ())) for j in report.members],
    )
    rows = [
        (f"{j.verdict.tag}{standing(j)}" if n == 0 else "", *reason)
        for j in report.others
        for n, reason in enumerate(said(j.verdict.broken))
    ]
    if rows:
        print_table("not in the pool", ("endpoint", "reason", ""), rows)
    abstained = sorted(
        {
            (f.rule, f.message)
            for j in (*report.members, *report.others)
            for f in j.verdict.abstained
        }
    )
    for rule, message in abstained:
        console.print(f"abstained: {rule}: {message}", markup=False)


def since(judged: PoolEndpoint) -> str:
    """Since when an endpoint stands where it does."""
    return f"{judged.since:%Y-%m-%d %H:%M}" if judged.since else ""


def standing(judged: PoolEndpoint) -> str:
    """Where an endpoint outside the pool stands, where that is more than that it is unknown."""
    return f" ({judged.state} since {since(judged)})" if judged.since else ""


def counts(judged: PoolEndpoint) -> tuple[object, ...]:
    """What was observed of an endpoint, for a row."""
    facts = dict(judged.facts)
    calls, errored = (
        facts.get("observed.tool_call_requests"),
        facts.get("observed.errored_requests"),
    )
    accuracy = (
        f"{1 - errored / calls:.4f}"
        if isinstance(calls, int) and isinstance(errored, int) and calls
        else ""
    )
    return (facts.get("observed.requests"), calls, errored, accuracy)
