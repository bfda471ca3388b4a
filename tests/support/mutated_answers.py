"""Answers of providers, mutations of their bytes, and how an attempt reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any, Final

from assay.forward.answer_summary import AnswerSummary
from assay.forward.errors import ErrorReply
from assay.forward.reply import error_body
from assay.forward.request import ChatRequest, EndpointCapabilities, read_request
from assay.forward.stream import ChunkRelay, EventTooLong
from assay.forward.taxonomy import CUT, EMPTY, HTTP_OK, MALFORMED, TABLE, AttemptError
from assay.toolcalls.json_values import decode_json, encode_json
from assay.v1 import evidence_pb2 as pb

TOOLS: Final = [
    {"type": "function", "function": {"name": "read_file", "parameters": {"required": ["path"]}}},
    {"type": "function", "function": {"name": "now", "parameters": {}}},
    {"type": "custom", "custom": {"name": "shell"}},
]
REQUEST: Final = json.dumps(
    {
        "model": "lab/m",
        "messages": [{"role": "user", "content": "read"}],
        "tools": TOOLS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
).encode()
NAMES: Final = {"model": "lab/m", "provider": "p"}
_DONE: Final = "data: [DONE]\n\n"


def _stream(head: str, *choices: str, after: str = "") -> bytes:
    events = [f'data: {{{head},"choices":[{choice}]}}\n\n' for choice in choices]
    return "".join([*events, after, _DONE]).encode()


def _text_choice(text: str, rest: str) -> str:
    return f'{{"index":0,"delta":{{"content":"{text}"}},{rest}}}'


_OPENAI: Final = (
    '"id":"chatcmpl-B9","object":"chat.completion.chunk","created":1741570283,'
    '"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_44709d6fcb"'
)
_VLLM: Final = '"id":"chatcmpl-9f","object":"chat.completion.chunk","created":17,"model":"kimi"'
_USAGE: Final = '"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}'

# The shapes in which servers send streams: the fields, their order and their spelling.
STREAMS: Final[dict[str, bytes]] = {
    "text": _stream(
        _OPENAI,
        '{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}',
        *(
            _text_choice(text, '"logprobs":null,"finish_reason":null')
            for text in ("Hello", " \\u00e9", "\\ud83d", "\\ude00", ' \\"you\\"', "\\n", "é☃")
        ),
        '{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}',
        after=f'data: {{{_OPENAI},"choices":[],{_USAGE}}}\n\n',
    ),
    "calls": _stream(
        _OPENAI,
        '{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,'
        '"id":"call_1","type":"function","function":{"name":"read_file","arguments":""}}]},'
        '"finish_reason":null}',
        *(
            '{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"'
            + text
            + '"}}]},"finish_reason":null}'
            for text in ('{\\"', "path", '\\":\\"', "a", '\\"}')
        ),
        '{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_2","type":"custom",'
        '"custom":{"name":"shell","input":"ls"}}]},"finish_reason":null}',
        '{"index":0,"delta":{},"finish_reason":"tool_calls"}',
    ),
    "calls at one index": _stream(
        _VLLM,
        '{"index":0,"delta":{"role":"assistant","content":"a"}}',
        '{"index":0,"delta":{"tool_calls":[{"index":0,"id":"s","function":{"name":"read_",'
        '"arguments":{"path":"a"}}}]}}',
        '{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"file"}}]}}',
        '{"index":0,"delta":{"tool_calls":[{"id":"t","function":{"name":"now","arguments":""}}]},'
        '"finish_reason":"stop","native_finish_reason":"STOP"}',
        after=f": ping\n\ndata: {{{_USAGE}}}\n\n",
    ),
    "reasoning with CRLF": _stream(
        _VLLM,
        '{"index": 0, "delta": {"role": "assistant", "reasoning_content": "hm"}}',
        *(f'{{"index": 0, "delta": {{"content": "t{number}"}}}}' for number in range(6)),
        '{"index": 0, "delta": {"content": ""}, "finish_reason": "length"}',
    ).replace(b"\n", b"\r\n"),
    "two choices": _stream(
        _VLLM,
        *(f'{{"index":{number % 2},"delta":{{"content":"a"}}}}' for number in range(4)),
        '{"index":0,"delta":{},"finish_reason":"stop"},{"index":1,"delta":{},'
        '"finish_reason":"content_filter"}',
    ),
    "an error": _stream(
        _VLLM,
        '{"index":0,"delta":{"content":"a"},"finish_reason":null}',
        after='data: {"error":{"message":"slow down","code":429,"type":"rate_limit"}}\n\n',
    ),
    "a bare error": b'[{"error": {"code": 503, "message": "high demand", "status": "NO"}}]\n',
}
BODIES: Final[dict[str, bytes]] = {
    "text": json.dumps({
        "id": "c", "object": "chat.completion", "created": 7, "model": "theirs",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "H\u00e9 \U0001f600"},
                     "logprobs": {"content": [{"token": "H", "logprob": -0.3, "bytes": [72]}]},
                     "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }).encode(),
    "calls": json.dumps({
        "id": "c", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": None, "tool_calls": [
                {"id": "s", "type": "function",
                 "function": {"name": "read_file", "arguments": '{"path": "a"}'}},
                {"type": "function", "function": {"name": "now", "arguments": {}}},
                {"id": "u", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
            ]}}],
        "usage": {"completion_tokens": 2.0},
    }).encode(),
    "parts": b'\n {"choices": [{"message": {"content": [{"type": "text", "text": "a\\ud83d"}], '
             b'"images": [{"image_url": {"url": "data:"}}]}}, {"message": {"refusal": "no"}, '
             b'"finish_reason": "max_tokens"}], "usage": null, "x": 1e30}',
    "an error": b'{"error": {"message": "no", "code": "context_length_exceeded", "status": 400}}',
}  # fmt: skip

_ODD_VALUES: Final = [
    b"null", b"true", b"7", b"-1", b"1e999", b"1" * 30, b'""', b'"x"', b"{}", b"[]", b"[null]",
    b"[{}]", b'"\\ud83d"', b'"error"', b"[" * 300 + b"]" * 300, b'{"a":' * 300 + b"1" + b"}" * 300,
]  # fmt: skip
_ODD_BYTES: Final = [
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\n", b"\n\n", b"\r", b"\r\n", b'"', b"\\", b"\\u", b"{",
    b"}", b"[", b"]", b",", b":", b"data:", b"data: ", b"[DONE]", b"event: x\n", b": c\n\n", b" ",
    b'"error":{"code":429},', b'"choices":[],', b'"finish_reason":"stop",', b'"tool_calls":[{}],',
]  # fmt: skip
_JSON_STARTS: Final = b'"{[0123456789tfn'


def mutate(data: bytes, random: Random) -> bytes:
    """Return data with one to four random changes."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        data = random.choice(_MUTATIONS)(data, random)
    return data


