"""Simulated providers over HTTP: answers, faults, records and control."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from tests.support.simulated_providers import WEATHER, SimulatedProviders, events, simulating
from tests.support.waiting import DEADLINE_SECONDS, eventually

KEY = "canary-key"
MOMENT = 0.3  # seconds after which a provider counts as silent


@pytest.fixture(scope="module")
def stage() -> Iterator[SimulatedProviders]:
    with simulating("--seed", 7) as simulated:
        yield simulated


def begun(
    stage: SimulatedProviders, provider: str, *, stream: bool
) -> tuple[HTTPConnection, HTTPResponse]:
    """Return the connection and the head of an answer; the test closes it."""
    connection = HTTPConnection(stage.address, timeout=DEADLINE_SECONDS)
    body = {"model": "some", "messages": [], "stream": stream}
    connection.request("POST", f"/{provider}/v1/chat/completions", json.dumps(body))
    return connection, connection.getresponse()


def test_a_plain_answer_is_one_chat_completion(stage: SimulatedProviders) -> None:
    status, body = stage.complete("plain")
    answer = json.loads(body)

    assert (status, answer["object"], answer["model"]) == (200, "chat.completion", "some")
    assert answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 12


def test_a_stream_has_the_content_of_a_json_answer(stage: SimulatedProviders) -> None:
    chunks = events(stage.complete("streamed", stream=True)[1])

    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert len(text.split()) == 12
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert not any("usage" in chunk for chunk in chunks)


def test_usage_comes_last_if_requested(stage: SimulatedProviders) -> None:
    chunks = events(stage.complete("usage", stream=True, stream_options={"include_usage": True})[1])

    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 12


def test_tool_calls_are_complete_in_json_and_in_pieces_in_streams(
    stage: SimulatedProviders,
) -> None:
    stage.play("tools", parallel=1.0)
    plain = json.loads(stage.complete("tools", tools=[WEATHER])[1])["choices"][0]
    chunks = events(stage.complete("tools", tools=[WEATHER], stream=True)[1])

    assert plain["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert [call["function"]["name"] for call in plain["message"]["tool_calls"]] == [
        "weather",
        "weather",
    ]
    pieces: dict[int, str] = {}
    for chunk in chunks:
        for call in chunk["choices"][0]["delta"].get("tool_calls", ()):
            pieces[call["index"]] = pieces.get(call["index"], "") + call["function"]["arguments"]
    assert all("place" in json.loads(one) for one in pieces.values())
    assert len(pieces) == 2


def test_the_same_seed_gives_the_same_answers(stage: SimulatedProviders) -> None:
    with simulating("--seed", 7) as same, simulating("--seed", 8) as other:
        answers = [
            [json.loads(one.complete("again")[1])["choices"] for _ in range(3)]
            for one in (stage, same, other)
        ]

    assert answers[0] == answers[1] != answers[2]


def test_records_hold_no_key_and_no_prompt(stage: SimulatedProviders) -> None:
    connection = HTTPConnection(stage.address, timeout=DEADLINE_SECONDS)
    with closing(connection):
        body = {
            "model": "some",
            "messages": [{"role": "user", "content": "canary-prompt"}],
            "tools": [WEATHER],
            "top_k": 3,
        }
        connection.request(
            "POST",
            "/seen/v1/chat/completions",
            json.dumps(body),
            {"Authorization": f"Bearer {KEY}", "X-Title": "test"},
        )
        connection.getresponse().read()
    (seen,) = stage.seen("seen")

    assert seen["headers"]["authorization"] == "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()
    assert seen["headers"]["x-title"] == "test"
    assert (seen["method"], seen["path"]) == ("POST", "/seen/v1/chat/completions")
    assert (seen["model"], seen["stream"], seen["messages"], seen["tools"]) == ("some", False, 1, 1)
    assert seen["fields"] == {"model": "some", "top_k": 3}
    assert (seen["number"], seen["fault"], seen["end"]) == (1, None, "sent")
    assert "canary" not in json.dumps(seen)
    assert stage.seen("unknown") == []


ERROR = b'"finish_reason":"error"'
FAULTS = [
    # kind and fields, status, body of a plain answer, body of a stream; None: broken off
    pytest.param(
        {"kind": "status", "status": 503},
        503,
        b"simulated status 503",
        b"simulated status 503",
        id="status",
    ),
    pytest.param(
        {"kind": "redirect", "location": "http://10.0.0.1/"}, 307, b"", b"", id="redirect"
    ),
    pytest.param({"kind": "cut", "after": 2}, 200, None, None, id="cut"),
    pytest.param({"kind": "half_closed", "after": 2}, 200, None, None, id="half closed"),
    pytest.param(
        {"kind": "error_event", "after": 1}, 200, b'{"error":', b'data: {"error":', id="error event"
    ),
    pytest.param({"kind": "error_finish", "after": 1}, 200, ERROR, ERROR, id="error finish"),
    pytest.param({"kind": "empty"}, 200, b"", b"", id="empty"),
    pytest.param({"kind": "empty", "done": True}, 200, b"", b"data: [DONE]", id="empty and done"),
    pytest.param({"kind": "malformed", "after": 1}, 200, b"{", b"data: {", id="malformed"),
    pytest.param({"kind": "garbage"}, 200, b"", b"", id="garbage"),
    pytest.param({"kind": "not_http"}, None, None, None, id="not HTTP"),
    pytest.param({"kind": "dropped"}, None, None, None, id="dropped"),
    pytest.param({"kind": "no_headers"}, None, None, None, id="no headers"),
    pytest.param({"kind": "stall"}, 200, None, None, id="no token"),
    pytest.param({"kind": "stall", "after": 3}, 200, None, None, id="stalls on the way"),
    pytest.param({"kind": "endless_line"}, 200, None, None, id="endless line"),
]


@pytest.mark.parametrize(
    "stream", [pytest.param(False, id="plain"), pytest.param(True, id="stream")]
)
@pytest.mark.parametrize(("fault", "status", "plain", "streamed"), FAULTS)
def test_a_fault_affects_its_provider_only(
    stage: SimulatedProviders,
    *,
    stream: bool,
    fault: dict[str, Any],
    status: int | None,
    plain: bytes | None,
    streamed: bytes | None,
) -> None:
    stage.forget()
    stage.play("faulty", fault)
    expected = streamed if stream else plain
    connection = HTTPConnection(
        stage.address, timeout=MOMENT if expected is None else DEADLINE_SECONDS
    )
    seen_status = body = None
    with closing(connection):
        connection.request(
            "POST",
            "/faulty/v1/chat/completions",
            json.dumps({"model": "m", "messages": [], "stream": stream}),
        )
        try:
            answer = connection.getresponse()
            seen_status = answer.status
            body = answer.read(10_000_000) if fault["kind"] == "endless_line" else answer.read()
        except (HTTPException, OSError):
            body = None

    assert seen_status == status
    if fault["kind"] == "endless_line":
        assert body is not None
        assert len(body) == 10_000_000
        assert b"\n" not in body
    elif expected is None:
        assert body is None
    else:
        assert body is not None
        assert expected in body
    (seen,) = eventually(lambda: stage.seen("faulty"), lambda found: found[0]["end"] != "open")
    assert seen["fault"] == fault["kind"]
    assert stage.complete("faultless")[0] == 200


def test_retry_after_is_sent(stage: SimulatedProviders) -> None:
    stage.play("busy", {"kind": "status", "status": 429, "retry_after": "2"})
    connection, answer = begun(stage, "busy", stream=False)

    with closing(connection):
        assert (answer.status, answer.getheader("Retry-After")) == (429, "2")


def test_a_disconnect_is_recorded_as_cancelled_at_once(stage: SimulatedProviders) -> None:
    stage.play("slow", chunk_s=30)
    connection, answer = begun(stage, "slow", stream=True)
    answer.readline()
    left = time.time()
    answer.close()
    connection.close()

    (seen,) = eventually(lambda: stage.seen("slow"), lambda found: found[0]["end"] != "open")
    assert seen["end"] == "cancelled"
    assert seen["ended"] - left < 5


def test_faults_affect_their_share_of_requests(stage: SimulatedProviders) -> None:
    stage.play(
        "shares", {"kind": "status", "status": 500, "share": 0.3}, {"kind": "empty", "share": 0.2}
    )
    for _ in range(300):
        stage.complete("shares")

    struck = [seen["fault"] for seen in stage.seen("shares")]
    assert struck.count("status") / 300 == pytest.approx(0.3, abs=0.1)
    assert struck.count("empty") / 300 == pytest.approx(0.2, abs=0.1)


def test_configured_times_are_waited(stage: SimulatedProviders) -> None:
    stage.play("timed", latency_s=0.1, first_token_s=0.1, chunk_s=0.01, tokens=10)
    began = time.monotonic()
    stage.complete("timed", stream=True)

    assert time.monotonic() - began > 0.3


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"accuracy": 2}, id="out of range"),
        pytest.param({"odd": 1}, id="unknown"),
        [],
        "x",
    ],
)
def test_an_invalid_change_changes_nothing(stage: SimulatedProviders, change: object) -> None:
    before = stage.control("GET", "providers")
    status, body = stage.ask("PATCH", "/control/providers/plain", change)

    assert status == 400
    assert json.loads(body)["error"]["message"]
    assert stage.control("GET", "providers") == before


@pytest.mark.parametrize(
    "body", [pytest.param([], id="a list"), pytest.param({}, id="no messages")]
)
def test_an_invalid_request_is_rejected(stage: SimulatedProviders, body: object) -> None:
    assert stage.ask("POST", "/plain/v1/chat/completions", body)[0] == 400


def test_only_providers_in_the_file_answer(tmp_path: Path) -> None:
    cast = {"seed": 3, "providers": {"one": {"tokens": 2}}}
    with simulating(cast=cast, folder=tmp_path) as stage:
        assert json.loads(stage.complete("one")[1])["usage"]["completion_tokens"] == 2
        assert stage.complete("two")[0] == 404
        assert [seen["provider"] for seen in stage.seen()] == ["one", "two"]


def test_it_stops_while_answers_are_in_progress(tmp_path: Path) -> None:
    cast = {"providers": {"mute": {"faults": [{"kind": "no_headers"}]}}}
    with simulating(cast=cast, folder=tmp_path) as stage:
        connection = HTTPConnection(stage.address, timeout=DEADLINE_SECONDS)
        with closing(connection):
            connection.request("POST", "/mute/v1/chat/completions", '{"messages": []}')
            eventually(stage.seen)
            stage.process.send_signal(signal.SIGTERM)
            assert stage.process.wait(DEADLINE_SECONDS) == 0
