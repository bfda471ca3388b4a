"""Every row of the failure table, in JSON and in streams: attempts, the reply and the outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from tests.support.forwarding_chain import METADATA, Answer, Chain
from tests.support.waiting import eventually

from assay.forward.taxonomy import TABLE, NextStep
from assay.v1 import evidence_pb2 as pb

ROWS = {row.name: row for row in TABLE}
ELSEWHERE = {"cancelled"}  # the provider does nothing wrong: a test of its own, below
Fault = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A fault, its row in JSON and in a stream, and how many words of the stream precede it."""

    name: str
    plain: str
    stream: str
    fault: Fault | None = None
    model: str = "lab/pair"
    words: int = 0
    status: int | None = None  # the provider's, if the caller gets it


def status(number: int, row: str, **fields: Any) -> Case:
    return Case(
        str(number), row, row, {"kind": "status", "status": number, **fields}, status=number
    )


CASES = [
    Case("refused connection", "connect", "connect", model="lab/dead"),
    Case("unanswered connection", "connect", "connect", model="lab/deaf"),
    Case("closed without an answer", "dropped", "dropped", {"kind": "dropped"}),
    Case("not HTTP", "malformed", "malformed", {"kind": "not_http"}),
    Case("no headers", "answer_late", "headers_late", {"kind": "no_headers"}),
    Case("no token", "answer_late", "first_token_late", {"kind": "stall"}),
    Case("a role and no token", "answer_late", "first_token_late", {"kind": "stall", "after": 1}),
    Case(
        "comments forever", "answer_late", "first_token_late", {"kind": "stall", "comments": True}
    ),
    status(429, "rate_limited", retry_after="2"),
    status(500, "server_error"),
    status(503, "server_error", retry_after="7"),
    status(529, "server_error"),
    status(401, "rejected"),
    status(402, "rejected"),
    status(404, "rejected"),
    status(403, "forbidden"),
    status(400, "caller_error"),
    status(422, "caller_error"),
    status(413, "too_large"),
    status(415, "refused"),
    Case(
        "redirect",
        "redirect",
        "redirect",
        {"kind": "redirect", "location": "http://10.0.0.1/v1/chat/completions"},
    ),
    Case("malformed", "malformed", "malformed", {"kind": "malformed"}),
    Case("garbage", "malformed", "empty", {"kind": "garbage"}),
    Case("empty", "malformed", "empty", {"kind": "empty"}),
    Case("done and empty", "malformed", "empty", {"kind": "empty", "done": True}),
    Case("error event", "error_event", "error_event", {"kind": "error_event"}),
    Case(
        "error event after a role",
        "error_event",
        "error_event",
        {"kind": "error_event", "after": 1},
    ),
    Case(
        "error event of a limit",
        "rate_limited",
        "rate_limited",
        {"kind": "error_event", "code": 429},
    ),
    Case(
        "error event of an outage",
        "server_error",
        "server_error",
        {"kind": "error_event", "code": 502},
    ),
    Case("ends in an error", "error_event", "error_event", {"kind": "error_finish"}),
    Case("cut after the headers", "dropped", "dropped", {"kind": "cut"}),
    Case("cut after a role", "dropped", "dropped", {"kind": "cut", "after": 1}),
    Case("half closed", "dropped", "dropped", {"kind": "half_closed", "after": 1}),
    Case("cut after words", "dropped", "cut", {"kind": "cut", "after": 4}, words=3),
    Case("half closed after words", "dropped", "cut", {"kind": "half_closed", "after": 4}, words=3),
    Case("silent after words", "answer_late", "silent", {"kind": "stall", "after": 4}, words=3),
    Case(
        "error event after words",
        "error_event",
        "error_event",
        {"kind": "error_event", "after": 4},
        words=3,
    ),
    Case(
        "malformed after words",
        "malformed",
        "malformed",
        {"kind": "malformed", "after": 4},
        words=3,
    ),
    Case(
        "ends in an error after words",
        "error_event",
        "error_event",
        {"kind": "error_finish", "after": 4},
        words=3,
    ),
]
EACH = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
BOTH = pytest.mark.parametrize(
    "stream", [pytest.param(False, id="plain"), pytest.param(True, id="stream")]
)


