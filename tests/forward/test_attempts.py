"""Attempts over real sockets: what providers do, what callers see, what is reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.misbehaving_provider import KEY
from tests.support.scripted_forwarding import (
    PROMPT,
    TOOL,
    ScriptedForwarder,
    forwarding,
    providers_file,
)

from assay.forward.settings import read_providers
from assay.v1 import evidence_pb2 as pb

JSON_AND_STREAM = (pytest.param(False, id="json"), pytest.param(True, id="stream"))
FAILURES = (
    # provider, failure in JSON, failure in a stream, HTTP status of the provider
    ("refused", "connect", "connect", None),
    ("drop", "dropped", "dropped", None),
    ("hang", "answer_late", "headers_late", None),
    ("s401", "rejected", "rejected", 401),
    ("s402", "rejected", "rejected", 402),
    ("s403", "forbidden", "forbidden", 403),
    ("s400", "caller_error", "caller_error", 400),
    ("s413", "too_large", "too_large", 413),
    ("blank400", "refused", "refused", 400),
    ("html400", "refused", "refused", 400),
    ("html413", "too_large", "too_large", 413),
    ("key400", "rejected", "rejected", 400),
    ("quota403", "rejected", "rejected", 403),
    ("key_in_answer", "rejected", "rejected", 400),
    ("s404", "rejected", "rejected", 404),
    ("s429", "rate_limited", "rate_limited", 429),
    ("s500", "server_error", "server_error", 500),
    ("s529", "server_error", "server_error", 529),
    ("redirect", "redirect", "redirect", 307),
    ("nothttp", "malformed", "malformed", None),
    ("gzip", "malformed", "malformed", 200),
    ("garbage", "malformed", "malformed", 200),
    ("empty", "empty", "empty", 200),
    ("onlydone", "malformed", "empty", 200),
    ("error", "error_event", "error_event", 200),
    ("error429", "rate_limited", "rate_limited", 429),
    ("jsonerror", "rate_limited", "rate_limited", 429),
    ("huge", "malformed", "malformed", 200),
)
RESULTS = {
    "connect": pb.RESULT_TRANSPORT_ERROR,
    "dropped": pb.RESULT_TRANSPORT_ERROR,
    "answer_late": pb.RESULT_TIMEOUT,
    "headers_late": pb.RESULT_TIMEOUT,
    "rejected": pb.RESULT_PROVIDER_ERROR,
    "forbidden": pb.RESULT_CALLER_ERROR,
    "caller_error": pb.RESULT_CALLER_ERROR,
    "refused": pb.RESULT_PROVIDER_ERROR,
    "too_large": pb.RESULT_CALLER_ERROR,
    "rate_limited": pb.RESULT_RATE_LIMITED,
    "server_error": pb.RESULT_PROVIDER_ERROR,
    "redirect": pb.RESULT_PROVIDER_ERROR,
    "malformed": pb.RESULT_MALFORMED,
    "empty": pb.RESULT_MALFORMED,
    "error_event": pb.RESULT_PROVIDER_ERROR,
}


@pytest.mark.parametrize("stream", JSON_AND_STREAM)
@pytest.mark.parametrize(
    ("behavior", "whole", "streamed", "status"), FAILURES, ids=[f[0] for f in FAILURES]
)
def test_the_next_endpoint_answers_after_a_failure(
    world: ScriptedForwarder,
    behavior: str,
    whole: str,
    streamed: str,
    status: int | None,
    *,
    stream: bool,
) -> None:
    before = len(world.provider.seen)
    model = f"lab/{behavior}.good"
    got = world.ask(model, stream=stream, headers={"X-OpenRouter-Metadata": "enabled"})
    row = streamed if stream else whole
    assert got.status == 200
    answer = got.events[-2] if stream else got.json
    assert (answer["provider"], answer["model"]) == ("good", model)
    attempts = answer["openrouter_metadata"]["attempts"]
    assert [(each["provider"], each.get("failure")) for each in attempts] == [
        (behavior, row),
        ("good", None),
    ]
    assert attempts[0]["status"] == (status or 0)
    reported = world.seen(got.decision_id, 2)
    assert [(o.attempt, o.result) for o in reported] == [(1, RESULTS[row]), (2, pb.RESULT_ANSWERED)]
    assert world.called(before) == ([] if behavior == "refused" else [behavior]) + ["good"]
    assert KEY.encode() not in got.body


@pytest.mark.parametrize("stream", JSON_AND_STREAM)
def test_a_model_is_given_up_when_a_second_endpoint_rejects_the_request(
    world: ScriptedForwarder, *, stream: bool
) -> None:
    before = len(world.provider.seen)
    got = world.ask("lab/s400.s500.s422.good", models=["lab/other"], stream=stream)
    assert got.status == 200
    assert world.called(before) == ["s400", "s500", "s422", "other"]


@pytest.mark.parametrize("stream", JSON_AND_STREAM)
@pytest.mark.parametrize(
    ("model", "status", "message"),
    [
        pytest.param("lab/s400", 400, "the context is too long", id="the only endpoint"),
        pytest.param("lab/s422.s400.good", 400, "the context is too long", id="two that agree"),
        pytest.param("lab/s500.s413", 413, "the request is larger than", id="too large"),
        pytest.param("lab/html400.key400", 503, "every attempt at a provider", id="refused by all"),
    ],
)
def test_the_caller_gets_a_rejection_of_the_request_and_none_of_the_account(
    world: ScriptedForwarder, model: str, status: int, message: str, *, stream: bool
) -> None:
    got = world.ask(model, stream=stream)
    assert got.status == status
    assert got.json["error"]["message"].startswith(message)
    assert KEY not in got.body.decode()


def test_operators_override_the_row_of_a_providers_failures(
    world: ScriptedForwarder, tmp_path: Path
) -> None:
    file = providers_file(tmp_path, world.provider.port, 1)
    overrides = "failures: [{status: 500, pattern: 'no: ', row: caller_error}], private: true"
    lines = file.read_text().splitlines()
    file.write_text(
        "\n".join(
            line.replace("private: true", overrides) if line.startswith("    s500:") else line
            for line in lines
        )
    )
    providers = read_providers(file, {"KEY": KEY})
    with forwarding(world.decider_address, providers, tmp_path / "spool") as address:
        overridden = replace(world, address=address)
        before = len(world.provider.seen)
        got = overridden.ask("lab/s500.s400.good")
        assert (got.status, got.json["error"]["message"]) == (400, "the context is too long")
        assert world.called(before) == ["s500", "s400"]
        got = overridden.ask("lab/s500")
        assert got.status == 400
        assert KEY not in got.body.decode()


def test_an_unsupported_parameter_is_reported_if_the_request_had_it(
    world: ScriptedForwarder,
) -> None:
    answers = (
        (world.ask("lab/noseed.good", seed=7), "parameters.seed"),
        (world.ask("lab/noseed.good", top_k=7), ""),
    )
    for got, unsupported in answers:
        first, second = world.seen(got.decision_id, 2)
        assert (first.result, first.unsupported) == (pb.RESULT_CALLER_ERROR, unsupported)
        assert (second.result, second.unsupported) == (pb.RESULT_ANSWERED, "")


@pytest.mark.parametrize(
    ("model", "status", "code", "retry"),
    [
        pytest.param(
            "lab/s429.s429b",
            429,
            "capacity_exhausted",
            "3",
            id="all limited: the smallest Retry-After",
        ),
        pytest.param(
            "lab/s500.s429", 503, "temporarily_unavailable", "7", id="some limited, some failing"
        ),
        pytest.param("lab/s500.s401", 503, "temporarily_unavailable", "1", id="all failing"),
    ],
)
@pytest.mark.parametrize("stream", JSON_AND_STREAM)
def test_the_reply_after_every_attempt_has_failed(
    world: ScriptedForwarder, model: str, status: int, code: str, retry: str, *, stream: bool
) -> None:
    got = world.ask(model, stream=stream)
    assert (got.status, got.headers["retry-after"]) == (status, retry)
    error = got.json["error"]
    assert (error["code"], error["availability"]["code"], error["availability"]["retryable"]) == (
        status,
        code,
        True,
    )
    assert error["availability"]["retry_after"] == int(retry)
    assert error["availability"]["requested_models"] == [model]
    assert len(error["metadata"]["previous_errors"]) == 2
    assert KEY not in got.body.decode()


@pytest.mark.parametrize(
    ("behavior", "result"),
    [
        pytest.param("cut", pb.RESULT_CUT, id="cut"),
        pytest.param("silent", pb.RESULT_CUT, id="silent"),
        pytest.param("late_error", pb.RESULT_PROVIDER_ERROR, id="error event"),
        pytest.param("late_garbage", pb.RESULT_MALFORMED, id="garbage"),
    ],
)
def test_after_the_first_token_no_other_endpoint_answers(
    world: ScriptedForwarder, behavior: str, result: pb.Result.ValueType
) -> None:
    before = len(world.provider.seen)
    got = world.ask(f"lab/{behavior}.good", stream=True)
    assert got.status == 200
    *earlier, last = got.events
    assert got.text == 'Hello "you" there'
    assert last["choices"][0]["finish_reason"] == "error"
    assert last["error"]["code"] in (502, 503)
    assert (last["provider"], last["id"], earlier[0]["provider"]) == (behavior, "c-1", behavior)
    assert world.called(before) == [behavior]
    assert [o.result for o in world.seen(got.decision_id)] == [result]


def test_a_stream_without_a_token_in_time_is_abandoned(world: ScriptedForwarder) -> None:
    got = world.ask("lab/stall.good", stream=True)
    assert got.text == 'Hello "you" there'
    reported = world.seen(got.decision_id, 2)
    assert [o.result for o in reported] == [pb.RESULT_TIMEOUT, pb.RESULT_ANSWERED]
    assert [o.HasField("first_token_s") for o in reported] == [False, True]
    assert world.provider.seen[-2].gone.wait(5)


@pytest.mark.parametrize("behavior", ["good", "crlf", "unended"])
def test_a_stream_keeps_its_text_and_names_its_provider(
    world: ScriptedForwarder, behavior: str
) -> None:
    got = world.ask(f"lab/{behavior}", stream=True, stream_options={"include_usage": True})
    *chunks, done = got.events
    assert done == "[DONE]"
    assert got.text == 'Hello "you" there'
    assert {(c["model"], c["provider"], c["system_fingerprint"]) for c in chunks} == {
        (f"lab/{behavior}", behavior, None)
    }
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    (outcome,) = world.seen(got.decision_id)
    assert outcome.completion_tokens == 2
    assert outcome.duration_s >= outcome.first_token_s > 0


def test_a_json_answer_names_its_provider(world: ScriptedForwarder) -> None:
    got = world.ask("lab/good")
    answer = got.json
    assert (answer["model"], answer["provider"], answer["system_fingerprint"]) == (
        "lab/good",
        "good",
        None,
    )
    assert answer["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("stream", JSON_AND_STREAM)
@pytest.mark.parametrize(("behavior", "errored"), [("calls", 0), ("badcalls", 1)])
def test_tool_calls_are_checked(
    world: ScriptedForwarder, behavior: str, errored: int, *, stream: bool
) -> None:
    got = world.ask(f"lab/{behavior}", stream=stream, tools=[TOOL])
    assert got.status == 200
    (outcome,) = world.seen(got.decision_id)
    assert outcome.tools == pb.ToolUse(
        offered=1,
        tool_call_requests=1,
        errored_requests=errored,
        tool_calls=1,
        invalid_json=errored,
    )


def test_a_json_answer_to_a_stream_request_is_malformed(world: ScriptedForwarder) -> None:
    got = world.ask("lab/unstreamed.good", stream=True)
    assert got.text == 'Hello "you" there'
    assert [o.result for o in world.seen(got.decision_id, 2)] == [
        pb.RESULT_MALFORMED,
        pb.RESULT_ANSWERED,
    ]


def test_comments_are_sent_until_the_first_token(world: ScriptedForwarder) -> None:
    got = world.ask("lab/slow", stream=True)
    assert got.body.startswith(b": ASSAY PROCESSING\n\n")
    assert got.text == 'Hello "you" there'


def test_an_error_after_comments_is_the_last_event(world: ScriptedForwarder) -> None:
    got = world.ask("lab/stall", stream=True)
    assert got.status == 200
    (event,) = got.events
    assert (event["error"]["code"], event["choices"][0]["finish_reason"]) == (503, "error")


def test_the_only_endpoint_is_retried_once_after_a_broken_connection(
    world: ScriptedForwarder,
) -> None:
    got = world.ask("lab/drop")
    assert got.status == 503
    assert [each["code"] for each in got.json["error"]["metadata"]["previous_errors"]] == [
        "dropped",
        "dropped",
    ]
    before = len(world.provider.seen)
    assert world.ask("lab/s500").status == 503
    assert world.called(before) == ["s500"]


@pytest.mark.parametrize("stream", JSON_AND_STREAM)
def test_a_dead_pooled_connection_is_replaced_before_it_counts_as_a_failure(
    world: ScriptedForwarder, *, stream: bool
) -> None:
    before = len(world.provider.seen)
    for _ in range(3):
        got = world.ask("lab/once.good", stream=stream)
        assert got.status == 200
        assert [each.result for each in world.seen(got.decision_id)] == [pb.RESULT_ANSWERED]
    called = world.called(before)
    assert set(called) == {"once"}
    assert len(called) > 3


def test_an_endpoint_that_is_planned_twice_is_called_once(world: ScriptedForwarder) -> None:
    before = len(world.provider.seen)
    assert world.ask("lab/s500.s401", models=["lab/s500.s401"]).status == 503
    assert world.called(before) == ["s500", "s401"]


def test_the_request_that_a_provider_gets(world: ScriptedForwarder) -> None:
    world.ask(
        "lab/good",
        stream=True,
        models=["lab/other"],
        provider={"sort": "price"},
        session_id="s",
        temperature=0.1,
        max_tokens=5,
        seed=None,
        x_vendor={"b": [1, 2.50]},
        stream_options={"x": 1},
        tools=[TOOL],
    )
    x = world.provider.seen[-1]
    assert x.headers["authorization"] == f"Bearer {KEY}"
    assert x.body == {
        "model": "lab/good",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 5,
        "stream": True,
        "x_vendor": {"b": [1, 2.5]},
        "stream_options": {"x": 1, "include_usage": True},
        "tools": [TOOL],
    }
    asked = world.decider.asked[-1]
    assert (list(asked.models), asked.provider.sort.by, asked.session_id, asked.tools) == (
        ["lab/other"],
        "price",
        "s",
        1,
    )
    assert list(asked.parameters) == ["max_tokens", "temperature", "tools"]
