"""`assay audit list`: decisions, newest first, in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any

from cyclopts import Parameter

from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, print_json, print_table
from assay.cli.questions import (
    Filter,
    OptionsConflict,
    Since,
    Until,
    at_least_one,
    auditing,
    question,
    utc,
)
from assay.decision_log.auditor import Auditor, DecisionQuery
from assay.decision_log.decision_row import StoredDecision
from assay.decision_log.streams import words_of

Words = Mapping[str, tuple[str, ...]]
PAGE = 100
COLUMNS = ("decided at", "decision", "tenant", "model", "serve", "first", "left out", "reasons")


def list_command(  # noqa: PLR0913 - one option per part of the question
    *,
    where: Filter = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, Parameter(help="At most so many.")] = PAGE,
    after: Annotated[
        str | None, Parameter(help="Go on behind this decision, the last of the page before.")
    ] = None,
    oldest: Annotated[
        bool, Parameter(negative="", help="The oldest first; not together with --after.")
    ] = False,
    url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List decisions that a filter holds for, newest first.

    Example: assay audit list --filter 'decision.variant == "exacto" && "deepinfra" in decision.excluded_providers'

    Example: assay audit list --filter 'decision.tenant == "acme"' --since 2025-09-23T00:00:00Z --limit 1000 --json
    """
    at_least_one("--limit", limit)
    if oldest and after is not None:
        raise OptionsConflict("--after pages from the newest decision on; it excludes --oldest")
    asked = question(where, since, until)
    with auditing(url) as auditor:
        found = (
            first_rows(auditor, asked, limit + 1)
            if oldest
            else page(auditor, asked, after, limit + 1)
        )
        rows = found[:limit]
        words = words_of(auditor.database, sorted({row.finding_set for row in rows}))
        tenants = auditor.tenants()
    behind = rows[-1].decision_id if len(found) > limit else None
    if json:
        listed = [row_json(row, tenants, words[row.finding_set]) for row in rows]
        print_json(
            {
                "since": utc(asked.begin),
                "until": utc(asked.until),
                "decisions": listed,
                "next_after": behind,
            }
        )
        return
    show(rows, tenants, words)
    if behind:
        console.print(
            "there are more: raise --limit"
            + ("" if oldest else f", or go on with --after {behind}"),
            markup=False,
        )


def page(
    auditor: Auditor, asked: DecisionQuery, after: str | None, limit: int
) -> Sequence[StoredDecision]:
    """The newest decisions, those behind `after`; raises UnknownDecision."""
    return auditor.find(asked, after=None if after is None else auditor.row(after).key, limit=limit)


def first_rows(auditor: Auditor, asked: DecisionQuery, limit: int) -> Sequence[StoredDecision]:
    """The oldest decisions."""
    return [record.decision for record in islice(auditor.records(asked), limit) if record.decision]


def row_json(row: StoredDecision, tenants: Mapping[str, str], words: Words) -> dict[str, Any]:
    """A decision for programs, its words under the names that filters use."""
    return {
        **asdict(row),
        "decided_at": utc(row.decided_at),
        "tenant": tenants.get(row.tenant, ""),
        "pseudonym": row.tenant,
        "attempted_providers": list(words.get("attempted_provider", ())),
        "excluded_providers": list(words.get("excluded_provider", ())),
        "excluded_endpoints": list(words.get("excluded_endpoint", ())),
        "reasons": list(words.get("reason", ())),
    }


def show(
    rows: Sequence[StoredDecision], tenants: Mapping[str, str], words: Mapping[str, Words]
) -> None:
    """Decisions for people."""
    cells = [
        (
            utc(row.decided_at.replace(microsecond=0)),
            row.decision_id,
            tenants.get(row.tenant, "(erased)" if row.tenant else ""),
            f"{row.model}:{row.variant}" if row.variant else row.model,
            row.attempts,
            row.first_provider or row.availability,
            row.excluded,
            ", ".join(words[row.finding_set].get("reason", ())),
        )
        for row in rows
    ]
    if cells:
        print_table(
            "1 decision" if len(cells) == 1 else f"{len(cells)} decisions",
            COLUMNS,
            cells,
            whole=COLUMNS[:2],
        )
    else:
        console.print("no decision in this time that the filter holds for")
