"""`assay pool`: members of a pool, the other endpoints, and what would admit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from sqlalchemy import Engine

from assay.cli.options import DatabaseUrl, Json, Now, PolicyDir, Tenant, instant
from assay.cli.output import console, print_json, print_table, reason_rows, unique_reasons, utc
from assay.cli.pool_explain import show_explanation
from assay.engine.errors import InvalidField
from assay.engine.policy.verdict import RuleFinding
from assay.engine.pool.report import PoolEndpoint, PoolReport, pool_report
from assay.engine.pool.scorecard import Scorecard, scorecards
from assay.engine.snapshot.pool_memory import PoolChange
from assay.engine.snapshot.snapshot import Snapshot
from assay.server.database import open_current_database, published_snapshot, snapshot_now
from assay.server.settings import wall_clock
from assay.store.pools import list_pool_changes
from assay.store.snapshots import first_published

_HOURS_PER_DAY = 24
_MINUTE = "%Y-%m-%d %H:%M"

At = Annotated[
    str | None,
    Parameter(help="Show the pool that was active at this time: 2025-09-23T12:00:00Z."),
]
History = Annotated[bool, Parameter(help="Show every change of the pool with its cause.")]
Explain = Annotated[
    str | None,
    Parameter(help="Show how the accuracy of this endpoint came about: its tag or its id."),
]


def pool_command(  # noqa: PLR0913 - one option per part of the question
    model: str,
    *,
    tenant: Tenant = "",
    now: Now = None,
    at: At = None,
    history: History = False,
    explain: Explain = None,
    url: DatabaseUrl = None,
    policy: PolicyDir = None,
    json: Json = False,
) -> None:
    """Show the pool of a model and variant, and the rules that other endpoints break.

    Shows the active pool, which the curator maintains. With --now or --policy, or if nothing was
    published, it judges the database without memory.

    Exit codes: 0 shown; 1 the database failed; 2 the model, variant or an option is not valid;
    3 the rule files have faults.

    Example: assay pool moonshotai/kimi-k2-0905:exacto --now 2025-09-23T12:00:00Z

    Example: assay pool moonshotai/kimi-k2-0905:exacto --history

    Example: assay pool moonshotai/kimi-k2-0905:exacto --explain novita
    """
    _require_compatible(at=at, now=now, history=history, explain=explain, policy=policy)
    as_of = instant("--now", now)
    with open_current_database(url, create=False) as database:
        if at is None:
            snapshot = snapshot_now(database, policy, as_of)
        else:
            snapshot = _snapshot_at(database, at)
        report = pool_report(snapshot, model, tenant)
        if explain is not None:
            show_explanation(database, snapshot, report, explain, json=json)
            return
        cards = {card.endpoint.verdict.endpoint_id: card for card in scorecards(snapshot, report)}
        changes = list_pool_changes(database, report.binding, report.model) if history else ()
    if history and json:
        print_json(_history_json(report, changes))
    elif history:
        _show_history(report, changes)
    elif json:
        print_json(_pool_json(report, cards))
    else:
        _show_pool(report)
        _show_distances(cards)


def _require_compatible(
    *,
    at: str | None,
    now: str | None,
    history: bool,
    explain: str | None,
    policy: Path | None,
) -> None:
    """Raise InvalidField for options that contradict each other."""
    if at is not None and now is not None:
        raise InvalidField("--at", at, "allowed together with --now, which judges again")
    if history and (at is not None or now is not None):
        raise InvalidField("--history", "", "allowed together with --at or --now")
    if explain is not None and (history or at is not None):
        raise InvalidField("--explain", explain, "allowed together with --at or --history")
    if policy is not None and (history or at is not None):
        raise InvalidField("--policy", str(policy), "allowed together with --at or --history")


def _snapshot_at(database: Engine, at: str) -> Snapshot:
    """Return the snapshot that was active at a time; raises InvalidField if it is not stored."""
    then = instant("--at", at)
    if then is None or then > wall_clock():
        raise InvalidField("--at", at, "in the past")
    snapshot = published_snapshot(database, then)
    if snapshot is None:
        first = first_published(database)
        since = (
            f"which is from {utc(first.published_at)} on"
            if first
            else "and nothing has been published yet"
        )
        raise InvalidField("--at", at, f"a time for which the pool is stored, {since}")
    return snapshot


def _pool_json(report: PoolReport, cards: Mapping[str, Scorecard]) -> dict[str, Any]:
    return {
        "model": report.model,
        "variant": report.variant,
        "rule_set": report.rule_set,
        "as_of": report.as_of.isoformat().replace("+00:00", "Z"),
        "snapshot_id": report.snapshot_id,
        "members": [_endpoint_json(each) for each in report.members],
        "others": [_other_json(each, cards[each.verdict.endpoint_id]) for each in report.others],
    }


def _endpoint_json(endpoint: PoolEndpoint) -> dict[str, Any]:
    verdict = endpoint.verdict
    return {
        "endpoint_id": verdict.endpoint_id,
        "provider": verdict.provider,
        "tag": verdict.tag,
        "since": endpoint.since and utc(endpoint.since),
        "facts": dict(endpoint.facts),
        "abstained": [_finding_json(each) for each in verdict.abstained],
        "shadow": [_finding_json(each) for each in verdict.shadow],
    }


def _other_json(endpoint: PoolEndpoint, card: Scorecard) -> dict[str, Any]:
    accuracy = card.accuracy and {
        "value": card.accuracy.value,
        "low": card.accuracy.low,
        "high": card.accuracy.high,
        "effective_requests": card.accuracy.requests,
    }
    rules = [{"rule": f.rule, "reason": f.reason, "seen": dict(f.seen)} for f in card.broken]
    return {
        **_endpoint_json(endpoint),
        "state": endpoint.state,
        "reasons": [_finding_json(each) for each in endpoint.verdict.broken],
        "distance": {
            "rules": rules,
            "accuracy": accuracy,
            "clean_requests": card.clean_requests,
            "hours": card.hours,
            "held_until": card.held_until and utc(card.held_until),
        },
    }


def _finding_json(finding: RuleFinding) -> dict[str, str]:
    names = ("rule", "rule_set", "reason", "message", "outcome")
    return {name: getattr(finding, name) for name in names}


def _history_json(report: PoolReport, changes: Sequence[PoolChange]) -> dict[str, Any]:
    names = ("endpoint_id", "before", "after", "cause", "message")
    rows = [
        {
            "at": utc(change.at),
            **{name: getattr(change, name) for name in names},
            "reasons": [_finding_json(each) for each in change.reasons],
            "facts": dict(change.facts),
        }
        for change in changes
    ]
    heading = {"model": report.model, "variant": report.variant, "binding": report.binding}
    return {**heading, "changes": rows}


def _show_pool(report: PoolReport) -> None:
    endpoints = (*report.members, *report.others)
    columns = ["endpoint", "requests", "tool calls", "errored", "accuracy"]
    members = [(each.verdict.tag, *_counts(each)) for each in report.members]
    if any(each.state for each in endpoints):
        columns.append("since")
        members = [(*row, _since(e)) for row, e in zip(members, report.members, strict=True)]
    title = f"{report.model}:{report.variant} as of {report.as_of:{_MINUTE}} UTC"
    print_table(f"{title}, {len(report.members)} members", columns, members)
    others = reason_rows(
        (f"{each.verdict.tag}{_state(each)}", unique_reasons(each.verdict.broken))
        for each in report.others
    )
    if others:
        print_table("not in the pool", ("endpoint", "reason", ""), others)
    abstained = {(f.rule, f.message) for each in endpoints for f in each.verdict.abstained}
    for rule, message in sorted(abstained):
        console.print(f"abstained: {rule}: {message}")


def _since(endpoint: PoolEndpoint) -> str:
    return f"{endpoint.since:{_MINUTE}}" if endpoint.since else ""


def _state(endpoint: PoolEndpoint) -> str:
    """Return the state of an endpoint outside the pool, empty for `unknown`."""
    return f" ({endpoint.state} since {_since(endpoint)})" if endpoint.since else ""


def _counts(endpoint: PoolEndpoint) -> tuple[object, ...]:
    """Return an endpoint's observed requests, tool-call requests, errored ones and accuracy."""
    facts = dict(endpoint.facts)
    called = facts.get("observed.tool_call_requests")
    errored = facts.get("observed.errored_requests")
    accuracy = ""
    if isinstance(called, int) and isinstance(errored, int) and called:
        accuracy = f"{1 - errored / called:.4f}"
    return facts.get("observed.requests"), called, errored, accuracy


