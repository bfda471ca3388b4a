"""Tool calls over real sockets: what is reported of them, and what callers get."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import openai
import pytest
from tests.support.misbehaving_provider import DONE, ROLE, answer, chunk
from tests.support.scripted_forwarding import ScriptedForwarder

from assay.v1 import evidence_pb2 as pb

STREAM = pytest.mark.parametrize(
    "stream", [pytest.param(False, id="json"), pytest.param(True, id="stream")]
)


def tool(name: str, *required: str) -> dict[str, Any]:
    parameters = {"type": "object", "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [
    tool("add", "a"),
    tool("read_file", "a"),
    tool("now"),
    {"type": "custom", "custom": {"name": "shell"}},
]


def delta(**fields: Any) -> dict[str, Any]:
    """Return a delta of a tool call; name, arguments and input go to where they belong."""
    function = {key: fields.pop(key) for key in ("name", "arguments") if key in fields}
    return {**fields, "function": function} if function else fields


def custom(**fields: Any) -> dict[str, Any]:
    body = {key: fields.pop(key) for key in ("name", "input") if key in fields}
    return {**fields, "custom": body}


def calls(*deltas: dict[str, Any], finish: str = "tool_calls") -> bytes:
    """Return a stream with each delta in a chunk of its own."""
    chunks = [chunk({"tool_calls": [each]}) for each in deltas]
    return b"".join([ROLE, *chunks, chunk({}, finish), DONE])


def relay(world: ScriptedForwarder, sent: bytes, *, stream: bool) -> tuple[list[Any], pb.ToolUse]:
    """Return the choices that the caller gets, and the tool use that is reported."""
    got = world.relay(sent, "lab/scripted", stream=stream, tools=TOOLS)
    assert got.status == 200
    (outcome,) = world.seen(got.decision_id)
    assert outcome.result == pb.RESULT_ANSWERED
    told = [each for each in got.events if each != "[DONE]"] if stream else [got.json]
    return [each["choices"][0] for each in told], outcome.tools


def merged(choices: list[Any]) -> list[tuple[str, str, str]]:
    """Merge deltas by index, as clients do: text is concatenated; return id, name, arguments."""
    found: dict[int, list[str]] = {}
    for each in choices:
        for piece in each["delta"].get("tool_calls") or ():
            call = found.setdefault(piece["index"], ["", "", ""])
            body = piece.get("function") or piece.get("custom") or {}
            text = body.get("arguments", body.get("input", ""))
            for place, more in enumerate((piece.get("id", ""), body.get("name", ""), text)):
                call[place] += more
    assert list(found) == list(range(len(found)))
    return [(call[0], call[1], call[2]) for _, call in sorted(found.items())]


ONE = '{"a": 1}'
TWO = '{"a": 2}'
VALID_STREAMS = [
    # id, stream, the calls that a client merges
    (
        "as in the reference",
        calls(
            delta(index=0, id="s", type="function", name="add", arguments=""),
            delta(index=0, arguments='{"a":'),
            delta(index=0, arguments=" 1}"),
            delta(index=1, id="t", type="function", name="add", arguments=TWO),
        ),
        [("s", "add", ONE), ("t", "add", TWO)],
    ),
    (
        "one index for two calls",
        calls(
            delta(index=0, id="s", name="add", arguments=ONE),
            delta(index=0, id="t", name="read_file", arguments=TWO),
        ),
        [("s", "add", ONE), ("t", "read_file", TWO)],
    ),
    (
        "one index for two calls in pieces",
        calls(
            delta(index=0, id="s", name="add", arguments=""),
            delta(index=0, arguments=ONE),
            delta(index=0, id="t", name="add", arguments=""),
            delta(index=0, arguments='{"a":'),
            delta(index=0, arguments=" 2}"),
        ),
        [("s", "add", ONE), ("t", "add", TWO)],
    ),
    (
        "one index for two calls, interleaved by id",
        calls(
            delta(index=0, id="s", name="add", arguments='{"a":'),
            delta(index=0, id="t", name="add", arguments='{"a":'),
            delta(index=0, id="s", arguments=" 1}"),
            delta(index=0, id="t", arguments=" 2}"),
        ),
        [("s", "add", ONE), ("t", "add", TWO)],
    ),
    (
        "no index",
        calls(delta(id="s", name="add", arguments=ONE), delta(id="t", name="add", arguments=TWO)),
        [("s", "add", ONE), ("t", "add", TWO)],
    ),
    (
        "no index, in pieces",
        calls(
            delta(id="s", name="add", arguments='{"a":'),
            delta(arguments=" 1}"),
            delta(id="t", name="add"),
            delta(arguments=TWO),
        ),
        [("s", "add", ONE), ("t", "add", TWO)],
    ),
    (
        "an index that is null, and one that is text",
        calls(
            delta(index=None, id="s", name="add", arguments=ONE),
            delta(index="1", id="t", name="add", arguments=TWO),
        ),
        [("s", "add", ONE), ("t", "add", TWO)],
    ),
    (
        "indexes that begin at 3",
        calls(
            delta(index=3, id="s", name="add", arguments=ONE),
            delta(index=7, id="t", name="add", arguments=TWO),
        ),
        [("s", "add", ONE), ("t", "add", TWO)],
    ),
    (
        "one index twice in one chunk",
        ROLE
        + chunk({"tool_calls": [delta(index=0, id="s", name="add", arguments='{"a":'),
                                delta(index=0, arguments=" 1}")]}, "tool_calls"),
        [("s", "add", ONE)],
    ),
    (
        "a fresh id with an empty name in every delta",
        calls(
            delta(index=0, id="s", name="add", arguments=""),
            delta(index=0, id="s1", name="", arguments='{"a":'),
            delta(index=0, id="s2", name="", arguments=" 1}"),
        ),
        [("s", "add", ONE)],
    ),
    (
        "a fresh id without a name or an index in every delta",
        calls(
            delta(id="s", name="add", arguments=""),
            delta(id="s1", arguments='{"a":'),
            delta(id="s2", arguments=" 1}"),
        ),
        [("s", "add", ONE)],
    ),
    (
        "id and name in every delta",
        calls(
            delta(index=0, id="s", name="add", arguments='{"a":'),
            delta(index=0, id="s", name="add", arguments=" 1}"),
        ),
        [("s", "add", ONE)],
    ),
    (
        "a name in two pieces",
        calls(
            delta(index=0, id="s", name="read_", arguments=""),
            delta(index=0, name="file", arguments=""),
            delta(index=0, arguments=ONE),
        ),
        [("s", "read_file", ONE)],
    ),
    (
        "a name that grows",
        calls(
            delta(index=0, id="s", name="read_"),
            delta(index=0, id="s", name="read_file", arguments=ONE),
        ),
        [("s", "read_file", ONE)],
    ),
    (
        "a name after the id",
        calls(delta(index=0, id="s"), delta(index=0, name="add"), delta(index=0, arguments=ONE)),
        [("s", "add", ONE)],
    ),
    (
        "arguments as an object",
        calls(delta(index=0, id="s", name="add", arguments={"a": 1})),
        [("s", "add", '{"a":1}')],
    ),
    (
        "custom tools",
        calls(
            custom(index=0, id="s", type="custom", name="shell", input="l"),
            custom(index=0, input="s"),
            delta(index=1, id="t", name="add", arguments=ONE),
        ),
        [("s", "shell", "ls"), ("t", "add", ONE)],
    ),
    (
        "no arguments where none are required",
        calls(delta(index=0, id="s", name="now", arguments="")),
        [("s", "now", "{}")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "expected"), [pytest.param(sent, told, id=name) for name, sent, told in VALID_STREAMS]
)
def test_streamed_calls_are_assembled_and_renumbered(
    world: ScriptedForwarder, sent: bytes, expected: list[tuple[str, str, str]]
) -> None:
    choices, use = relay(world, sent, stream=True)
    assert merged(choices) == expected
    assert (use.tool_call_requests, use.errored_requests, use.tool_calls) == (1, 0, len(expected))
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_calls_without_ids_get_some(world: ScriptedForwarder) -> None:
    sent = calls(
        delta(name="add", arguments=ONE),
        delta(name="add", arguments=TWO),
        delta(id="", name="now", arguments="{}"),
    )
    choices, use = relay(world, sent, stream=True)
    ids, names, _ = zip(*merged(choices), strict=True)
    assert names == ("add", "add", "now")
    assert len(set(ids)) == 3
    assert all(each.startswith("call_") for each in ids)
    assert (use.errored_requests, use.tool_calls) == (0, 3)

    whole = {"tool_calls": [delta(name="add", arguments=ONE)] * 2}
    (choice,), use = relay(world, answer(whole, "tool_calls"), stream=False)
    first, second = choice["message"]["tool_calls"]
    assert first["id"] != second["id"]
    assert first["type"] == second["type"] == "function"
    assert (use.errored_requests, use.tool_calls) == (0, 2)


def test_a_call_in_a_whole_answer_gets_its_arguments_as_text(world: ScriptedForwarder) -> None:
    sent = {
        "tool_calls": [
            delta(id="s", name="add", arguments={"a": "\u00e9"}),
            delta(id="t", name="now"),
            custom(id="u", type="custom", name="shell", input="ls"),
        ]
    }
    (choice,), use = relay(world, answer(sent, "tool_calls"), stream=False)
    assert choice["message"]["tool_calls"] == [
        {"id": "s", "type": "function", "function": {"name": "add", "arguments": '{"a":"\u00e9"}'}},
        {"id": "t", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        {"id": "u", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
    ]
    assert (use.errored_requests, use.tool_calls) == (0, 3)


BAD = [
    # id, call, the count that has it
    ("a name that is a number", delta(id="s", name=7, arguments=ONE), "unknown_name"),
    ("a name that is null", delta(id="s", name=None, arguments=ONE), "unknown_name"),
    ("arguments that are a number", delta(id="s", name="add", arguments=7), "invalid_json"),
    ("arguments that are true", delta(id="s", name="now", arguments=True), "invalid_json"),
    ("arguments that are a list", delta(id="s", name="add", arguments=[1]), "schema_mismatch"),
    ("no arguments", delta(id="s", name="add"), "invalid_json"),
    ("empty arguments", delta(id="s", name="add", arguments=""), "invalid_json"),
    ("no function", {"id": "s", "type": "function"}, "invalid_json"),
    ("a custom tool that is unknown", custom(id="s", name="sh", input="ls"), "unknown_name"),
    ("a custom tool that is a function", custom(id="s", name="add", input=""), "unknown_name"),
    ("a function that is a custom tool", delta(name="shell", arguments="{}"), "unknown_name"),
    ("input that is a number", custom(id="s", name="shell", input=7), "invalid_json"),
]


@STREAM
@pytest.mark.parametrize(
    ("call", "kind"), [pytest.param(call, kind, id=name) for name, call, kind in BAD]
)
def test_bad_calls_are_counted_and_handed_on_as_text(
    world: ScriptedForwarder, call: dict[str, Any], kind: str, *, stream: bool
) -> None:
    sent = calls({"index": 0, **call}) if stream else answer({"tool_calls": [call]}, "tool_calls")
    choices, use = relay(world, sent, stream=stream)
    assert (use.tool_call_requests, use.errored_requests, use.tool_calls) == (1, 1, 1)
    assert getattr(use, kind) == 1
    (told,) = (
        [piece for each in choices for piece in each["delta"].get("tool_calls") or ()]
        if stream
        else choices[0]["message"]["tool_calls"]
    )
    body = told[told["type"]]
    assert isinstance(told["id"], str)
    assert all(isinstance(value, str) for value in body.values())


@STREAM
@pytest.mark.parametrize("reason", ["length", "content_filter", "max_tokens"])
@pytest.mark.parametrize("arguments", ['{"a"', ONE], ids=["cut", "complete"])
def test_calls_of_an_answer_that_was_cut_off_are_not_counted(
    world: ScriptedForwarder, reason: str, arguments: str, *, stream: bool
) -> None:
    call = delta(index=0, id="s", name="add", arguments=arguments)
    sent = calls(call, finish=reason) if stream else answer({"tool_calls": [call]}, reason)
    choices, use = relay(world, sent, stream=stream)
    assert use == pb.ToolUse(offered=len(TOOLS))
    assert choices[-1]["finish_reason"] in ("length", "content_filter")


@STREAM
@pytest.mark.parametrize(
    ("arguments", "errored"), [pytest.param('{"a"', 1, id="cut"), pytest.param(ONE, 0, id="whole")]
)
def test_a_forced_call_counts_even_if_its_answer_was_cut_off(
    world: ScriptedForwarder, arguments: str, errored: int, *, stream: bool
) -> None:
    call = delta(index=0, id="s", name="add", arguments=arguments)
    sent = calls(call, finish="length") if stream else answer({"tool_calls": [call]}, "length")
    got = world.relay(sent, "lab/scripted", stream=stream, tools=TOOLS, tool_choice="required")
    (outcome,) = world.seen(got.decision_id)
    use = outcome.tools
    assert (use.tool_call_requests, use.errored_requests, use.tool_calls) == (1, errored, 1)


@STREAM
def test_stop_after_complete_calls_is_told_as_tool_calls(
    world: ScriptedForwarder, *, stream: bool
) -> None:
    call = delta(index=0, id="s", name="add", arguments=ONE)
    sent = calls(call, finish="stop") if stream else answer({"tool_calls": [call]})
    choices, use = relay(world, sent, stream=stream)
    assert choices[-1]["finish_reason"] == "tool_calls"
    assert choices[-1]["native_finish_reason"] == "stop"
    assert (use.tool_call_requests, use.errored_requests) == (1, 0)


@STREAM
def test_stop_after_incomplete_calls_stays_and_counts_as_errored(
    world: ScriptedForwarder, *, stream: bool
) -> None:
    call = delta(index=0, id="s", name="add", arguments='{"a"')
    sent = calls(call, finish="stop") if stream else answer({"tool_calls": [call]})
    choices, use = relay(world, sent, stream=stream)
    assert choices[-1]["finish_reason"] == "stop"
    assert (use.tool_call_requests, use.errored_requests, use.invalid_json) == (1, 1, 1)


def test_calls_and_their_end_in_one_chunk(world: ScriptedForwarder) -> None:
    both = [delta(index=0, id=each, name="add", arguments=ONE) for each in "st"]
    choices, use = relay(world, chunk({"tool_calls": both}, "stop") + DONE, stream=True)
    assert merged(choices) == [("s", "add", ONE), ("t", "add", ONE)]
    assert choices[-1]["finish_reason"] == "tool_calls"
    assert (use.errored_requests, use.tool_calls) == (0, 2)


def test_calls_of_several_choices_are_counted_together(world: ScriptedForwarder) -> None:
    call = {"tool_calls": [delta(index=0, id="s", name="add", arguments=ONE)]}
    sent = [
        {"index": number, "message": call, "finish_reason": reason}
        for number, reason in enumerate(("tool_calls", "length", "stop"))
    ]
    got = world.relay(json.dumps({"choices": sent}).encode(), "lab/scripted", tools=TOOLS, n=3)
    (outcome,) = world.seen(got.decision_id)
    assert (outcome.tools.tool_call_requests, outcome.tools.tool_calls) == (1, 2)
    reasons = [each["finish_reason"] for each in got.json["choices"]]
    assert reasons == ["tool_calls", "length", "tool_calls"]


def test_a_custom_tool_can_be_required(world: ScriptedForwarder) -> None:
    choice = {"type": "custom", "custom": {"name": "shell"}}
    sent = answer({"tool_calls": [custom(id="s", name="shell", input="ls")]}, "tool_calls")
    got = world.relay(sent, "lab/scripted", tools=TOOLS, tool_choice=choice)
    assert got.status == 200
    assert world.decider.asked[-1].tool_choice == "function"
    assert world.provider.seen[-1].body["tool_choice"] == choice


@STREAM
@pytest.mark.parametrize("finish", ["tool_calls", "length"])
def test_more_calls_than_are_kept_count_as_errored(
    world: ScriptedForwarder, finish: str, *, stream: bool
) -> None:
    many = [delta(index=n, id=f"s{n}", name="add", arguments=ONE) for n in range(1100)]
    sent = calls(*many, finish=finish) if stream else answer({"tool_calls": many}, finish)
    _, use = relay(world, sent, stream=stream)
    assert (use.tool_call_requests, use.errored_requests, use.tool_calls) == (1, 1, 0)


@pytest.mark.parametrize(
    "sent", [pytest.param(sent, id=name) for name, sent, _ in VALID_STREAMS if "custom" not in name]
)
def test_the_openai_client_assembles_what_it_gets(world: ScriptedForwarder, sent: bytes) -> None:
    host, port = world.address
    with (
        openai.OpenAI(base_url=f"http://{host}:{port}/v1", api_key="any", max_retries=0) as client,
        client.chat.completions.stream(
            model="lab/scripted",
            messages=[{"role": "user", "content": "add"}],
            tools=TOOLS[:3],  # type: ignore[arg-type] # plain dictionaries
            extra_body={"x_sends": b64encode(sent).decode()},
        ) as stream,
    ):
        (choice,) = stream.get_final_completion().choices
    assert choice.finish_reason == "tool_calls"
    for call in choice.message.tool_calls or ():
        assert isinstance(json.loads(call.function.arguments), dict)
        assert call.function.name in ("add", "read_file", "now")