def test_every_row_of_the_failure_table_has_a_case() -> None:
    assert {row for case in CASES for row in (case.plain, case.stream)} | ELSEWHERE == set(ROWS)


def ask_case(chain: Chain, case: Case, *, stream: bool, **fields: Any) -> Answer:
    chain.providers.forget()
    if case.fault is not None:
        chain.providers.play("bad", case.fault)
    return chain.ask(case.model, stream=stream, headers=METADATA, **fields)


def row_of(case: Case, *, stream: bool) -> str:
    return case.stream if stream else case.plain


@EACH
@BOTH
def test_the_next_endpoint_answers_before_the_first_token(
    chain: Chain, case: Case, *, stream: bool
) -> None:
    row = ROWS[row_of(case, stream=stream)]
    answer = ask_case(chain, case, stream=stream)
    if stream and case.words:
        assert_cut_short(chain, case, answer)
        return
    assert row.next_step in (NextStep.ENDPOINT, NextStep.CONFIRM)
    assert answer.status == 200
    assert len(answer.text.split()) == 12
    assert answer.error is None
    bad, good = (len(chain.seen(name)) for name in ("bad", "good"))
    expected = int(case.fault is not None)
    # A pooled connection that breaks is replaced once, and the provider has seen both requests.
    assert (bad, good) == (expected, 1) or (row.name, bad, good) == ("dropped", 2, 1)
    metadata = answer.metadata
    assert [attempt.get("failure") for attempt in metadata["attempts"]] == [row.name, None]
    assert metadata["attempt"] == 2
    first, second = chain.recorder.of(answer.decision_id, 2)
    assert (first.attempt, first.result) == (1, row.result)
    assert (second.attempt, second.result, second.completion_tokens) == (2, pb.RESULT_ANSWERED, 12)


def assert_cut_short(chain: Chain, case: Case, answer: Answer) -> None:
    """The caller has words: an error follows them, and no other endpoint is tried."""
    assert answer.status == 200
    assert len(answer.text.split()) == case.words
    assert answer.error["message"]
    assert answer.chunks[-1]["choices"][0]["finish_reason"] == "error"
    assert not answer.done
    assert [len(chain.seen(name)) for name in ("bad", "good")] == [1, 0]
    (outcome,) = chain.recorder.of(answer.decision_id, 1)
    assert (outcome.attempt, outcome.result) == (1, ROWS[case.stream].result)
    assert outcome.first_token_s > 0


LONELY = [case for case in CASES if case.fault is not None and not case.words]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in LONELY])
@BOTH
def test_the_client_gets_the_failure_if_no_other_endpoint_is_left(
    chain: Chain, case: Case, *, stream: bool
) -> None:
    row = ROWS[row_of(case, stream=stream)]
    answer = ask_case(
        chain, Case(case.name, case.plain, case.stream, case.fault, "lab/solo"), stream=stream
    )

    begun = answer.headers["content-type"].startswith(
        "text/event-stream"
    )  # comments were sent while waiting
    assert begun <= stream
    expected = case.status if row.result == pb.RESULT_CALLER_ERROR else row.status
    assert answer.status == (200 if begun else expected)
    assert answer.error["code"] == expected
    assert [one["provider"] for one in answer.error["metadata"]["previous_errors"]] == ["bad"] * (
        1 + row.retries_alone
    )
    assert len(chain.seen("bad")) - (1 + row.retries_alone) in (
        (0, 1) if row.retries_alone else (0,)
    )
    assert chain.seen("good") == []
    if not begun:
        assert ("retry-after" in answer.headers) == (expected in {429, 503})
    (outcome,) = chain.recorder.of(answer.decision_id, 1)
    assert outcome.result == row.result


@BOTH
def test_the_retry_after_of_a_rate_limit_is_reported(chain: Chain, *, stream: bool) -> None:
    answer = ask_case(
        chain,
        next(case for case in CASES if case.name == "429"),
        stream=stream,
        models=["lab/solo"],
    )

    assert answer.status == 200  # another endpoint was not limited
    (first, _) = chain.recorder.of(answer.decision_id, 2)
    assert first.retry_after_s == 2