def _show_distances(cards: Mapping[str, Scorecard]) -> None:
    """Show what would admit each endpoint outside the pool."""
    rows = [
        (
            card.endpoint.verdict.tag,
            _accuracy(card),
            "no number is enough" if card.clean_requests is None else f"{card.clean_requests:,}",
            _duration(card.hours),
            f"{card.held_until:{_MINUTE}}" if card.held_until else "",
        )
        for card in cards.values()
    ]
    columns = ("endpoint", "accuracy", "clean tool calls needed", "at present rate", "not before")
    if rows:
        print_table("what would admit them", columns, rows)


def _accuracy(card: Scorecard) -> str:
    share = card.accuracy
    return f"{share.value:.4f} ({share.low:.4f} – {share.high:.4f})" if share else "not measured"


def _duration(hours: float | None) -> str:
    if hours is None:
        return ""
    return f"{hours:.1f} h" if hours < 2 * _HOURS_PER_DAY else f"{hours / _HOURS_PER_DAY:.1f} d"


def _show_history(report: PoolReport, changes: Sequence[PoolChange]) -> None:
    name = f"{report.model}:{report.variant}"
    if not changes:
        console.print(f"{name}: no changes yet")
        return
    prefix = f"{report.model}@"
    rows = [
        (
            f"{change.at:{_MINUTE}}",
            change.endpoint_id.removeprefix(prefix),
            f"{change.before} → {change.after}",
            change.cause,
            change.message,
        )
        for change in changes
    ]
    columns = ("at", "endpoint", "change", "cause", "")
    print_table(f"{name}, {len(changes)} changes", columns, rows, whole=("at", "change"))
