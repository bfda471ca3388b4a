"""`assay audit replay`: recompute logged decisions, or compare them with a candidate policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from assay.cli.audit_options import (
    Filter,
    OptionsConflict,
    Since,
    Until,
    open_auditor,
    parse_query,
    require_positive,
)
from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, counted, print_json, print_table
from assay.decision_log.auditor import Auditor, DecisionQuery
from assay.decision_log.candidate import FirstAttemptTotals, PolicyComparison
from assay.decision_log.replay import ReplayResult
from assay.decision_log.streams import LoggedRecord
from assay.rule_files.compile import compile_source
from assay.rule_files.directory import read_directory

_MAX_ROWS = 50
_NOT_IDENTICAL = 1
_NOTHING_COMPARED = 1


def replay_command(  # noqa: PLR0913 - one parameter per option
    decision_ids: Annotated[
        list[str] | None, Parameter(help="Ids of decisions.", negative="")
    ] = None,
    *,
    where: Filter = None,
    since: Since = None,
    until: Until = None,
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
    selection = _Selection(tuple(decision_ids or ()), parse_query(where, since, until), limit)
    if bool(selection.ids) == (where is not None):
        raise OptionsConflict("give either ids of decisions or --filter, not both")
    if selection.ids and (since or until or limit):
        raise OptionsConflict("--since, --until and --limit require --filter, without ids")
    rules = None if candidate is None else compile_source(read_directory(candidate))
    with open_auditor(url) as auditor:
        if rules is None:
            return _report_replays(counted(selection.replay(auditor), "replaying"), json=json)
        records = counted(selection.records(auditor), "comparing")
        return _report_comparison(auditor.compare(records, rules), rules.digest, json=json)


@dataclass(frozen=True, slots=True)
class _Selection:
    """Decisions by id, the newest of a query, or all of a query with the oldest first."""

    ids: tuple[str, ...]
    query: DecisionQuery
    limit: int | None

    def records(self, auditor: Auditor) -> Iterator[LoggedRecord]:
        """Yield their records; raise UnknownDecision if an id is not in the log."""
        if not self.ids and self.limit is None:
            return auditor.records(self.query)
        return auditor.records_of(self._find_ids(auditor))

    def replay(self, auditor: Auditor) -> Iterator[ReplayResult]:
        """Yield a result for each; an id that is not in the log results in `not_found`."""
        if self.ids:
            return auditor.replay_ids(self.ids)
        return auditor.replay(self.records(auditor))

    def _find_ids(self, auditor: Auditor) -> Sequence[str]:
        if self.limit is None:
            return self.ids
        return [row.decision_id for row in auditor.find(self.query, limit=self.limit)]


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
        console.print(f"{total} replayed: {counts}", markup=False)
        _print_differences(different)
    else:
        console.print("no decision matches")
    return _NOT_IDENTICAL if different or not total else 0


def _print_differences(different: Sequence[ReplayResult]) -> None:
    if different:
        rows = [(r.decision_id, r.outcome, r.detail) for r in different[:_MAX_ROWS]]
        print_table("not identical", ("decision", "outcome", ""), rows, whole=("decision",))
    if len(different) > _MAX_ROWS:
        console.print(f"… and {len(different) - _MAX_ROWS} more; --json shows all")


def _report_comparison(comparison: PolicyComparison, candidate: str, *, json: bool) -> int:
    """Print how the candidate's decisions differ; `candidate` is the digest of its rules."""
    if json:
        print_json({"candidate": candidate, **_comparison_json(comparison)})
    else:
        _print_comparison(comparison)
    return 0 if comparison.covered else _NOTHING_COMPARED


def _comparison_json(comparison: PolicyComparison) -> dict[str, Any]:
    return {
        "decisions": comparison.decisions,
        "covered": comparison.covered,
        "uncovered": dict(comparison.uncovered),
        "changed_first": comparison.changed_first,
        "changed_attempts": comparison.changed_attempts,
        "changed_ids": comparison.changed_ids,
        "shares": [
            {"provider": provider, "before": before, "after": after}
            for provider, before, after in comparison.shares
        ],
        "before": _totals_json(comparison.before),
        "after": _totals_json(comparison.after),
    }


def _totals_json(totals: FirstAttemptTotals) -> dict[str, Any]:
    return {
        "unserved": totals.unserved,
        "priced": totals.priced,
        "mean_list_price_usd_per_mtok": totals.mean_price,
        "tool_decisions_measured": totals.tool_decisions,
        "errored_tool_calls_expected": totals.errored_expected if totals.tool_decisions else None,
        "error_rate_expected": totals.error_rate,
    }


def _print_comparison(comparison: PolicyComparison) -> None:
    covered, total = comparison.covered, comparison.decisions
    skipped = ", ".join(f"{n} {outcome}" for outcome, n in comparison.uncovered.most_common())
    console.print(
        f"{covered} of {total} decisions ({_percent(covered, total)}) can be compared"
        + (f"; skipped: {skipped}" if skipped else ""),
        markup=False,
    )
    if not covered:
        return
    first, attempts = comparison.changed_first, comparison.changed_attempts
    console.print(
        f"{first} ({_percent(first, covered)}) have another first attempt, "
        f"{attempts} ({_percent(attempts, covered)}) have any other attempts",
        markup=False,
    )
    columns = ("before", "after", "change")
    shares = [
        (provider, f"{before:.1%}", f"{after:.1%}", f"{after - before:+.1%}")
        for provider, before, after in comparison.shares
        if before != after
    ]
    if shares:
        print_table("changed shares of first attempts", ("provider", *columns), shares)
    rows = _totals_rows(comparison.before, comparison.after)
    print_table("first attempts", ("", *columns), rows)


def _percent(part: int, total: int) -> str:
    return f"{part / total:.1%}" if total else "none"


def _totals_rows(
    before: FirstAttemptTotals, after: FirstAttemptTotals
) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each total: its name, the values before and after, and their difference."""
    values = (
        ("no endpoint can serve", before.unserved, after.unserved, ""),
        ("mean list price, USD per million tokens", before.mean_price, after.mean_price, ".4f"),
        (
            "requests with tools, first endpoint measured",
            before.tool_decisions,
            after.tool_decisions,
            "",
        ),
        (
            "errored tool calls expected of these",
            before.errored_expected,
            after.errored_expected,
            ".2f",
        ),
        ("errors per such request", before.error_rate, after.error_rate, ".4f"),
    )
    for name, old, new, form in values:
        change = "" if old is None or new is None else format(new - old, f"+{form}")
        yield name, _format_number(old, form), _format_number(new, form), change


def _format_number(number: float | None, form: str) -> str:
    return "" if number is None else format(number, form)
