"""Streams byte by byte: however they are cut, each chunk is relayed once with new names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from assay.forward.answer_summary import AnswerSummary
from assay.forward.request import EndpointCapabilities, read_request
from assay.forward.stream import MAX_EVENT_BYTES, ChunkRelay, EventSplitter, EventTooLong

NAMES = {"model": "lab/m", "provider": "p"}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', "\\", '\\"', "data: ", "\n\n"]
)
SPELLINGS = st.builds(
    json.JSONEncoder,
    separators=st.sampled_from([(",", ":"), (", ", ": ")]),
    ensure_ascii=st.booleans(),
)
LINE_ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n"])


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "created": 1, "model": "theirs", "choices": [choice], **more}


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def text(content: str) -> bytes:
    return event(chunk({"content": content}))


def decode_events(data: bytes) -> list[Any]:
    return [json.loads(part.removeprefix(b"data: ")) for part in data.split(b"\n\n") if part]


def contents(data: bytes) -> list[Any]:
    return [each["choices"][0]["delta"].get("content") for each in decode_events(data)]


def relay_all(blocks: list[bytes], relay: ChunkRelay | None = None) -> tuple[bytes, ChunkRelay]:
    """Return what callers get for the blocks of bytes that arrive, as attempts relay them."""
    relay = relay or ChunkRelay(AnswerSummary(), NAMES)
    relayed = []
    for data in blocks:
        relayed.append(relay.relay(data))
        if relay.error or relay.done:
            break
    else:
        relayed.append(relay.finish())
    return b"".join(relayed), relay


FUNCTION = {"name": "f", "arguments": "{}"}
CALL = {"index": 0, "id": "t", "type": "function", "function": FUNCTION}
CHUNK = st.one_of(
    TEXTS.map(lambda text: chunk({"content": text})),
    TEXTS.map(lambda text: chunk({"content": text}, system_fingerprint="fp")),
    TEXTS.map(lambda text: chunk({"content": "", "reasoning": text})),
    TEXTS.map(
        lambda text: chunk({"content": text}, provider="theirs", usage={"completion_tokens": 3})
    ),
    TEXTS.map(lambda text: {**chunk({"content": text}), "created": 2, "x": {"model": "theirs"}}),
    TEXTS.map(lambda text: chunk({"content": text}, "length")),
    st.builds(lambda: chunk({"tool_calls": [CALL]})),
    st.just({"id": "c", "choices": []}),
)


@given(st.lists(CHUNK, max_size=12), SPELLINGS, LINE_ENDS, st.data())
def test_only_the_names_of_chunks_change(
    sent: list[dict[str, Any]], spelling: json.JSONEncoder, end: bytes, data: st.DataObject
) -> None:
    number_calls(sent)
    encoded = [spelling.encode(each).encode() for each in sent]
    stream = (
        b"".join(b": ping" + end + b"data: " + each + end for each in encoded)
        + b"data: [DONE]"
        + end
        + b"garbage"
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    blocks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    relayed, relay = relay_all(blocks)
    assert decode_events(relayed) == [
        {"system_fingerprint": None, **without_usage(each), **NAMES}
        for each in sent
        if each["choices"]
    ]
    assert (relay.done, relay.error) == (True, None)


def number_calls(chunks: list[dict[str, Any]]) -> None:
    """Replace each chunk's calls by one with the next index and an id of its own."""
    deltas = [choice["delta"] for each in chunks for choice in each["choices"]]
    for number, delta in enumerate(delta for delta in deltas if "tool_calls" in delta):
        delta["tool_calls"] = [{**CALL, "index": number, "id": f"t{number}"}]


def without_usage(chunk: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in chunk.items() if name != "usage"}


class CountingRelay(ChunkRelay):
    """Counts the events that are parsed."""

    parsed = 0

    def _parse_event(self, event: bytes) -> bytes:
        self.parsed += 1
        return super()._parse_event(event)


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_chunks_with_nothing_but_text_are_relayed_without_being_parsed(size: int) -> None:
    sent = [chunk({"content": f"t{number}"}) for number in range(200)]
    stream = b"".join(event(each) for each in sent)
    blocks = [stream[start : start + size] for start in range(0, len(stream), size)]
    relay = CountingRelay(AnswerSummary(), NAMES)
    relayed, _ = relay_all(blocks, relay)
    assert decode_events(relayed) == [
        {**each, **NAMES, "system_fingerprint": None} for each in sent
    ]
    assert relay.parsed == 1


