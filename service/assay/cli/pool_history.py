"""`assay pool --history`: every change of a pool, with what stood behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.cli.output import console, print_json, print_table
from assay.cli.questions import utc
from assay.engine.policy.verdict import RuleFinding
from assay.engine.pool.report import PoolReport
from assay.engine.snapshot.pool_memory import PoolChange


def show_history(report: PoolReport, changes: Sequence[PoolChange], *, json: bool) -> None:
    """Every change of one pool, oldest first."""
    if json:
        heading = {"model": report.model, "variant": report.variant, "binding": report.binding}
        print_json({**heading, "changes": [change_json(change) for change in changes]})
        return
    if not changes:
        console.print(f"{report.model}:{report.variant}: no change yet", markup=False)
        return
    tag = len(report.model) + 1
    print_table(
        f"{report.model}:{report.variant}, {len(changes)} changes",
        ("at", "endpoint", "change", "cause", ""),
        [
            (
                f"{c.at:%Y-%m-%d %H:%M}",
                c.endpoint_id[tag:],
                f"{c.before} → {c.after}",
                c.cause,
                c.message,
            )
            for c in changes
        ],
        whole=("at", "change"),
    )


def change_json(change: PoolChange) -> dict[str, Any]:
    """One change for programs."""
    return {
        "at": utc(change.at),
        "endpoint_id": change.endpoint_id,
        "before": change.before,
        "after": change.after,
        "cause": change.cause,
        "message": change.message,
        "reasons": [finding_json(found) for found in change.reasons],
        "facts": dict(change.facts),
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