def _flip(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + bytes([random.randrange(256)]) + data[place + 1 :]


def _insert(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.choice(_ODD_BYTES) + data[place:]


def _delete(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + data[place + random.choice((1, 2, 8, 40, 400)) :]


def _truncate(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _repeat(data: bytes, random: Random) -> bytes:
    begin = random.randrange(len(data) + 1)
    end = begin + random.choice((1, 10, 100, 400))
    times = random.choice((2, 2, 2, 3, 50))
    return data[:begin] + data[begin:end] * times + data[end:]


def _repeat_event(data: bytes, random: Random) -> bytes:
    events = data.split(b"\n\n")
    events.insert(random.randrange(len(events) + 1), random.choice(events))
    return b"\n\n".join(events)


def _swap_events(data: bytes, random: Random) -> bytes:
    events = data.split(b"\n\n")
    random.shuffle(events)
    return b"\n\n".join(events)


def _replace_value(data: bytes, random: Random) -> bytes:
    """Replace the value of a random field by an odd one."""
    colons = [place for place, byte in enumerate(data) if byte == ord(":")]
    if not colons:
        return data
    begin = random.choice(colons) + 1
    begin += data[begin : begin + 1] == b" "
    if not data[begin : begin + 1] or data[begin] not in _JSON_STARTS:
        return data
    try:
        _, length = json.JSONDecoder().raw_decode(data[begin:].decode("latin-1"))
    except (ValueError, RecursionError):
        return data
    return data[:begin] + random.choice(_ODD_VALUES) + data[begin + length :]


_MUTATIONS: Final[list[Callable[[bytes, Random], bytes]]] = [
    _flip, _insert, _delete, _truncate, _repeat, _repeat_event, _swap_events,
    _replace_value, _replace_value, _replace_value, _replace_value,
]  # fmt: skip


def read_stream(data: bytes, random: Random) -> tuple[str, bytes]:
    """Read a stream in random pieces as attempts do; return the failure's name and the outcome.

    The name is `answered` if there is no failure. Exceptions that attempts do not expect pass.
    """
    request = _request()
    summary = AnswerSummary(request.fields["tools"])
    relay = ChunkRelay(summary, NAMES, wants_usage=True)
    relayed = []
    try:
        size = random.choice((1 << 16, 300, 40, 7))
        for start in range(0, len(data), size):
            relayed.append(relay.relay(data[start : start + size]))
            if relay.error or relay.done:
                break
        else:
            relayed.append(relay.finish())
        told = b"".join(relayed)
        error = relay.error
    except EventTooLong:
        told, error = b"".join(relayed), AttemptError(MALFORMED, HTTP_OK)
    if error is None and not (summary.finished and summary.has_token):
        error = AttemptError(CUT if summary.has_token else EMPTY, HTTP_OK)
    if error is None:
        _check_tool_use(summary, request)
    return _name(error), told + relay.usage_event


def read_whole(data: bytes) -> tuple[str, bytes]:
    """Read a whole answer as attempts do; return the failure's name and the outcome."""
    request = _request()
    summary = AnswerSummary(request.fields["tools"])
    try:
        answer = summary.add_answer(decode_json(data))
        told = encode_json(answer)
    except AttemptError as error:
        return _name(error), b""
    except ValueError:
        return MALFORMED.name, b""
    _check_tool_use(summary, request)
    return "answered", told


def _request() -> ChatRequest:
    return read_request(REQUEST, tenant="", session_id="", request_id="")


def _name(error: AttemptError | None) -> str:
    if error is None:
        return "answered"
    assert error.kind in TABLE
    assert error_body(ErrorReply(503, error.message, error.kind.name))
    return error.kind.name


def _check_tool_use(summary: AnswerSummary, request: ChatRequest) -> None:
    """Assert that the outcome is one that the service accepts."""
    use = summary.tool_use(request.tool_use(EndpointCapabilities()))
    assert use is not None
    pb.Outcome(tools=use, completion_tokens=summary.tokens).SerializeToString()
    bad = use.invalid_json + use.unknown_name + use.schema_mismatch
    assert bad <= use.tool_calls
    assert bool(bad) <= use.errored_requests <= use.tool_call_requests <= 1


def check_told_stream(told: bytes) -> None:
    """Assert that every event is a chunk that strict clients accept."""
    for event in told.split(b"\n\n")[:-1]:
        chunk = json.loads(event.removeprefix(b"data: "))
        assert (chunk["model"], chunk["provider"]) == ("lab/m", "p")
        assert chunk["choices"] or chunk["usage"]
        for choice in chunk["choices"]:
            check_told_calls(choice["delta"].get("tool_calls"), is_delta=True)
            assert isinstance(choice["index"], int)
            assert isinstance(choice.get("finish_reason"), str | None)


def check_told_answer(told: bytes) -> None:
    """Assert that a whole answer is one that strict clients accept."""
    for choice in json.loads(told)["choices"]:
        check_told_calls(choice["message"].get("tool_calls"), is_delta=False)


def check_told_calls(calls: Any, *, is_delta: bool) -> None:
    """Assert that ids, names and arguments of calls are text."""
    for call in calls or ():
        assert isinstance(call["index"], int) if is_delta else isinstance(call["id"], str)
        body = call.get("function") or call.get("custom") or {}
        texts = [body[name] for name in ("name", "arguments", "input") if name in body]
        assert all(isinstance(text, str) for text in texts)