WITH_TOOL = (
    b'{"model": "m", "messages": [], "tools": [{"type": "function", "function": {"name": "f"}}]}'
)


def test_a_tool_call_between_two_texts_in_one_read_is_counted() -> None:
    request = read_request(WITH_TOOL, tenant="", session_id="", request_id="")
    summary = AnswerSummary(request.fields["tools"])
    relay = ChunkRelay(summary, NAMES)
    relayed, _ = relay_all(
        [text("a"), text("b") + event(chunk({"tool_calls": [CALL]})) + text("c")], relay
    )
    assert contents(relayed) == ["a", "b", None, "c"]
    use = summary.tool_use(request.tool_use(EndpointCapabilities()))
    assert use is not None
    assert (use.tool_call_requests, use.tool_calls, use.errored_requests) == (1, 1, 0)


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(event({"error": {"message": "overloaded"}}), id="an error event"),
        pytest.param(event(chunk({}, "error")), id="a finish reason of error"),
        pytest.param(event([]), id="not a chunk"),
        pytest.param(text("x").replace(b'"x"', b'"x\\"'), id="a text without an end"),
    ],
)
def test_a_failure_between_two_texts_in_one_read_ends_the_stream(between: bytes) -> None:
    relayed, relay = relay_all([text("a"), text("b") + between + text("c")])
    assert contents(relayed) == ["a", "b"]
    assert relay.error is not None


def test_a_text_that_ends_in_a_lone_backslash_is_not_valid_json() -> None:
    relayed, relay = relay_all([text("a"), text("x").replace(b'"x"', b'"x\\"'), text("c")])
    assert contents(relayed) == ["a"]
    assert relay.error is not None
    assert relay.error.kind.name == "malformed"


def test_a_text_with_a_single_quote_around_it_is_not_valid_json() -> None:
    """The quote may not count twice, as the end of the pattern's head and the begin of its tail."""
    relayed, relay = relay_all([text("a"), text("").replace(b'""', b'"'), text("c")])
    assert contents(relayed) == ["a"]
    assert relay.error is not None
    assert relay.error.kind.name == "malformed"


@pytest.mark.parametrize("burst", [False, True], ids=["alone", "among others"])
def test_a_tool_call_between_the_text_and_another_text_of_one_delta_is_seen(*, burst: bool) -> None:
    """The bytes begin and end like the pattern's."""
    request = read_request(WITH_TOOL, tenant="", session_id="", request_id="")
    summary = AnswerSummary(request.fields["tools"])
    hidden = event(chunk({"content": "b", "tool_calls": [CALL], "x": "c"}))
    sent = text("b") + hidden + text("c") if burst else hidden
    relay_all([text("a"), sent], ChunkRelay(summary, NAMES))
    use = summary.tool_use(request.tool_use(EndpointCapabilities()))
    assert use is not None
    assert use.tool_calls == 1


@pytest.mark.parametrize("burst", [False, True], ids=["alone", "among others"])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"a\tb", id="a tab"),
        pytest.param(b"a\nb", id="a line feed"),
        pytest.param(b"a\x00b", id="a zero byte"),
        pytest.param(b"a\\qb", id="an escape that JSON does not have"),
        pytest.param(b"a\\u12", id="a cut escape"),
        pytest.param(b"a\\", id="half an escape"),
    ],
)
def test_a_text_that_is_not_the_inside_of_a_json_string_is_malformed(
    content: bytes, *, burst: bool
) -> None:
    odd = text("x").replace(b'"x"', b'"%b"' % content)
    relayed, relay = relay_all([text("a"), text("b") + odd + text("c") if burst else odd])
    assert contents(relayed) == (["a", "b"] if burst else ["a"])
    assert relay.error is not None
    assert relay.error.kind.name == "malformed"


@pytest.mark.parametrize("burst", [False, True], ids=["alone", "among others"])
def test_text_that_is_not_utf8_is_replaced(*, burst: bool) -> None:
    halves = [text("x").replace(b'"x"', b'"%b"' % half) for half in (b"\xc3", b"\xa9")]
    relayed, relay = relay_all([text("a"), b"".join(halves)] if burst else [text("a"), *halves])
    assert contents(relayed) == ["a", "\ufffd", "\ufffd"]
    assert relay.error is None


