"""Outcomes: each field of a message read once, nothing judged; and refusals as messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from assay.outcomes.checks import OutcomeRejection
from assay.outcomes.outcome import Outcome, OutcomeReport, ToolUse
from assay.store.preferences import StoredPreference
from assay.v1 import evidence_pb2 as pb

KINDS: Final[dict[int, str]] = {pb.PREFERENCE_KIND_PIN: "pin", pb.PREFERENCE_KIND_IGNORE: "ignore"}
NUMBERS: Final = {
    "pin": pb.PREFERENCE_KIND_PIN,
    "ignore": pb.PREFERENCE_KIND_IGNORE,
}


def standing(found: StoredPreference) -> pb.StandingPreference:
    """A standing preference."""
    made_at = Timestamp()
    made_at.FromDatetime(found.created_at)
    wanted = found.preference
    return pb.StandingPreference(
        tenant=wanted.tenant,
        target=wanted.target,
        model=wanted.model or "",
        kind=NUMBERS[wanted.kind],
        created_at=made_at,
    )


PREFIX: Final = "RESULT_"
WORDS: Final = {
    number: name.removeprefix(PREFIX).lower() for name, number in pb.Result.items() if number
}


def reported(messages: Iterable[pb.Outcome]) -> Iterator[OutcomeReport]:
    """Read a batch; a number that stands for no result stays one, to be refused by it."""
    for message in messages:
        at, result, tools = message.at, message.result, None
        if message.HasField("tools"):
            tools = tool_use(message.tools)
        first, duration, tokens = (
            message.first_token_s,
            message.duration_s,
            message.completion_tokens,
        )
        requests, retry = message.requests, message.retry_after_s
        yield OutcomeReport(
            message.endpoint_id,
            message.tenant,
            Outcome(
                at.seconds * 1_000_000 + at.nanos // 1000,
                WORDS.get(result) or str(result),
                message.decision_id,
                message.attempt,
                requests or (0 if message.HasField("requests") else 1),
                first or (first if message.HasField("first_token_s") else None),
                duration or (duration if message.HasField("duration_s") else None),
                tokens or (tokens if message.HasField("completion_tokens") else None),
                retry or (retry if message.HasField("retry_after_s") else None),
                tools,
            ),
        )


def tool_use(message: pb.ToolUse) -> ToolUse:
    """Read what came of the tools."""
    return ToolUse(
        message.offered,
        message.tool_choice,
        message.after_tool_result,
        message.tool_call_requests,
        message.errored_requests,
        message.tool_calls,
        message.invalid_json,
        message.unknown_name,
        message.schema_mismatch,
    )


def refusals(refused: Iterable[OutcomeRejection]) -> Iterator[pb.RefusedOutcome]:
    """Refusals as messages."""
    for index, fault in refused:
        yield pb.RefusedOutcome(index=index, reason=fault.reason, message=fault.message)