def test_the_smallest_retry_after_is_returned_if_all_are_limited(chain: Chain) -> None:
    chain.providers.play("bad", {"kind": "status", "status": 429, "retry_after": "7"})
    chain.providers.play("good", {"kind": "status", "status": 429, "retry_after": "3"})
    try:
        answer = chain.ask("lab/pair")
    finally:
        chain.providers.play("good")

    assert (answer.status, answer.headers["retry-after"]) == (429, "3")
    assert answer.error["availability"]["code"] == "capacity_exhausted"


@BOTH
@pytest.mark.parametrize("number", [400, 422])
def test_a_request_is_at_fault_when_a_second_endpoint_agrees(
    chain: Chain, number: int, *, stream: bool
) -> None:
    chain.providers.forget()
    for provider in ("bad", "good"):
        chain.providers.play(provider, {"kind": "status", "status": number})
    try:
        answer = chain.ask("lab/pair", stream=stream)
    finally:
        chain.providers.play("good")

    assert answer.status == answer.error["code"] == number
    assert f"simulated status {number}" in answer.error["message"]
    outcomes = chain.recorder.of(answer.decision_id, 2)
    assert [each.result for each in outcomes] == [pb.RESULT_CALLER_ERROR] * 2


@BOTH
def test_the_disconnect_of_a_client_is_reported_as_cancelled(chain: Chain, *, stream: bool) -> None:
    chain.providers.forget()
    chain.providers.play("slow", latency_s=30)
    before = len(chain.recorder.cancelled("lab/slow@slow"))
    left = chain.leave("lab/slow", "slow", stream=stream)
    (seen,) = eventually(lambda: chain.seen("slow"), lambda found: found[0]["end"] != "open")

    assert seen["end"] == "cancelled"
    assert seen["ended"] - left < 2
    eventually(
        lambda: chain.recorder.cancelled("lab/slow@slow"), lambda found: len(found) == before + 1
    )


def test_a_provider_missing_from_the_file_is_skipped(chain: Chain) -> None:
    answer = chain.ask("lab/stranger", headers=METADATA)

    assert len(answer.text.split()) == 12
    assert [attempt["provider"] for attempt in answer.metadata["attempts"]] == ["good"]
    (outcome,) = chain.recorder.of(answer.decision_id, 1)
    assert outcome.attempt == 2


@BOTH
def test_an_answer_behind_a_dead_provider_takes_one_connect_timeout(
    chain: Chain, *, stream: bool
) -> None:
    answer = chain.ask("lab/deaf", stream=stream)

    assert answer.status == 200
    assert 0.3 < answer.seconds < 1.3


OUTSIDERS: list[Mapping[str, Any]] = [
    {"order": ["bad"]},
    {"order": ["bad"], "allow_fallbacks": False},
    {"only": ["bad"]},
    {"only": ["bad", "good"], "sort": "price"},
    {"ignore": ["good"]},
    {"sort": "price"},
    {"sort": {"by": "throughput", "partition": "none"}},
    {"max_price": {"prompt": 1}},
    {"require_parameters": True, "order": ["bad", "good"]},
]


@pytest.mark.parametrize("provider", [pytest.param(each, id=str(each)) for each in OUTSIDERS])
@BOTH
def test_an_endpoint_outside_the_pool_is_never_called(
    chain: Chain, provider: Mapping[str, Any], *, stream: bool
) -> None:
    chain.providers.forget()
    chain.providers.play("good", {"kind": "status", "status": 503})
    try:
        failed = chain.ask("lab/vetted:exacto", provider=provider, stream=stream)
    finally:
        chain.providers.play("good")
    answer = chain.ask("lab/vetted:exacto", provider=provider, stream=stream)

    assert failed.status in {404, 503}
    assert answer.status in {200, 404}
    assert chain.seen("bad") == []
    if answer.status == 404:
        assert answer.error["availability"]["excluded_by"]