@pytest.mark.parametrize("content", ["\\n", "\\u00e9", "\\ud83d", "\\ude00", "\\/", "\\\\"])
def test_a_text_with_escapes_is_relayed_without_being_parsed(content: str) -> None:
    relay = CountingRelay(AnswerSummary(), NAMES)
    odd = text("x").replace(b'"x"', b'"%b"' % content.encode())
    relayed, _ = relay_all([text("a"), odd, odd + text("b") + odd], relay)
    assert contents(relayed) == [
        "a",
        *[json.loads(f'"{content}"')] * 2,
        "b",
        json.loads(f'"{content}"'),
    ]
    assert relay.parsed == 1


def test_another_field_with_the_name_of_the_text_is_left_alone() -> None:
    """The two spellings make the other field the first match in our event, but not in theirs."""
    first = b'data: {"x":{"content": "a"},"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    second = first.replace(b'{"content":"a"}', b'{"content":"b"}')
    relayed, _ = relay_all([first, second])
    assert contents(relayed) == ["a", "b"]
    assert [each["x"] for each in decode_events(relayed)] == [{"content": "a"}] * 2


def test_usage_and_the_end_between_two_texts_in_one_read_are_noticed() -> None:
    summary = AnswerSummary()
    end = event(chunk({}, "stop")) + event({"choices": [], "usage": {"completion_tokens": 7}})
    relay_all([text("a"), text("b") + end + text("c")], ChunkRelay(summary, NAMES))
    assert (summary.finished, summary.tokens) == (True, 7)


def test_what_follows_done_in_the_same_read_is_dropped() -> None:
    relayed, relay = relay_all([text("a") + b"data: [DONE]\n\n" + text("b")])
    assert contents(relayed) == ["a"]
    assert relay.done


def test_an_event_without_an_end_exceeds_the_limit() -> None:
    splitter = EventSplitter()
    assert splitter.split(b"x" * MAX_EVENT_BYTES) == b""
    with pytest.raises(EventTooLong):
        splitter.split(b"x")


def test_the_last_event_may_lack_its_empty_line() -> None:
    relayed, relay = relay_all([event(chunk({"content": "a"}, "stop")) + b"data: [DONE]"])
    assert decode_events(relayed)[0]["choices"][0]["delta"] == {"content": "a"}
    assert relay.done


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        pytest.param(b"{", "malformed", 200, id="not JSON"),
        pytest.param(b"[]", "malformed", 200, id="not a chunk"),
        pytest.param(b'{"message": "no"}', "error_event", 200, id="a message and no choices"),
        pytest.param(b'{"error": {"message": "x"}}', "error_event", 200, id="error"),
        pytest.param(
            b'{"error": {"code": "429"}}', "rate_limited", 429, id="error with a code as text"
        ),
        pytest.param(b'{"error": {"code": 502}}', "server_error", 502, id="error with a code"),
        pytest.param(
            b'{"error": {"code": 10e400}}', "malformed", 200, id="error with a number too large"
        ),
        pytest.param(
            b'{"choices": [{"finish_reason": "error"}]}', "error_event", 200, id="ended in an error"
        ),
        pytest.param(b'{"choices": [1]}', "malformed", 200, id="odd choice"),
    ],
)
def test_an_event_that_is_not_a_chunk_ends_the_stream(data: bytes, kind: str, status: int) -> None:
    relayed, relay = relay_all([text("a") + b"data: " + data + b"\n\n" + text("a")])
    assert len(decode_events(relayed)) == 1
    assert relay.error is not None
    assert (relay.error.kind.name, relay.error.status) == (kind, status)


@pytest.mark.parametrize(
    ("delta", "has_token"),
    [
        ({"role": "assistant", "content": ""}, False),
        ({"content": None}, False),
        ({}, False),
        ({"content": " "}, True),
        ({"reasoning_content": "hm"}, True),
        ({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}, True),
        ({"refusal": "no"}, True),
    ],
)
def test_a_role_is_not_a_token(delta: dict[str, Any], *, has_token: bool) -> None:
    summary = AnswerSummary()
    summary.add_chunk(chunk(delta))
    assert summary.has_token is has_token
