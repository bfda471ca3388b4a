"""`assay pool`: who is in a pool, who is not, and what stands between."""

from __future__ import annotations

from typing import Any

from assay.cli.options import Database, Json, Now, PolicyDir, Tenant, instant
from assay.cli.output import console, print_json, print_table, said
from assay.engine.report import Judged, PoolReport, pool_report
from assay.engine.verdict import RuleFinding
from assay.wiring import judged_now, open_database


def pool_command(  # noqa: PLR0913 - one option per part of the question
    model: str,
    *,
    tenant: Tenant = "",
    now: Now = None,
    database: Database = None,
    policy: PolicyDir = None,
    json: Json = False,
) -> None:
    """Show the pool of a model and variant: members, and the others with every rule they broke.

    Example: assay pool moonshotai/kimi-k2-0905:exacto --now 2025-09-23T12:00:00Z
    """
    as_of = instant("--now", now)
    with open_database(database) as engine:
        _, snapshot = judged_now(engine, policy, as_of)
    report = pool_report(snapshot, model, tenant)
    if json:
        print_json(as_json(report))
    else:
        show(report)


def as_json(report: PoolReport) -> dict[str, Any]:
    """A pool for programs."""
    return {
        "model": report.model,
        "variant": report.variant,
        "rule_set": report.rule_set,
        "as_of": report.as_of.isoformat().replace("+00:00", "Z"),
        "snapshot_id": report.snapshot_id,
        "members": [endpoint_json(j) for j in report.members],
        "others": [{**endpoint_json(j), "reasons": [finding_json(f) for f in j.verdict.broken]} for j in report.others],
    }


def endpoint_json(judged: Judged) -> dict[str, Any]:
    """One endpoint with its facts and the rules that abstained."""
    verdict = judged.verdict
    return {
        "endpoint_id": verdict.endpoint_id,
        "provider": verdict.provider,
        "tag": verdict.tag,
        "facts": dict(judged.facts),
        "abstained": [finding_json(f) for f in verdict.abstained],
        "shadow": [finding_json(f) for f in verdict.shadow],
    }


def finding_json(finding: RuleFinding) -> dict[str, str]:
    """One rule's finding."""
    return {
        "rule": finding.rule,
        "rule_set": finding.rule_set,
        "reason": finding.reason,
        "message": finding.message,
        "outcome": finding.outcome,
    }


def show(report: PoolReport) -> None:
    """A pool for people."""
    print_table(
        f"{report.model}:{report.variant} as of {report.as_of:%Y-%m-%d %H:%M} UTC, {len(report.members)} members",
        ("endpoint", "requests", "tool calls", "errored", "accuracy"),
        [(j.verdict.tag, *counts(j)) for j in report.members],
    )
    rows = [
        (j.verdict.tag if n == 0 else "", *reason)
        for j in report.others
        for n, reason in enumerate(said(j.verdict.broken))
    ]
    if rows:
        print_table("not in the pool", ("endpoint", "reason", ""), rows)
    abstained = sorted({(f.rule, f.message) for j in (*report.members, *report.others) for f in j.verdict.abstained})
    for rule, message in abstained:
        console.print(f"abstained: {rule}: {message}", markup=False)


def counts(judged: Judged) -> tuple[object, ...]:
    """What was observed of an endpoint, for a row."""
    facts = dict(judged.facts)
    calls, errored = facts.get("observed.tool_call_requests"), facts.get("observed.errored_requests")
    accuracy = f"{1 - errored / calls:.4f}" if isinstance(calls, int) and isinstance(errored, int) and calls else ""
    return (facts.get("observed.requests"), calls, errored, accuracy)
