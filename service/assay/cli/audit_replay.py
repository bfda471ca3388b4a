"""`assay audit replay`: recompute logged decisions, or compare them with a candidate policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from assay.cli.audit_options import (
    ALL_DECISIONS,
    OptionsConflict,
    Selection,
    open_auditor,
    require_positive,
)
from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, counted, print_json, print_table
from assay.decision_log.candidate import FirstAttemptTotals, PolicyComparison
from assay.decision_log.replay import ReplayResult
from assay.rule_files.compile import compile_source
from assay.rule_files.directory import read_directory

_MAX_ROWS = 50
_TOTALS = (  # the name, field and format of each total of first attempts
    ("no endpoint can serve", "unserved", ""),
    ("mean list price, USD per million tokens", "mean_price", ".4f"),
    ("requests with tools, first endpoint measured", "tool_decisions", ""),
    ("errored tool-call requests expected of these", "errored_expected", ".2f"),
    ("errors per such request", "error_rate", ".4f"),
)
_NOT_IDENTICAL = 1
_NOTHING_COMPARED = 1


def replay_command(  # noqa: PLR0913 - one parameter per option
    decision_ids: Annotated[list[str] | None, Parameter(help="Ids of decisions.")] = None,
    *,
    selection: Selection = ALL_DECISIONS,
    limit: Annotated[
        int | None, Parameter(help="Replay at most this many decisions, the newest.")
    ] = None,
    candidate: Annotated[
        Path | None, Parameter(help="Compare with the rule files in this directory instead.")
    ] = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Recompute logged decisions and compare the plans byte for byte.

    The outcome of a decision is `identical`, `differs`, `engine_differs` (another version of Assay
    decided), `snapshot_missing`, `tenant_erased`, `unreadable` or `not_found`.

    With --candidate, report instead what other rule files would have decided: first attempts,
    prices and expected errors.

    Exit codes: 0 all identical, or compared; 1 a plan differs or cannot be recomputed, no decision
    matches, or none could be compared; 2 invalid usage; 3 the rule files have faults.

    Example: assay audit replay 019976b2-7a00-7cc1-8f3e-0d4f3f1f2a11

    Example: assay audit replay --filter 'decision.variant == "exacto"' --since 2025-09-23T00:00:00Z

    Example: assay audit replay --filter 'decision.tools > 0' --candidate ./policy
    """
    require_positive("--limit", limit)
    query = selection.query()
    if bool(decision_ids) == (selection.filter is not None):
        raise OptionsConflict("give either ids of decisions or --filter, not both")
    if decision_ids and (selection.since or selection.until or limit):
        raise OptionsConflict("--since, --until and --limit require --filter, without ids")
    rules = None if candidate is None else compile_source(read_directory(candidate))
    with open_auditor(url) as auditor:
        if decision_ids and rules is None:  # an id that is not in the log results in `not_found`
            replayed = auditor.replay_ids(decision_ids)
            return _report_replays(counted(replayed, "replaying"), json=json)
        ids = decision_ids
        if limit is not None:
            ids = [row.decision_id for row in auditor.find(query, limit=limit)]
        records = auditor.records(query) if ids is None else auditor.records_of(ids)
        if rules is None:
            return _report_replays(counted(auditor.replay(records), "replaying"), json=json)
        comparison = auditor.compare(counted(records, "comparing"), rules)
        return _report_comparison(comparison, rules.digest, json=json)


def _report_replays(results: Iterable[ReplayResult], *, json: bool) -> int:
    """Print the number of each outcome and the decisions that were not identical."""
    outcomes: Counter[str] = Counter()
    different: list[ReplayResult] = []
    for result in results:
        outcomes[result.outcome] += 1
        if result.outcome != "identical":  # without its plan, which would take memory
            different.append(ReplayResult(result.decision_id, result.outcome, result.detail))
    total = outcomes.total()
    if json:
        differences = [
            {"decision_id": r.decision_id, "outcome": r.outcome, "detail": r.detail}
            for r in different
        ]
        print_json({"decisions": total, "outcomes": dict(outcomes), "differences": differences})
    elif total:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        console.print(f"{total} replayed: {counts}")
        rows = [(r.decision_id, r.outcome, r.detail) for r in different[:_MAX_ROWS]]
        if rows:
            print_table("not identical", ("decision", "outcome", ""), rows, whole=("decision",))
        if len(different) > _MAX_ROWS:
            console.print(f"… and {len(different) - _MAX_ROWS} more; --json shows all")
    else:
        console.print("no decision matches")
    return _NOT_IDENTICAL if different or not total else 0


def _report_comparison(comparison: PolicyComparison, candidate: str, *, json: bool) -> int:
    """Print how the candidate's decisions differ; `candidate` is the digest of its rules."""
    if not json:
        _print_comparison(comparison)
        return 0 if comparison.covered else _NOTHING_COMPARED
    names = ("provider", "before", "after")
    print_json(
        {
            "candidate": candidate,
            "decisions": comparison.decisions,
            "covered": comparison.covered,
            "uncovered": dict(comparison.uncovered),
            "changed_first": comparison.changed_first,
            "changed_attempts": comparison.changed_attempts,
            "changed_ids": comparison.changed_ids,
            "shares": [dict(zip(names, share, strict=True)) for share in comparison.shares],
            "before": _totals_json(comparison.before),
            "after": _totals_json(comparison.after),
        }
    )
    return 0 if comparison.covered else _NOTHING_COMPARED


def _totals_json(totals: FirstAttemptTotals) -> dict[str, Any]:
    return {
        "unserved": totals.unserved,
        "priced": totals.priced,
        "mean_list_price_usd_per_mtok": totals.mean_price,
        "tool_decisions_measured": totals.tool_decisions,
        "errored_requests_expected": totals.errored_expected if totals.tool_decisions else None,
        "error_rate_expected": totals.error_rate,
    }


def _print_comparison(comparison: PolicyComparison) -> None:
    covered, total = comparison.covered, comparison.decisions
    skipped = ", ".join(f"{n} {outcome}" for outcome, n in comparison.uncovered.most_common())
    console.print(
        f"{covered} of {total} decisions ({_percent(covered, total)}) can be compared"
        + (f"; skipped: {skipped}" if skipped else ""),
    )
    if not covered:
        return
    first, attempts = comparison.changed_first, comparison.changed_attempts
    console.print(
        f"{first} ({_percent(first, covered)}) have another first attempt, "
        f"{attempts} ({_percent(attempts, covered)}) have any other attempts",
    )
    columns = ("before", "after", "change")
    shares = [
        (provider, f"{before:.1%}", f"{after:.1%}", f"{after - before:+.1%}")
        for provider, before, after in comparison.shares
        if before != after
    ]
    if shares:
        print_table("changed shares of first attempts", ("provider", *columns), shares)
    totals = []
    for name, field, form in _TOTALS:
        old, new = getattr(comparison.before, field), getattr(comparison.after, field)
        change = "" if old is None or new is None else format(new - old, f"+{form}")
        totals.append((name, _format_number(old, form), _format_number(new, form), change))
    print_table("first attempts", ("", *columns), totals)


def _percent(part: int, total: int) -> str:
    return f"{part / total:.1%}" if total else "none"


def _format_number(number: float | None, form: str) -> str:
    return "" if number is None else format(number, form)
