"""Outcomes, preferences and scorecards from and to messages.

Each field of an outcome is read once; nothing is checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

from assay.engine.pool.report import PoolReport
from assay.engine.pool.scorecard import Scorecard
from assay.outcomes.checks import OutcomeRejection
from assay.outcomes.outcome import Outcome, OutcomeReport, ToolUse
from assay.rpc.convert.copying import copied, stamp
from assay.rpc.convert.plan import finding
from assay.store.preferences import StoredPreference
from assay.v1 import evidence_pb2 as pb

KINDS: Final[dict[int, str]] = {pb.PREFERENCE_KIND_PIN: "pin", pb.PREFERENCE_KIND_IGNORE: "ignore"}
_KIND_NUMBERS: Final = {"pin": pb.PREFERENCE_KIND_PIN, "ignore": pb.PREFERENCE_KIND_IGNORE}
_RESULTS: Final = {
    number: name.removeprefix("RESULT_").lower() for name, number in pb.Result.items() if number
}
_tool_fields_of: Final = attrgetter(*ToolUse.__struct_fields__)


def stored_preference(stored: StoredPreference) -> pb.StandingPreference:
    """Convert a preference."""
    kind, created_at = _KIND_NUMBERS[stored.preference.kind], stamp(stored.created_at)
    return copied(stored.preference, pb.StandingPreference(kind=kind, created_at=created_at))


def reports(messages: Iterable[pb.Outcome]) -> Iterator[OutcomeReport]:
    """Read a batch; an unknown result stays a number, by which it is rejected later."""
    for message in messages:
        yield OutcomeReport(message.endpoint_id, message.tenant, _outcome(message))


def _outcome(message: pb.Outcome) -> Outcome:
    # A value other than 0 must have been set, so HasField is only called for zeros: it is slow.
    at, first, duration = message.at, message.first_token_s, message.duration_s
    tokens, requests, retry = message.completion_tokens, message.requests, message.retry_after_s
    return Outcome(
        at.seconds * 1_000_000 + at.nanos // 1000,
        _RESULTS.get(message.result) or str(message.result),
        message.decision_id,
        message.attempt,
        requests or (0 if message.HasField("requests") else 1),
        first or (first if message.HasField("first_token_s") else None),
        duration or (duration if message.HasField("duration_s") else None),
        tokens or (tokens if message.HasField("completion_tokens") else None),
        retry or (retry if message.HasField("retry_after_s") else None),
        ToolUse(*_tool_fields_of(message.tools)) if message.HasField("tools") else None,
        message.unsupported,
    )


def rejections(rejected: Iterable[OutcomeRejection]) -> Iterator[pb.RefusedOutcome]:
    """Convert rejections."""
    for index, fault in rejected:
        yield pb.RefusedOutcome(index=index, reason=fault.reason, message=fault.message)


def scorecard_response(report: PoolReport, cards: Iterable[Scorecard]) -> pb.GetScorecardResponse:
    """Return the scorecards of a pool as a response."""
    return copied(report, pb.GetScorecardResponse(scorecards=map(_scorecard, cards)))


def _scorecard(card: Scorecard) -> pb.Scorecard:
    judged, verdict = card.endpoint, card.endpoint.verdict
    message = pb.Scorecard(
        endpoint_id=verdict.endpoint_id,
        provider=verdict.provider,
        tag=verdict.tag,
        state=judged.state or "",
        since=stamp(judged.since),
        broken=map(finding, card.broken),
    )
    copied(card, message)
    if card.accuracy is not None:
        message.accuracy.effective_requests = card.accuracy.requests
    return message
