"""`assay audit replay`: decisions recomputed from the log, and judged by other rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.audit_candidate import judge_by
from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, counted, print_json, print_table
from assay.cli.questions import (
    Filter,
    OptionsConflict,
    Since,
    Until,
    at_least_one,
    auditing,
    question,
)
from assay.decision_log.auditor import Auditor, DecisionQuery
from assay.decision_log.replay import ReplayResult
from assay.decision_log.streams import LoggedRecord
from assay.rule_files.compile import compile_source
from assay.rule_files.directory import read_directory

SHOWN = 50
DIFFERS = 1


def replay_command(  # noqa: PLR0913 - one option per part of the question
    decision_ids: Annotated[
        list[str] | None, Parameter(help="Ids of decisions.", negative="")
    ] = None,
    *,
    where: Filter = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int | None, Parameter(help="Only so many, the newest.")] = None,
    candidate: Annotated[
        Path | None, Parameter(help="Judge by the rule files in this directory, too.")
    ] = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Recompute decisions from what was logged, and compare the plans byte for byte; 1 unless all are identical.

    An outcome is `identical`, `differs`, `engine_differs` (another version of Assay decided), `snapshot_missing`,
    `tenant_erased`, `unreadable` or `not_found`. With --candidate, tell what other rules would have changed instead.

    Example: assay audit replay 019976b2-7a00-7cc1-8f3e-0d4f3f1f2a11

    Example: assay audit replay --filter 'decision.variant == "exacto"' --since 2025-09-23T00:00:00Z

    Example: assay audit replay --filter 'decision.tools > 0' --candidate ./policy
    """
    at_least_one("--limit", limit)
    chosen = Chosen(tuple(decision_ids or ()), question(where, since, until), limit)
    if bool(chosen.ids) == (where is not None):
        raise OptionsConflict("give either ids of decisions or --filter, and not both")
    if chosen.ids and (since or until or limit):
        raise OptionsConflict("--since, --until and --limit need --filter; ids need none of them")
    rules = None if candidate is None else compile_source(read_directory(candidate))
    with auditing(url) as auditor:
        if rules is not None:
            return judge_by(auditor, rules, chosen.records(auditor), json=json)
        return tell(summed(counted(chosen.replayed(auditor), "replaying")), json=json)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The decisions to replay: by id, the newest of a question, or all of it, oldest first."""

    ids: tuple[str, ...]
    asked: DecisionQuery
    limit: int | None

    def records(self, auditor: Auditor) -> Iterator[LoggedRecord]:
        """Their records; raises UnknownDecision where an id is in no log."""
        if not self.ids and self.limit is None:
            return auditor.records(self.asked)
        return auditor.records_of(self.named(auditor))

    def replayed(self, auditor: Auditor) -> Iterator[ReplayResult]:
        """Each of them, recomputed; one that is in no log is told."""
        if self.ids:
            return auditor.replay_ids(self.ids)
        return auditor.replay(self.records(auditor))

    def named(self, auditor: Auditor) -> Sequence[str]:
        """Their ids."""
        if self.limit is None:
            return self.ids
        return [row.decision_id for row in auditor.find(self.asked, limit=self.limit)]


@dataclass(slots=True)
class Summed:
    """What replaying came to: how many of each outcome, and all that were not identical."""

    outcomes: Counter[str] = field(default_factory=Counter)
    others: list[ReplayResult] = field(default_factory=list)


def summed(results: Iterator[ReplayResult]) -> Summed:
    """Count."""
    found = Summed()
    for result in results:
        found.outcomes[result.outcome] += 1
        if result.outcome != "identical":
            found.others.append(ReplayResult(result.decision_id, result.outcome, result.detail))
    return found


def tell(found: Summed, *, json: bool) -> int:
    """Say what replaying came to; the exit code."""
    total = found.outcomes.total()
    if json:
        differences = [
            {"decision_id": r.decision_id, "outcome": r.outcome, "detail": r.detail}
            for r in found.others
        ]
        print_json(
            {"decisions": total, "outcomes": dict(found.outcomes), "differences": differences}
        )
    else:
        told = ", ".join(f"{count} {outcome}" for outcome, count in found.outcomes.most_common())
        console.print(
            f"{total} replayed: {told}" if total else "no decision that this is about", markup=False
        )
        show(found.others)
    return DIFFERS if found.others or not total else 0


def show(others: Sequence[ReplayResult]) -> None:
    """The decisions that were not identical."""
    if others:
        rows = [(r.decision_id, r.outcome, r.detail) for r in others[:SHOWN]]
        print_table("not identical", ("decision", "outcome", ""), rows, whole=("decision",))
    if len(others) > SHOWN:
        console.print(f"… and {len(others) - SHOWN} more; --json shows all")
