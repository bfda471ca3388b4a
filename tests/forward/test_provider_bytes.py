"""Bytes of providers over real sockets: what callers get, and which failure ends the attempt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.misbehaving_provider import DONE, LAST, ROLE, TEXT, USAGE, answer, call, chunk
from tests.support.scripted_forwarding import TOOL, HttpAnswer, ScriptedForwarder

from assay.v1 import evidence_pb2 as pb

HEARD = "x"
STOP = chunk({}, "stop")
BOM = b"\xef\xbb\xbf"
METADATA = {"X-OpenRouter-Metadata": "enabled"}
ASKED = {"include_usage": True}


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"x": value}
    return value


def whole(**fields: Any) -> bytes:
    return json.dumps({**json.loads(answer({"content": HEARD})), **fields}).encode()


def choice(message: Any, finish: str | None = "stop", **more: Any) -> bytes:
    return whole(choices=[{"index": 0, "message": message, "finish_reason": finish, **more}])


def first_failure(got: HttpAnswer, *, stream: bool) -> str | None:
    """Return the failure of the first attempt; assert that the second answered, if it failed."""
    assert got.status == 200
    told = got.events[-2] if stream else got.json
    attempts = told["openrouter_metadata"]["attempts"]
    failures: list[str | None] = [each.get("failure") for each in attempts]
    assert failures[-1] is None
    assert (len(failures) == 2) is (failures[0] is not None)
    return failures[0]


STREAMS = [
    # id, bytes, failure of the first attempt
    ("a delta that is text", chunk("abc"), "malformed"),  # type: ignore[arg-type] # wrong indeed
    ("a delta that is a list", chunk([]), "malformed"),  # type: ignore[arg-type] # wrong indeed
    ("content that is a number", chunk({"content": 7}), "malformed"),
    ("a numeric finish reason", chunk({}, 7), "malformed"),  # type: ignore[arg-type] # wrong
    ("choices that are an object", event({"choices": {}}), "malformed"),
    ("a choice that is null", event({"choices": [None]}), "malformed"),
    ("a count of tokens that is true", chunk({}, usage={"completion_tokens": True}), "malformed"),
    ("usage that is text", chunk({}, usage="much"), "malformed"),
    ("a value nested 300 levels deep", chunk({"content": "a"}, x=nested(300)), "malformed"),
    ("a delta nested 300 levels deep", chunk({"content": "a", "x": nested(300)}), "malformed"),
    ("a value nested 100,000 levels deep", b"data: " + b"[" * 100_000 + b"\n\n", "malformed"),
    ("half a pair, nested deeply", chunk({"a": "\ud83d", "x": nested(300)}), "malformed"),
    ("arguments nested 300 levels deep", chunk(call(nested(300))), "malformed"),
    ("tool calls that are text", chunk({"tool_calls": "add"}), "malformed"),
    ("a tool call that is null", chunk({"tool_calls": [None]}), "malformed"),
    ("a function that is text", chunk({"tool_calls": [{"function": "add"}]}), "malformed"),
    ("an end and nothing else", ROLE + STOP + DONE, "empty"),
    ("an end without anything before it", STOP, "empty"),
    ("an end with calls but without a call", chunk({"tool_calls": []}, "tool_calls"), "empty"),
    ("parts without text", chunk({"content": [{"type": "text", "text": ""}]}, "stop"), "empty"),
    ("usage and nothing else", event({"choices": [], "usage": USAGE}) + DONE, "empty"),
    ("chunks of nothing", event({}) * 3 + event({"choices": None}) + DONE, "empty"),
    ("keep-alives with empty data", b"data:\n\n" * 3 + b"data: \n\n" + DONE, "empty"),
    ("a bare error with a code", event({"code": 429, "message": "slow"}), "rate_limited"),
    ("a bare error with a status", event({"status": 503, "title": "no"}), "server_error"),
    ("a bare error with a code as text", event({"code": "401"}), "rejected"),
    ("a bare error that calls itself so", event({"object": "error"}), "error_event"),
    ("a bare error with a message", event({"detail": "no"}), "error_event"),
    ("an error in a list", event([{"error": {"code": 429, "message": "slow"}}]), "rate_limited"),
    ("a bare error in a list", event([{"code": 429}]), "rate_limited"),
    ("an error that is text, with a code", event({"error": "slow", "code": 429}), "rate_limited"),
    ("an error with a status", event({"error": {"status": 429, "code": "x"}}), "rate_limited"),
    ("an error in a choice", chunk({}, error=None) + event(
        {"choices": [{"delta": {}, "error": {"code": 429}}]}), "rate_limited"),
    ("an error that is not an event", b'{"error": {"code": 429}}', "rate_limited"),
    ("an error that is not an event, ended", b'{"error": {"code": 429}}\n\n', "rate_limited"),
    ("an error in a list that is not an event", b'[{"error": {"code": 429}}]', "rate_limited"),
    ("an aborted answer", chunk({}, "abort"), "error_event"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "failure"), [pytest.param(sent, row, id=name) for name, sent, row in STREAMS]
)
def test_the_next_endpoint_answers_after_a_stream_that_is_none(
    world: ScriptedForwarder, sent: bytes, failure: str
) -> None:
    got = world.relay(sent, stream=True, headers=METADATA, tools=[TOOL])
    assert first_failure(got, stream=True) == failure
    assert got.text == 'Hello "you" there'
    reported = world.seen(got.decision_id, 2)
    assert reported[0].result != pb.RESULT_ANSWERED
    assert reported[1].result == pb.RESULT_ANSWERED


WHOLES = [
    # id, bytes, failure of the first attempt
    ("a count of tokens that is true", whole(usage={"completion_tokens": True}), "malformed"),
    ("usage that is a list", whole(usage=[1]), "malformed"),
    ("a value nested 300 levels deep", whole(x=nested(300)), "malformed"),
    ("a message nested 300 levels deep", choice({"content": "a", "x": nested(300)}), "malformed"),
    ("arguments nested 300 levels deep", choice(call(nested(300))), "malformed"),
    ("nested 100,000 levels deep", b"[" * 100_000, "malformed"),
    ("not UTF-8", answer({"content": HEARD}).replace(b'"x"', b'"\xff"'), "malformed"),
    ("NaN", whole(x=float("nan")), "malformed"),
    ("choices that are text", whole(choices="x"), "malformed"),
    ("a choice that is text", whole(choices=["x"]), "malformed"),
    ("a message that is a number", choice(7), "malformed"),
    ("tool calls that are an object", choice({"tool_calls": {"a": 1}}), "malformed"),
    ("a tool call that is text", choice({"tool_calls": ["add"]}), "malformed"),
    ("no message", whole(choices=[{"index": 0, "finish_reason": "stop"}]), "empty"),
    ("a message that is null", choice(None), "empty"),
    ("a message that is text", choice("Hello"), "empty"),
    ("a message without content", choice({"role": "assistant"}), "empty"),
    ("content that is null", choice({"role": "assistant", "content": None}), "empty"),
    ("content that is empty", choice({"content": "", "tool_calls": []}), "empty"),
    ("parts without text", choice({"content": [{"type": "text", "text": ""}]}), "empty"),
    ("an end with calls but without a call", choice({"content": None}, "tool_calls"), "empty"),
    ("no end and no content", choice({"content": None}, None), "empty"),
    ("a bare error", b'{"code": 429, "message": "slow"}', "rate_limited"),
    ("an error in a list", b'[{"error": {"code": 503}}]', "server_error"),
    ("an error in a choice", choice(None, None, error={"code": 502}), "server_error"),
    ("a list of answers", b"[" + answer({"content": HEARD}) + b"]", "malformed"),
]


@pytest.mark.parametrize(
    ("sent", "failure"), [pytest.param(sent, row, id=name) for name, sent, row in WHOLES]
)
def test_the_next_endpoint_answers_after_a_body_that_is_no_answer(
    world: ScriptedForwarder, sent: bytes, failure: str
) -> None:
    got = world.relay(sent, headers=METADATA, tools=[TOOL])
    assert first_failure(got, stream=False) == failure
    assert got.json["choices"][0]["message"]["content"] == "Hello"
    reported = world.seen(got.decision_id, 2)
    assert reported[0].result != pb.RESULT_ANSWERED
    assert reported[1].result == pb.RESULT_ANSWERED


@pytest.mark.parametrize(
    "delta",
    [
        pytest.param({"reasoning": "hm"}, id="reasoning"),
        pytest.param({"reasoning_content": "hm"}, id="reasoning by another name"),
        pytest.param({"refusal": "no"}, id="a refusal"),
        pytest.param({"images": [{"image_url": {"url": "data:"}}]}, id="an image"),
        pytest.param({"audio": {"id": "a"}}, id="audio"),
    ],
)
def test_an_answer_without_content_that_shows_something_else_is_an_answer(
    world: ScriptedForwarder, delta: dict[str, Any]
) -> None:
    got = world.relay(choice({"content": None, **delta}), headers=METADATA)
    assert first_failure(got, stream=False) is None
    assert got.json["choices"][0]["message"] == {"content": None, **delta}
    got = world.relay(chunk(delta) + STOP + DONE, stream=True, headers=METADATA)
    assert first_failure(got, stream=True) is None
    assert got.events[0]["choices"][0]["delta"] == delta


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_answer_that_a_limit_or_a_filter_emptied_is_an_answer(
    world: ScriptedForwarder, reason: str
) -> None:
    got = world.relay(choice({"content": ""}, reason), headers=METADATA)
    assert first_failure(got, stream=False) is None
    assert got.json["choices"][0]["finish_reason"] == reason
    got = world.relay(ROLE + chunk({}, reason) + DONE, stream=True, headers=METADATA)
    assert first_failure(got, stream=True) is None
    assert got.events[1]["choices"][0]["finish_reason"] == reason


def test_a_surrogate_pair_that_is_split_over_two_chunks_passes(world: ScriptedForwarder) -> None:
    halves = chunk({"content": "\ud83d"}) + chunk({"content": "\ude00"})
    got = world.relay(ROLE + TEXT[0] + halves + STOP + DONE, "lab/scripted", stream=True)
    assert b'"content":"\\ud83d"' in got.body
    assert b'"content":"\\ude00"' in got.body
    assert got.text == "Hel\ud83d\ude00"
    assert got.events[-1] == "[DONE]"
    got = world.relay(halves + STOP + DONE, "lab/scripted", stream=True)
    assert got.text == "\ud83d\ude00"
    got = world.relay(choice({"content": "a\ud83d"}), "lab/scripted")
    assert got.json["choices"][0]["message"]["content"] == "a\ud83d"


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_message_with_half_a_surrogate_pair_reaches_the_caller(
    world: ScriptedForwarder, *, stream: bool
) -> None:
    error = {"error": {"code": 403, "message": "not \ud83d here"}}
    sent = event(error) if stream else json.dumps(error).encode()
    got = world.relay(sent, "lab/scripted", stream=stream)
    assert got.status == 403
    assert got.json["error"]["message"] == "not ? here"


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(event({}), id="an empty object"),
        pytest.param(event({"id": "c-1"}), id="no choices"),
        pytest.param(event({"choices": None}), id="choices that are null"),
        pytest.param(event({"choices": [], "prompt_filter_results": []}), id="no choice"),
        pytest.param(event({"type": "ping"}), id="a ping"),
        pytest.param(b": ping\n\nevent: ping\n\ndata\n\ndata:\n\n", id="no data"),
    ],
)
def test_chunks_that_show_nothing_are_skipped(world: ScriptedForwarder, odd: bytes) -> None:
    sent = odd + ROLE + odd + TEXT[0] + odd + STOP + odd + DONE
    got = world.relay(sent, stream=True, headers=METADATA)
    assert first_failure(got, stream=True) is None
    *chunks, block, done = got.events
    assert done == "[DONE]"
    assert [each["choices"][0]["delta"].get("content") for each in chunks] == ["", "Hel", None]
    assert block["choices"] == []


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(LAST[1], id="OpenAI's"),
        pytest.param(event({"usage": USAGE}), id="without choices"),
        pytest.param(event({"id": "c-1", "choices": None, "usage": USAGE}), id="choices null"),
    ],
)
def test_usage_comes_last_if_the_caller_asks_for_it(world: ScriptedForwarder, last: bytes) -> None:
    sent = ROLE + TEXT[0] + STOP + last + DONE
    got = world.relay(sent, stream=True, headers=METADATA, stream_options=ASKED)
    *chunks, block, usage, done = got.events
    assert done == "[DONE]"
    assert block["openrouter_metadata"]["attempt"] == 1
    assert (usage["choices"], usage["usage"], usage["provider"]) == ([], USAGE, "scripted")
    assert not any("usage" in each for each in chunks)
    (outcome,) = world.seen(got.decision_id)
    assert outcome.completion_tokens == 2


@pytest.mark.parametrize("end", ["broken", "quiet"])
def test_a_stream_without_an_end_is_complete_once_every_choice_has_ended(
    world: ScriptedForwarder, end: str
) -> None:
    got = world.relay(
        ROLE + TEXT[0] + b"".join(LAST), f"lab/{end}", stream=True, stream_options=ASKED
    )
    *_, usage, done = got.events
    assert (got.text, usage["usage"], done) == ("Hel", USAGE, "[DONE]")
    assert [o.result for o in world.seen(got.decision_id)] == [pb.RESULT_ANSWERED]

    second = event({"choices": [{"index": 1, "delta": {"content": "lo"}}]})
    got = world.relay(second + TEXT[0] + STOP, f"lab/{end}", stream=True)
    assert got.events[-1]["choices"][0]["finish_reason"] == "error"
    assert [o.result for o in world.seen(got.decision_id)] == [pb.RESULT_CUT]


def test_a_whole_answer_that_does_not_say_how_it_ended_gets_a_finish_reason(
    world: ScriptedForwarder,
) -> None:
    got = world.relay(choice({"content": "Hello"}, None), "lab/scripted")
    assert got.json["choices"][0]["finish_reason"] == "stop"
    got = world.relay(choice(call('{"a": 1}'), None), "lab/scripted", tools=[TOOL])
    assert got.json["choices"][0]["finish_reason"] == "tool_calls"


def test_usage_in_every_chunk_comes_once(world: ScriptedForwarder) -> None:
    sent = [chunk({"content": "a"}, usage={"completion_tokens": n}) for n in range(3)]
    sent.append(chunk({}, "stop", usage=USAGE))
    got = world.relay(b"".join(sent) + DONE, stream=True, usage={"include": True})
    *chunks, usage, _ = got.events
    assert usage["usage"] == USAGE
    assert usage["choices"] == []
    assert got.text == "aaa"
    assert not any("usage" in each for each in chunks)


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
def test_usage_is_left_out_if_the_caller_does_not_ask(
    world: ScriptedForwarder, options: dict[str, Any] | None
) -> None:
    sent = ROLE + TEXT[0] + b"".join(LAST) + DONE
    got = world.relay(sent, stream=True, stream_options=options)
    *chunks, done = got.events
    assert done == "[DONE]"
    assert all(len(each["choices"]) == 1 and "usage" not in each for each in chunks)
    (outcome,) = world.seen(got.decision_id)
    assert outcome.completion_tokens == 2


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(BOM + ROLE + TEXT[0] + STOP + DONE, id="a byte order mark first"),
        pytest.param((ROLE + TEXT[0] + STOP + DONE).replace(b"\n", b"\r"), id="CR at line ends"),
        pytest.param((ROLE + TEXT[0] + STOP + DONE).replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param((ROLE + TEXT[0] + STOP + DONE).replace(b"data: ", b"data:"), id="no space"),
        pytest.param(b"retry: 5\nid: 1\n" + TEXT[0] + STOP + DONE, id="other fields"),
        pytest.param(TEXT[0].replace(b',"choices"', b'\ndata: ,"choices"') + STOP, id="two lines"),
        pytest.param(b"\n\n\n" + TEXT[0] + b"\n" + STOP, id="empty lines"),
    ],
)
def test_event_streams_are_read_by_their_standard(world: ScriptedForwarder, sent: bytes) -> None:
    got = world.relay(sent, stream=True, headers=METADATA)
    assert first_failure(got, stream=True) is None
    assert got.text == "Hel"


def test_bytes_that_are_not_utf8_are_replaced_in_a_stream(world: ScriptedForwarder) -> None:
    odd = TEXT[0].replace(b"Hel", b"H\xffl")
    got = world.relay(odd + TEXT[0] + odd + STOP + DONE, "lab/scripted", stream=True)
    assert got.text == "H\ufffdlHelH\ufffdl"


def test_a_byte_order_mark_before_a_whole_answer_is_dropped(world: ScriptedForwarder) -> None:
    got = world.relay(BOM + answer({"content": HEARD}), "lab/scripted")
    assert got.json["choices"][0]["message"]["content"] == HEARD


def test_an_event_may_be_as_long_as_a_whole_answer(world: ScriptedForwarder) -> None:
    image = "A" * (8 * 1024 * 1024)
    got = world.relay(chunk({"images": [image]}) + STOP + DONE, "lab/scripted", stream=True)
    assert got.status == 200
    assert got.events[0]["choices"][0]["delta"]["images"] == [image]


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        pytest.param("max_tokens", "length", id="a limit"),
        pytest.param("MAX_TOKENS", "length", id="a limit in capitals"),
        pytest.param("SAFETY", "content_filter", id="a filter"),
        pytest.param("end_turn", "stop", id="an end"),
        pytest.param("<|im_end|>", "stop", id="an unknown word"),
    ],
)
def test_a_finish_reason_that_clients_do_not_know_gets_openais_word(
    world: ScriptedForwarder, stated: str, reason: str
) -> None:
    got = world.relay(choice({"content": HEARD}, stated), "lab/scripted")
    (ended,) = got.json["choices"]
    assert (ended["finish_reason"], ended["native_finish_reason"]) == (reason, stated)
    sent = TEXT[0] + chunk({}, "") + chunk({}, stated) + DONE
    _, unended, last, _ = world.relay(sent, "lab/scripted", stream=True).events
    assert unended["choices"][0]["finish_reason"] is None
    (ended,) = last["choices"]
    assert (ended["finish_reason"], ended["native_finish_reason"]) == (reason, stated)
