"""`assay audit list`: list decisions in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
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
from assay.cli.output import console, print_json, print_table, utc
from assay.decision_log.decision_row import StoredDecision
from assay.decision_log.streams import words_of

Words = Mapping[str, tuple[str, ...]]
_WORDS = ("attempted_provider", "excluded_provider", "excluded_endpoint", "reason")
_DEFAULT_LIMIT = 100
_COLUMNS = ("decided at", "decision", "tenant", "model", "serve", "first", "excluded", "reasons")


def list_command(  # noqa: PLR0913 - one parameter per option
    *,
    selection: Selection = ALL_DECISIONS,
    limit: Annotated[int, Parameter(help="List at most this many.")] = _DEFAULT_LIMIT,
    after: Annotated[
        str | None,
        Parameter(help="Continue after this decision, the last one of the previous page."),
    ] = None,
    oldest: Annotated[
        bool, Parameter(help="List the oldest first; not together with --after.")
    ] = False,
    url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List logged decisions, newest first.

    Exit codes: 0 listed; 1 the database failed; 2 the filter, a time or an option is not valid.

    Example: assay audit list
    --filter 'decision.variant == "exacto" && "deepinfra" in decision.excluded_providers'

    Example: assay audit list --filter 'decision.tenant == "acme"' --since 2025-09-23T00:00:00Z
    --limit 1000 --json
    """
    require_positive("--limit", limit)
    if oldest and after is not None:
        raise OptionsConflict("give either --after or --oldest; pages start with the newest")
    query = selection.query()
    with open_auditor(url) as auditor:
        if oldest:
            records = islice(auditor.records(query), limit + 1)
            found: Sequence[StoredDecision] = [r.decision for r in records if r.decision]
        else:
            key = None if after is None else auditor.row(after).key
            found = auditor.find(query, after=key, limit=limit + 1)
        rows = found[:limit]
        words = words_of(auditor.database, sorted({row.finding_set for row in rows}))
        tenants = auditor.tenants()
    next_after = rows[-1].decision_id if len(found) > limit else None
    if json:
        print_json(
            {
                "since": utc(query.begin),
                "until": utc(query.until),
                "decisions": [_row_json(row, tenants, words[row.finding_set]) for row in rows],
                "next_after": next_after,
            }
        )
        return
    _show(rows, tenants, words)
    if next_after:
        hint = "" if oldest else f", or continue with --after {next_after}"
        console.print(f"there are more: raise --limit{hint}")


def _row_json(row: StoredDecision, tenants: Mapping[str, str], words: Words) -> dict[str, Any]:
    """Return a decision for programs, with the field names that filters use."""
    return {
        **asdict(row),
        "decided_at": utc(row.decided_at),
        "tenant": tenants.get(row.tenant, ""),
        "pseudonym": row.tenant,
        **{f"{kind}s": list(words.get(kind, ())) for kind in _WORDS},
    }


def _show(
    rows: Sequence[StoredDecision], tenants: Mapping[str, str], words: Mapping[str, Words]
) -> None:
    if not rows:
        console.print("no decision in this time range matches")
        return
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
    title = "1 decision" if len(cells) == 1 else f"{len(cells)} decisions"
    print_table(title, _COLUMNS, cells, whole=_COLUMNS[:2])
