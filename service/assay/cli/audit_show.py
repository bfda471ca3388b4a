"""`assay audit show`: one decision, with the sentences that its record leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import orjson
from cyclopts import Parameter

from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, print_json, print_table
from assay.cli.questions import Filter, OptionsConflict, Since, Until, auditing, question, utc
from assay.decision_log.auditor import Auditor, DecisionDetail, DecisionQuery
from assay.decision_log.decision_row import LoggedVerdict
from assay.decision_log.record import DecisionRecord, decode_record
from assay.engine.decide.plan import Plan
from assay.engine.errors import CallerError

Rows = list[dict[str, Any]]


class NothingFound(CallerError):
    """No decision is meant by a filter."""

    def __init__(self) -> None:
        super().__init__("--filter: no decision in this time that it holds for")


def show_command(  # noqa: PLR0913 - one option per part of the question
    decision_id: Annotated[str | None, Parameter(help="Id of the decision.")] = None,
    *,
    where: Filter = None,
    since: Since = None,
    until: Until = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show one decision: who served in which order, and in sentences why the others did not.

    With --filter it is the newest decision that the filter holds for.

    Example: assay audit show 019976b2-7a00-7cc1-8f3e-0d4f3f1f2a11

    Example: assay audit show --filter '"deepinfra" in decision.excluded_providers' --until 2025-09-23T12:00:00Z
    """
    if (decision_id is None) == (where is None):
        raise OptionsConflict("give either an ID or --filter, and not both")
    if decision_id is not None and (since is not None or until is not None):
        raise OptionsConflict("--since and --until need --filter; an id needs no time")
    asked = question(where, since, until)
    with auditing(url) as auditor:
        shown = auditor.show(decision_id or newest(auditor, asked))
    content = contents(shown)
    if json:
        print_json(as_json(shown, content))
    else:
        show(shown, content)


def newest(auditor: Auditor, asked: DecisionQuery) -> str:
    """The id of the newest decision asked for; raises NothingFound."""
    for row in auditor.find(asked, limit=1):
        return row.decision_id
    raise NothingFound


@dataclass(frozen=True, slots=True)
class Contents:
    """What a record holds; with messages where it could be replayed, and without tags where it could not."""

    record: DecisionRecord
    attempts: Rows
    excluded: Rows


def contents(shown: DecisionDetail) -> Contents:
    """Attempts and endpoints left out, from the replayed plan if it is the logged one, else as logged."""
    record = decode_record(shown.record)
    made = shown.replayed.plan
    if made is not None and shown.replayed.outcome == "identical":
        return Contents(record, *replayed(made))
    return Contents(record, *logged(record))


def replayed(made: Plan) -> tuple[Rows, Rows]:
    """A plan's attempts and endpoints left out."""
    excluded = [
        {
            "model": verdict.model,
            "endpoint_id": verdict.endpoint_id,
            "provider": verdict.provider,
            "reasons": [
                {
                    "rule_set": f.rule_set,
                    "rule": f.rule,
                    "reason": f.reason,
                    "outcome": f.outcome,
                    "message": f.message,
                }
                for f in verdict.broken
            ],
        }
        for verdict in made.excluded
    ]
    names = ("rank", "model", "endpoint_id", "provider", "rule_set")
    return [{name: getattr(attempt, name) for name in names} for attempt in made.attempts], excluded


def logged(record: DecisionRecord) -> tuple[Rows, Rows]:
    """The same as the record has it: no messages."""
    written = record.decoded_plan
    verdicts = [LoggedVerdict(*verdict) for verdict in written["verdicts"]]
    attempts = [
        {
            "rank": rank,
            "model": verdicts[place].model,
            "endpoint_id": verdicts[place].endpoint_id,
            "provider": verdicts[place].provider,
            "rule_set": rule_set,
        }
        for rank, (place, rule_set) in enumerate(written["attempts"], start=1)
    ]
    served = {attempt["endpoint_id"] for attempt in attempts}
    left_out = [
        verdict for verdict in verdicts if verdict.broken and verdict.endpoint_id not in served
    ]
    excluded = [
        {
            "model": verdict.model,
            "endpoint_id": verdict.endpoint_id,
            "provider": verdict.provider,
            "reasons": [
                dict(zip(("rule_set", "rule", "reason", "outcome"), f, strict=True), message="")
                for f in verdict.broken
            ],
        }
        for verdict in left_out
    ]
    return attempts, excluded


def as_json(shown: DecisionDetail, content: Contents) -> dict[str, Any]:
    """A decision for programs."""
    return {
        **asdict(shown.row),
        "decided_at": utc(shown.row.decided_at),
        "tenant": shown.tenant,
        "pseudonym": shown.row.tenant,
        "replay": {"outcome": shown.replayed.outcome, "detail": shown.replayed.detail},
        "attempts": content.attempts,
        "excluded": content.excluded,
        "record": orjson.loads(shown.record),
    }


def show(shown: DecisionDetail, content: Contents) -> None:
    """A decision for people."""
    row, record = shown.row, content.record
    print_table(
        f"decision {row.decision_id}",
        ("", ""),
        [
            ("decided at", utc(row.decided_at)),
            ("as of", utc(record.moment.now)),
            ("tenant", shown.tenant or ("(erased)" if row.tenant else "none")),
            ("request", orjson.dumps(orjson.loads(shown.record)["request"]).decode()),
            ("policy", f"revision {row.policy_revision}, {record.policy_digest[:12]}"),
            ("snapshot", row.snapshot_id),
            ("engine", row.engine_version),
            ("in the log", f"number {row.seq} of stream {row.stream}"),
            (
                "replay",
                f"{shown.replayed.outcome}{': ' if shown.replayed.detail else ''}{shown.replayed.detail}",
            ),
        ],
    )
    print_table(
        "attempts",
        ("#", "endpoint", "by"),
        [(a["rank"], a["endpoint_id"], a["rule_set"]) for a in content.attempts],
    )
    if not content.attempts:
        console.print(f"no endpoint was left: {row.availability}", markup=False)
    if content.excluded:
        print_table("left out", ("endpoint", "reason", ""), reason_rows(content.excluded))


def reason_rows(excluded: Rows) -> Sequence[Sequence[object]]:
    """Each endpoint's reasons; rules that say the same are told once."""
    rows: list[Sequence[object]] = []
    for each in excluded:
        said = dict.fromkeys((found["reason"], found["message"]) for found in each["reasons"])
        rows += [(each["endpoint_id"] if n == 0 else "", *reason) for n, reason in enumerate(said)]
    return rows
