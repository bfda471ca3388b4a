"""What other rules would have decided over the log, told: coverage first, then what would change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from assay.cli.output import console, counted, print_json, print_table
from assay.decision_log.auditor import Auditor
from assay.decision_log.candidate import FirstAttemptTotals, PolicyComparison
from assay.decision_log.streams import LoggedRecord
from assay.engine.policy.policy import Policy

NOTHING_JUDGED = 1


def judge_by(
    auditor: Auditor, rules: Policy, records: Iterable[LoggedRecord], *, json: bool
) -> int:
    """Judge logged decisions by other rules and tell; 1 where none could be."""
    found = auditor.compare(counted(records, "judging"), rules)
    if json:
        print_json({"candidate": rules.digest, **as_json(found)})
    else:
        show(found)
    return 0 if found.covered else NOTHING_JUDGED


def as_json(found: PolicyComparison) -> dict[str, Any]:
    """A comparison for programs."""
    return {
        "decisions": found.decisions,
        "covered": found.covered,
        "uncovered": dict(found.uncovered),
        "changed_first": found.changed_first,
        "changed_attempts": found.changed_attempts,
        "changed_ids": found.changed_ids,
        "shares": [
            {"provider": p, "before": before, "after": after} for p, before, after in found.shares
        ],
        "before": side_json(found.before),
        "after": side_json(found.after),
    }


def side_json(side: FirstAttemptTotals) -> dict[str, Any]:
    """First attempts under one policy, for programs; null where nothing is known."""
    return {
        "unserved": side.unserved,
        "priced": side.priced,
        "mean_list_price_usd_per_mtok": side.mean_price,
        "tool_decisions_measured": side.tool_decisions,
        "errored_tool_calls_expected": side.errored_expected if side.tool_decisions else None,
        "error_rate_expected": side.error_rate,
    }


def show(found: PolicyComparison) -> None:
    """A comparison for people."""
    why = ", ".join(f"{count} {outcome}" for outcome, count in found.uncovered.most_common())
    console.print(
        f"{found.covered} of {found.decisions} decisions ({share(found.covered, found.decisions)}) can be judged again"
        + (f"; not {why}" if why else ""),
        markup=False,
    )
    if not found.covered:
        return
    console.print(
        f"{found.changed_first} ({share(found.changed_first, found.covered)}) would be tried elsewhere first, "
        f"{found.changed_attempts} ({share(found.changed_attempts, found.covered)}) have other attempts",
        markup=False,
    )
    moved = [(p, before, after) for p, before, after in found.shares if before != after]
    if moved:
        rows = [
            (p, f"{before:.1%}", f"{after:.1%}", f"{after - before:+.1%}")
            for p, before, after in moved
        ]
        print_table(
            "shares of first attempts that move", ("provider", "before", "after", "change"), rows
        )
    print_table(
        "first attempts", ("", "before", "after", "change"), side_rows(found.before, found.after)
    )


def share(part: int, whole: int) -> str:
    """A part of a whole in per cent."""
    return f"{part / whole:.1%}" if whole else "none"


def side_rows(
    before: FirstAttemptTotals, after: FirstAttemptTotals
) -> list[tuple[str, str, str, str]]:
    """Prices and expected errors on both sides."""
    return [
        (
            "nobody serves",
            str(before.unserved),
            str(after.unserved),
            f"{after.unserved - before.unserved:+}",
        ),
        (
            "mean list price, USD per million tokens",
            *told(before.mean_price, after.mean_price, "{:.4f}"),
        ),
        (
            "requests with tools, first endpoint measured",
            *told(before.tool_decisions, after.tool_decisions, "{}"),
        ),
        (
            "errored tool calls expected of these",
            *told(before.errored_expected, after.errored_expected, "{:.2f}"),
        ),
        ("errors per such request", *told(before.error_rate, after.error_rate, "{:.4f}")),
    ]


def told(before: float | None, after: float | None, form: str) -> tuple[str, str, str]:
    """Two values and their difference; what is unknown stays blank."""
    change = (
        "" if before is None or after is None else form.replace("{:", "{:+").replace("{}", "{:+}")
    )
    return (
        "" if before is None else form.format(before),
        "" if after is None else form.format(after),
        change.format(after - before) if before is not None and after is not None else "",
    )
