"""`assay audit show`: one decision, with the messages that its record omits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import orjson
from cyclopts import Parameter

from assay.cli.audit_options import ALL_DECISIONS, OptionsConflict, Selection, open_auditor
from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, print_json, print_table, reason_rows, utc
from assay.decision_log.auditor import DecisionDetail
from assay.decision_log.record import DecisionRecord, decode_record
from assay.decision_log.replay import logged_plan
from assay.engine.errors import CallerError

_Rows = list[dict[str, Any]]
_ATTEMPT_FIELDS = ("rank", "model", "endpoint_id", "provider", "rule_set")
_VERDICT_FIELDS = ("model", "endpoint_id", "provider")
_REASON_FIELDS = ("rule_set", "rule", "reason", "outcome", "message")


class NoMatchingDecision(CallerError):
    """The filter matches no decision in the time range."""


def show_command(
    decision_id: Annotated[str | None, Parameter(help="Id of the decision.")] = None,
    *,
    selection: Selection = ALL_DECISIONS,
    url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show one decision: its attempts, and why each other endpoint was excluded.

    With --filter, show the newest decision that matches.

    Exit codes: 0 shown; 1 the database failed; 2 no decision matches, or an option is not valid.

    Example: assay audit show 019976b2-7a00-7cc1-8f3e-0d4f3f1f2a11

    Example: assay audit show --filter '"deepinfra" in decision.excluded_providers'
    --until 2025-09-23T12:00:00Z
    """
    if (decision_id is None) == (selection.filter is None):
        raise OptionsConflict("give either an ID or --filter, not both")
    if decision_id is not None and (selection.since is not None or selection.until is not None):
        raise OptionsConflict("--since and --until require --filter, without an ID")
    query = selection.query()
    with open_auditor(url) as auditor:
        if decision_id is None:
            newest = auditor.find(query, limit=1)
            if not newest:
                raise NoMatchingDecision("--filter: no decision in this time range matches")
            decision_id = newest[0].decision_id
        detail = auditor.show(decision_id)
    content = _content_of(detail)
    if json:
        print_json(_as_json(detail, content))
    else:
        _show(detail, content)


@dataclass(frozen=True, slots=True)
class _Content:
    """A record with its attempts and excluded endpoints."""

    record: DecisionRecord
    attempts: _Rows
    excluded: _Rows


def _content_of(detail: DecisionDetail) -> _Content:
    """Return the replayed plan, with messages, if it is identical to the logged one."""
    record = decode_record(detail.record)
    plan = detail.replayed.plan
    if plan is None or detail.replayed.outcome != "identical":
        plan = logged_plan(record)
    attempts = [{name: getattr(each, name) for name in _ATTEMPT_FIELDS} for each in plan.attempts]
    excluded: _Rows = []
    for verdict in plan.excluded:
        row: dict[str, Any] = {name: getattr(verdict, name) for name in _VERDICT_FIELDS}
        row["reasons"] = [
            {name: getattr(each, name) for name in _REASON_FIELDS} for each in verdict.broken
        ]
        excluded.append(row)
    return _Content(record, attempts, excluded)


def _as_json(detail: DecisionDetail, content: _Content) -> dict[str, Any]:
    return {
        **asdict(detail.row),
        "decided_at": utc(detail.row.decided_at),
        "tenant": detail.tenant,
        "pseudonym": detail.row.tenant,
        "replay": {"outcome": detail.replayed.outcome, "detail": detail.replayed.detail},
        "attempts": content.attempts,
        "excluded": content.excluded,
        "record": orjson.loads(detail.record),
    }


def _show(detail: DecisionDetail, content: _Content) -> None:
    row, record, replayed = detail.row, content.record, detail.replayed
    outcome = f"{replayed.outcome}: {replayed.detail}" if replayed.detail else replayed.outcome
    print_table(
        f"decision {row.decision_id}",
        ("", ""),
        [
            ("decided at", utc(row.decided_at)),
            ("as of", utc(record.moment.now)),
            ("tenant", detail.tenant or ("(erased)" if row.tenant else "none")),
            ("request", orjson.dumps(orjson.loads(detail.record)["request"]).decode()),
            ("policy", f"revision {row.policy_revision}, {record.policy_digest[:12]}"),
            ("snapshot", row.snapshot_id),
            ("engine", row.engine_version),
            ("in the log", f"number {row.seq} of stream {row.stream}"),
            ("replay", outcome),
        ],
    )
    attempts = [(each["rank"], each["endpoint_id"], each["rule_set"]) for each in content.attempts]
    print_table("attempts", ("#", "endpoint", "by"), attempts)
    if not attempts:
        console.print(f"no endpoint can serve: {row.availability}")
    if content.excluded:
        excluded = (
            (each["endpoint_id"], [(r["reason"], r["message"]) for r in each["reasons"]])
            for each in content.excluded
        )
        print_table("excluded", ("endpoint", "reason", ""), reason_rows(excluded))
