"""A chat request: the question, the body for the provider, and what an answer contains."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assay.engine.errors import InvalidField
from assay.forward.answer_summary import AnswerSummary
from assay.forward.request import ChatRequest, EndpointCapabilities, read_request
from assay.v1 import evidence_pb2 as pb

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"required": ["a"]}}}
ANY = EndpointCapabilities()


def read(**fields: Any) -> ChatRequest:
    body = json.dumps({"model": "lab/m", "messages": [], **fields}).encode()
    return read_request(body, tenant="acme", session_id="", request_id="")


def sent(request: ChatRequest, capabilities: EndpointCapabilities = ANY) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request.body("theirs", capabilities))
    return body


def test_limits_of_tokens_are_sent_even_to_endpoints_that_do_not_list_them() -> None:
    request = read(max_tokens=5, max_completion_tokens=7, temperature=1, x_vendor=1)
    capabilities = EndpointCapabilities(frozenset({"tools"}))
    assert sent(request, capabilities) == {
        "model": "theirs",
        "messages": [],
        "max_tokens": 5,
        "max_completion_tokens": 7,
        "x_vendor": 1,
    }


LISTS = EndpointCapabilities
HIGH = {"effort": "high"}


@pytest.mark.parametrize(
    ("fields", "supports", "expected", "dropped"),
    [
        pytest.param({"max_tokens": 5}, "max_completion_tokens", {"max_completion_tokens": 5}, []),
        pytest.param({"max_completion_tokens": 5}, "max_tokens", {"max_tokens": 5}, []),
        pytest.param({"max_completion_tokens": 5}, "seed", {"max_completion_tokens": 5}, []),
        pytest.param(
            {"max_tokens": 5, "max_completion_tokens": 7}, "max_tokens", {"max_tokens": 5}, []
        ),
        pytest.param({"reasoning_effort": "high"}, "reasoning", {"reasoning": HIGH}, []),
        pytest.param({"reasoning": HIGH}, "reasoning_effort", {"reasoning_effort": "high"}, []),
        pytest.param(
            {"reasoning_effort": "high", "reasoning": {"exclude": True}},
            "reasoning",
            {"reasoning": {"effort": "high", "exclude": True}},
            [],
        ),
        pytest.param(
            {"reasoning_effort": "low", "reasoning": HIGH}, "reasoning", {"reasoning": HIGH}, []
        ),
        pytest.param({"reasoning": {"max_tokens": 5}}, "reasoning_effort", {}, ["reasoning"]),
        pytest.param({"reasoning_effort": "high"}, "seed", {}, ["reasoning_effort"]),
        pytest.param({"reasoning_effort": None}, "reasoning", {}, []),
        pytest.param({"seed": 7, "stop": "x", "top_k": None}, "stop", {"stop": "x"}, ["seed"]),
        pytest.param({"response_format": {"type": "text"}}, "seed", {}, []),
        pytest.param({"response_format": {"type": "json_object"}}, "seed", {}, ["response_format"]),
        pytest.param(
            {"response_format": {"type": "json_schema"}},
            "structured_outputs",
            {"response_format": {"type": "json_schema"}},
            [],
        ),
        pytest.param(
            {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
            "tools",
            {"tools": [TOOL]},
            ["tool_choice", "parallel_tool_calls"],
        ),
        pytest.param(
            {"tools": [TOOL], "tool_choice": "auto"}, "tool_choice", {}, ["tools", "tool_choice"]
        ),
    ],
)
def test_an_endpoint_gets_what_it_lists_under_the_names_that_it_lists(
    fields: dict[str, Any], supports: str, expected: dict[str, Any], dropped: list[str]
) -> None:
    request, capabilities = read(**fields), LISTS(frozenset({supports}))
    assert sent(request, capabilities) == {"model": "theirs", "messages": [], **expected}
    assert request.dropped_parameters(capabilities) == dropped
    assert request.dropped_parameters(ANY) == []


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({"max_completion_tokens": 5}, ["max_tokens"]),
        ({"reasoning_effort": "high"}, ["reasoning"]),
        ({"reasoning_effort": "high", "reasoning": {}}, ["reasoning"]),
        ({"response_format": {"type": "json_schema"}}, ["structured_outputs"]),
        ({"response_format": {"type": "json_object"}}, ["response_format"]),
        ({"response_format": {"type": "text"}}, []),
        ({"response_format": 7}, ["response_format"]),
        ({"seed": None}, []),
        ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, []),
        ({"tools": None, "tool_choice": "required"}, []),
        ({"tool_choice": "required"}, []),
        ({"tools": [TOOL], "tool_choice": "auto"}, ["tool_choice", "tools"]),
    ],
)
def test_the_question_names_each_parameter_that_needs_support(
    fields: dict[str, Any], parameters: list[str]
) -> None:
    assert list(read(**fields).question.parameters) == parameters


@pytest.mark.parametrize("tools", [[], None])
def test_an_empty_list_of_tools_is_a_request_without_tools(tools: object) -> None:
    request = read(tools=tools, tool_choice="auto", parallel_tool_calls=False)
    assert (request.question.tools, request.question.HasField("tool_choice")) == (0, False)
    assert sent(request) == {"model": "theirs", "messages": []}
    assert request.tool_use(ANY) is None


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("x" * 400, 100),
        ("語" * 400, 300),
        ("\n" * 400, 100),
        ([{"type": "text", "text": "x" * 400}, {"type": "text", "text": "x" * 4}], 101),
        ([{"type": "image_url", "image_url": {"url": "x" * 4000}}], None),
        ("abc", None),
        (None, None),
        (7, None),
    ],
)
def test_the_length_of_the_prompt_is_estimated_from_the_text_of_messages(
    content: object, tokens: int | None
) -> None:
    question = read(messages=[{"role": "user", "content": content}]).question
    assert (question.prompt_tokens if question.HasField("prompt_tokens") else None) == tokens


@pytest.mark.parametrize(
    ("fields", "header", "session"),
    [
        ({"session_id": "a", "prompt_cache_key": "b"}, "c", "a"),
        ({"prompt_cache_key": "b"}, "c", "c"),
        ({"prompt_cache_key": "b"}, "", "b"),
        ({"prompt_cache_key": "b" * 257}, "", ""),
        ({"prompt_cache_key": 7}, "", ""),
        ({}, "", ""),
    ],
)
def test_the_session_is_named_by_its_id_or_else_by_the_key_of_the_prompt_cache(
    fields: dict[str, Any], header: str, session: str
) -> None:
    body = json.dumps({"model": "lab/m", "messages": [], **fields}).encode()
    request = read_request(body, tenant="", session_id=header, request_id="")
    assert request.question.session_id == session


def test_the_larger_limit_of_tokens_decides() -> None:
    request = read(max_tokens=5, max_completion_tokens=7)
    assert (request.question.max_tokens, list(request.question.parameters)) == (7, ["max_tokens"])


def test_an_endpoint_without_a_list_of_parameters_gets_all() -> None:
    assert sent(read(temperature=1))["temperature"] == 1


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        pytest.param("", "flex", None, id="a general tier is for the decider"),
        pytest.param("", "scale", "scale", id="another tier goes to the provider"),
        pytest.param("flex", "", "flex", id="the tier of the endpoint is sent"),
        pytest.param("flex", "scale", "flex", id="the endpoint's tier takes precedence"),
    ],
)
def test_service_tier(own: str, asked: str, expected: str | None) -> None:
    request = read(service_tier=asked or None)
    assert sent(request, EndpointCapabilities(service_tier=own)).get("service_tier") == expected


@pytest.mark.parametrize(
    ("choice", "word"),
    [
        ("auto", "auto"),
        ({"type": "function", "function": {"name": "f"}}, "function"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required"}}, "required"),
        ({"type": "allowed_tools", "mode": "none"}, "none"),
        ({"type": "allowed_tools"}, "auto"),
        ({"type": "custom", "custom": {"name": "f"}}, "function"),
        ({"type": "tool", "name": "f"}, "function"),
        ({"type": "any"}, "required"),
        ("any", "required"),
    ],
)
def test_tool_choice(choice: object, word: str) -> None:
    assert read(tools=[TOOL], tool_choice=choice).question.tool_choice == word


@pytest.mark.parametrize(
    ("messages", "after"),
    [
        ([], False),
        ([{"role": "tool"}, {"role": "user"}], False),
        ([{"role": "user"}, {"role": "tool"}], True),
        ([{"role": "function"}], True),
    ],
)
def test_the_last_message_says_whether_a_tool_has_answered(
    messages: list[dict[str, str]], *, after: bool
) -> None:
    assert read(messages=messages).after_tool_result is after


def test_modalities_come_from_the_parts_of_all_messages() -> None:
    messages = [
        {"role": "user", "content": [{"type": "image_url"}, {"type": "text"}]},
        {"role": "user", "content": "image_url"},
        {"role": "user", "content": [{"type": "input_audio"}]},
    ]
    assert list(read(messages=messages).question.input_modalities) == ["audio", "image", "text"]


@pytest.mark.parametrize(
    ("kinds", "modality"),
    [
        (("image_url", "input_image", "image"), "image"),
        (("input_audio", "audio_url", "audio"), "audio"),
        (("file", "input_file", "file_url", "document"), "file"),
        (("video_url", "input_video"), "video"),
        (("text", "input_text", "refusal", ""), "text"),
    ],
)
def test_each_kind_of_part_has_a_modality(kinds: tuple[str, ...], modality: str) -> None:
    for kind in kinds:
        messages = [{"role": "user", "content": [{"type": kind}]}]
        assert list(read(messages=messages).question.input_modalities) == [modality]


@pytest.mark.parametrize(
    ("stated", "number"),
    [(1, 1.0), (0.25, 0.25), ("0.25", 0.25), ("10", 10.0), (".5", 0.5), ("1e-3", 0.001)],
)
def test_a_number_in_preferences_may_be_a_decimal_text(stated: object, number: float) -> None:
    question = read(provider={"max_price": {"prompt": stated}}).question
    assert question.provider.max_price.prompt == number


@pytest.mark.parametrize(
    "stated",
    [
        "1_0",
        "１０",
        "٣",
        " 1",
        "1 ",
        "",
        "nan",
        "inf",
        "-Infinity",
        "1e400",
        "0x10",
        "1,5",
        True,
        [],
    ],
)
@pytest.mark.parametrize("name", ["max_price", "preferred_max_latency"])
def test_a_number_in_preferences_is_finite_and_in_ascii_digits(stated: object, name: str) -> None:
    key = {"max_price": "prompt", "preferred_max_latency": "p90"}[name]
    with pytest.raises(InvalidField, match=rf"provider\.{name}\.{key}: .* is not a decimal number"):
        read(provider={name: {key: stated}})


def test_names_and_preferences_have_a_limit() -> None:
    assert read(models=["x" * 250_000]).question.models
    with pytest.raises(InvalidField, match="at most 262144"):
        read(models=["x" * 270_000])


def tool_use(calls: list[dict[str, Any]], tools: list[Any] | None = None) -> pb.ToolUse | None:
    request = read(tools=tools or [TOOL])
    summary = AnswerSummary(request.fields["tools"])
    choice = {"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}
    summary.add_answer({"choices": [choice]})
    return summary.tool_use(request.tool_use(ANY))


def call(arguments: object) -> dict[str, Any]:
    return {"function": {"name": "f", "arguments": arguments}}


def test_each_kind_of_bad_call_is_counted_and_the_request_once() -> None:
    other = {"function": {"name": "g", "arguments": "{}"}}
    calls = [call("{"), call("{}"), other, call('{"a": 1}'), call({"a": 1})]
    assert tool_use(calls) == pb.ToolUse(
        offered=1,
        tool_call_requests=1,
        errored_requests=1,
        tool_calls=5,
        invalid_json=1,
        unknown_name=1,
        schema_mismatch=1,
    )


@pytest.mark.parametrize(("count", "checked", "errored"), [(1024, 1024, 0), (1025, 0, 1)])
def test_too_many_calls_count_as_errored(count: int, checked: int, errored: int) -> None:
    use = tool_use([call('{"a": 1}')] * count)
    assert use is not None
    assert (use.tool_call_requests, use.tool_calls) == (1, checked)
    assert use.errored_requests == errored


def test_calls_that_are_too_long_to_keep_count_as_errored() -> None:
    use = tool_use([call('{"a": 1}'), call("x" * 5_000_000)])
    assert use is not None
    assert (use.tool_call_requests, use.tool_calls, use.errored_requests) == (1, 0, 1)


@pytest.mark.parametrize(
    ("stated", "tokens"), [(12, 12), (12.0, 12), (-3, 0), (10**12, 10**9), (None, None)]
)
def test_a_count_of_tokens_is_kept_within_its_bounds(stated: object, tokens: int | None) -> None:
    summary = AnswerSummary()
    summary.add_chunk({"choices": [], "usage": {"completion_tokens": stated}})
    assert summary.tokens == tokens
