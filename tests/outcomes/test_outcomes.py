"""Checks of outcomes: each is accepted, or rejected alone with a reason."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st
from msgspec.structs import replace
from tests.support.outcomes import (
    ANYTHING,
    DECISION,
    ENDPOINTS,
    HOUR_US,
    NOW_US,
    SOUND,
    change_outcome,
    make_batch,
    report_outcome,
    sound_reports,
)

from assay.engine.errors import InvalidField
from assay.outcomes.checks import MOST_OUTCOMES, check_outcomes, find_fault, is_plain, require_batch
from assay.outcomes.counting import count_outcomes
from assay.outcomes.outcome import (
    Outcome,
    OutcomeReport,
    ToolUse,
    decode_outcomes,
    encode_outcomes,
)

YEAR_2099 = 4_070_908_800_000_000
ALONE: dict[str, Any] = {"decision_id": "", "attempt": 0}


def row(
    name: str,
    reason: str,
    message: str,
    *,
    endpoint_id: str = "lab/m0@one",
    tenant: str = "acme",
    **changes: Any,
) -> Any:
    """Return a case: an outcome with changed fields, the reason and a part of the message."""
    outcome = change_outcome(**changes)
    return pytest.param(report_outcome(outcome, endpoint_id, tenant), reason, message, id=name)


@pytest.mark.parametrize(
    ("bad", "reason", "message"),
    [
        row("NaN", "not-a-number", "first_token_s: nan", first_token_s=math.nan),
        row("infinity", "not-a-number", "duration_s: inf", duration_s=math.inf),
        row("negative time", "negative", "retry_after_s: -1.0", retry_after_s=-1.0),
        row("negative count", "negative", "completion_tokens: -1", completion_tokens=-1),
        row("negative errors", "negative", "tools.errored_r", errored_requests=-1),
        row("2^63 as a signed integer", "negative", "requests", requests=-(2**63)),
        row("2^63", "too-large", "requests: 9223372036854775808", requests=2**63),
        row("2^63 - 1 calls", "too-large", "tools.tool_calls", tool_calls=2**63 - 1),
        row("longer than a day", "too-large", "duration_s", duration_s=86_400.5),
        row("no requests", "no-requests", "requests: 0", requests=0, **ALONE),
        row("errors > calls", "counts-disagree", "errored_requests = 2 is", errored_requests=2),
        row(
            "calls > requests",
            "counts-disagree",
            "is more than requests = 1",
            tool_call_requests=2,
            tool_calls=2,
        ),
        row(
            "fewer calls than requests with calls",
            "counts-disagree",
            "more than tool_calls = 4",
            tool_call_requests=5,
            requests=5,
            tool_calls=4,
            **ALONE,
        ),
        row(
            "more invalid calls than calls",
            "counts-disagree",
            "more than tool_calls = 2",
            errored_requests=1,
            invalid_json=3,
        ),
        row(
            "invalid calls without an errored request",
            "counts-disagree",
            "errored_requests = 0",
            unknown_name=1,
        ),
        row("calls without an answer", "no-calls-possible", "not timeout ones", result="timeout"),
        row("calls without tools", "no-calls-possible", "tools.offered: 0", offered=0),
        row("the year 2099", "future", "2099", at_us=YEAR_2099),
        row("over 5 minutes ahead", "future", "at: ", at_us=NOW_US + HOUR_US // 12 + 1),
        row("beyond all years", "future", "at: ", at_us=2**80),
        row("more than 24 hours old", "late", "at: ", at_us=NOW_US - 24 * HOUR_US - 1),
        row("before all years", "late", "at: ", at_us=-(2**80)),
        row("no time", "no-time", "at: missing", at_us=0),
        row("no result", "unknown-result", "result: ''", result=""),
        row("unknown result", "unknown-result", "result: '99'", result="99"),
        row(
            "unsupported text",
            "unknown-capability",
            "unsupported: 'seed is bad'",
            unsupported="seed is bad",
            result="provider_error",
            tools=None,
        ),
        row(
            "unsupported, but answered",
            "no-refusal-possible",
            "unsupported: answered is not the result of a refusal",
            unsupported="parameters.seed",
        ),
        row(
            "unknown tool_choice",
            "unknown-tool-choice",
            "tools.tool_choice: 'maybe'",
            tool_choice="maybe",
        ),
        row(
            "unknown endpoint",
            "unknown-endpoint",
            "endpoint_id: 'lab/m9@one'",
            endpoint_id="lab/m9@one",
        ),
        row("unprintable tenant", "bad-tenant", r"tenant: 'a\x00b'", tenant="a\0b"),
        row("too long tenant", "bad-tenant", "at most 256", tenant="a" * 257),
        row("text instead of an id", "bad-decision", "'say hello'", decision_id="say hello"),
        row("a decision without an attempt", "bad-decision", "attempt: 0", attempt=0),
        row("one attempt for two requests", "bad-decision", "requests: 2", requests=2),
        row(
            "first token after the end",
            "first-token-after-end",
            "more than duration_s, 2.0",
            first_token_s=3.0,
        ),
    ],
)
def test_an_invalid_outcome_is_rejected_with_a_reason_and_the_rest_is_accepted(
    bad: OutcomeReport, reason: str, message: str
) -> None:
    other = replace(SOUND, attempt=2)
    found = check_outcomes([report_outcome(SOUND), bad, report_outcome(other)], ENDPOINTS, NOW_US)
    assert [each.outcome for each in found.accepted] == [SOUND, other]
    ((place, fault),) = found.rejected
    assert (place, fault.reason) == (1, reason)
    assert message in fault.message
    assert fault.message.isprintable()


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(change_outcome(at_us=NOW_US - 24 * HOUR_US), id="24 hours old"),
        pytest.param(change_outcome(at_us=NOW_US + HOUR_US // 12), id="5 minutes ahead"),
        pytest.param(
            change_outcome(
                requests=1_000_000, tool_call_requests=999_999, tool_calls=10**9, **ALONE
            ),
            id="large counts",
        ),
        pytest.param(change_outcome(tool_calls=0), id="calls not counted"),
        pytest.param(change_outcome(errored_requests=1), id="kinds of bad calls not counted"),
        pytest.param(change_outcome(first_token_s=2.0), id="the first token at the end"),
        pytest.param(change_outcome(tools=None, result="cut"), id="cut, no tools"),
        pytest.param(
            change_outcome(result="rate_limited", retry_after_s=86_400.0, tools=ToolUse(3)),
            id="a rate limit",
        ),
    ],
)
def test_outcomes_at_the_limits_are_accepted(outcome: Outcome) -> None:
    assert check_outcomes([report_outcome(outcome)], ENDPOINTS, NOW_US).rejected == []


def test_a_repeated_attempt_in_a_batch_is_rejected() -> None:
    sent = [
        report_outcome(SOUND),
        report_outcome(replace(SOUND, attempt=2)),
        report_outcome(SOUND),
        report_outcome(SOUND, "lab/m1@two"),
    ]
    found = check_outcomes(sent, ENDPOINTS, NOW_US)
    assert [(place, fault.reason) for place, fault in found.rejected] == [
        (2, "duplicate"),
        (3, "duplicate"),
    ]
    assert DECISION in found.rejected[0].fault.message


def test_equal_outcomes_without_a_decision_are_all_accepted() -> None:
    sent = [report_outcome(change_outcome(**ALONE))] * 3
    assert len(check_outcomes(sent, ENDPOINTS, NOW_US).accepted) == 3


@settings(max_examples=500)
@given(ANYTHING)
@example(change_outcome(duration_s=0.0, first_token_s=0.5))
@example(change_outcome(first_token_s=-0.0))
def test_an_outcome_that_passes_the_fast_check_breaks_no_rule(outcome: Outcome) -> None:
    if is_plain(outcome, NOW_US):
        assert find_fault(outcome, NOW_US) is None


@given(ANYTHING | sound_reports().map(lambda report: report.outcome))
def test_every_accepted_outcome_can_be_encoded_decoded_and_counted(outcome: Outcome) -> None:
    accepted = check_outcomes([report_outcome(outcome)], ENDPOINTS, NOW_US).accepted
    batch = make_batch(accepted, "b")
    assert decode_outcomes(encode_outcomes(batch)) == batch
    cells = count_outcomes([batch])
    for requests, calls, errored, auto, auto_calls, attempts in cells.evidence.values():
        assert 0 <= errored <= calls <= requests <= attempts
        assert 0 <= auto_calls <= auto <= requests
    assert all(count > 0 for count in cells.service.values())


@given(st.lists(sound_reports(), max_size=20))
def test_valid_outcomes_are_all_accepted(reports: list[OutcomeReport]) -> None:
    assert check_outcomes(reports, ENDPOINTS, NOW_US).accepted == reports


@pytest.mark.parametrize(
    ("source", "batch_id", "size", "field"),
    [
        pytest.param("", "b", 1, "source", id="no source"),
        pytest.param("gw 1", "b", 1, "source", id="a space"),
        pytest.param("gw", "", 1, "batch_id", id="no batch"),
        pytest.param("gw", "b" * 65, 1, "batch_id", id="a long name"),
        pytest.param("gw", "b\n", 1, "batch_id", id="a line break"),
        pytest.param("gw", "b", MOST_OUTCOMES + 1, "outcomes", id="too many"),
    ],
)
def test_a_batch_with_an_invalid_name_or_size_is_rejected_as_a_whole(
    source: str, batch_id: str, size: int, field: str
) -> None:
    with pytest.raises(InvalidField) as rejected:
        require_batch(source, batch_id, size)
    assert rejected.value.field == field


@settings(max_examples=300)
@given(st.data())
def test_altered_bytes_are_decoded_within_bounds_or_rejected(data: st.DataObject) -> None:
    whole = encode_outcomes(make_batch([report_outcome(SOUND)], "b"))
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 20)))
    put = data.draw(
        st.binary(max_size=3) | st.sampled_from([b"null", b"[]", b"-1", b'""', b"1e99", b"9" * 30])
    )
    with suppress(ValueError):
        batch = decode_outcomes(whole[:begin] + put + whole[end:])
        count_outcomes([batch])
        assert 0 <= batch.received_us <= 2**53


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="no bytes"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"[" * 100_000, id="deeply nested"),
        pytest.param(
            encode_outcomes(make_batch([], "b")).replace(b"[1,", b"[2,", 1), id="another version"
        ),
    ],
)
def test_bytes_that_are_not_a_batch_are_rejected(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"batch|version"):
        decode_outcomes(data)
