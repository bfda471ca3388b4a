"""The official `openai` and `openrouter` clients complete against providers with odd answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import openai
import openrouter
import pytest
from openai.types.chat import (
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
    ParsedChatCompletion,
)
from pydantic import BaseModel, ConfigDict
from tests.support.forwarding_chain import Chain
from tests.support.simulated_providers import WEATHER

MODEL, SEEING_MODEL = "lab/good", "lab/seeing"
TOOLS: list[ChatCompletionToolParam] = [{"type": "function", "function": WEATHER["function"]}]
QUESTION: ChatCompletionMessageParam = {"role": "user", "content": "Rain in Oslo and in Rome?"}
PICTURE: ChatCompletionMessageParam = {
    "role": "user",
    "content": [
        {"type": "text", "text": "Where is this, and will it rain there?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ],
}
# Each quirk alone, and those that local servers have together.
SHAPES = [
    pytest.param((), id="straight"),
    pytest.param(("reused_index",), id="index 0 for both calls"),
    pytest.param(("missing_index",), id="no index"),
    pytest.param(("missing_ids",), id="no ids"),
    pytest.param(("split_names",), id="names in two pieces"),
    pytest.param(("object_arguments",), id="arguments as objects"),
    pytest.param(("stop_after_calls",), id="stop after calls"),
    pytest.param(("usage_unasked",), id="usage unasked"),
    pytest.param(
        ("missing_index", "object_arguments", "stop_after_calls", "usage_unasked"),
        id="no index, objects, stop, usage",
    ),
    pytest.param(
        ("reused_index", "split_names", "stop_after_calls", "usage_unasked"),
        id="index 0, split names, stop, usage",
    ),
    pytest.param(("missing_ids", "object_arguments", "usage_unasked"), id="no ids, objects, usage"),
]


class Weather(BaseModel):
    """The weather of a place."""

    model_config = ConfigDict(extra="forbid")
    place: str
    days: int


@pytest.fixture(params=SHAPES)
def odd(chain: Chain, request: pytest.FixtureRequest) -> Iterator[Chain]:
    """Yield the chain while its good provider has these quirks and makes two calls at once."""
    chain.providers.play("good", quirks=request.param, parallel=1.0)
    yield chain
    chain.providers.play("good", quirks=[], parallel=0.0)


@pytest.fixture
def client(odd: Chain) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=odd.base_url, api_key="any", max_retries=0) as client:
        yield client


def assert_two_calls(calls: Iterable[Any] | None) -> None:
    """Two calls with ids of their own, the offered name and complete arguments."""
    found = list(calls or [])
    assert [call.function.name for call in found] == ["weather", "weather"]
    assert len({call.id for call in found if call.id}) == 2
    assert all("place" in json.loads(call.function.arguments) for call in found)


def results_for(calls: Sequence[Any] | None) -> list[ChatCompletionMessageParam]:
    """Return the conversation after the calls: the answer as the client read it, and results."""
    assistant: ChatCompletionMessageParam = {
        "role": "assistant",
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in calls or []
        ],
    }
    results: list[ChatCompletionMessageParam] = [
        {"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in calls or []
    ]
    return [QUESTION, assistant, *results]


def test_openai_gets_both_calls_and_continues(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=[QUESTION], tools=TOOLS)
    [choice] = answer.choices
    last = client.chat.completions.create(
        model=MODEL, messages=results_for(choice.message.tool_calls), tools=TOOLS
    )

    assert choice.finish_reason == "tool_calls"
    assert_two_calls(choice.message.tool_calls)
    assert all(
        isinstance(call, ChatCompletionMessageFunctionToolCall)
        for call in choice.message.tool_calls or []
    )
    assert last.choices[0].finish_reason == "stop"
    assert len((last.choices[0].message.content or "").split()) == 12


def test_openai_async_gets_both_calls_plain_and_streamed(odd: Chain) -> None:
    async def ask() -> tuple[Any, Any]:
        async with openai.AsyncOpenAI(
            base_url=odd.base_url, api_key="any", max_retries=0
        ) as client:
            plain = await client.chat.completions.create(
                model=MODEL, messages=[QUESTION], tools=TOOLS
            )
            async with client.chat.completions.stream(
                model=MODEL, messages=[QUESTION], tools=TOOLS
            ) as stream:
                return plain, await stream.get_final_completion()

    for answer in asyncio.run(ask()):
        assert answer.choices[0].finish_reason == "tool_calls"
        assert_two_calls(answer.choices[0].message.tool_calls)


def test_the_stream_helper_of_openai_assembles_both_calls(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=[QUESTION], tools=TOOLS) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        answer = stream.get_final_completion()

    assert answer.choices[0].finish_reason == "tool_calls"
    assert_two_calls(answer.choices[0].message.tool_calls)
    assert [(event.index, event.name) for event in done] == [(0, "weather"), (1, "weather")]
    assert all("place" in json.loads(event.arguments) for event in done)


def test_a_client_that_merges_deltas_by_index_gets_both_calls(client: openai.OpenAI) -> None:
    """As frameworks do that take chunks one by one: names and arguments are concatenated."""
    merged: dict[int, Any] = {}
    finish = []
    for chunk in client.chat.completions.create(
        model=MODEL, messages=[QUESTION], tools=TOOLS, stream=True
    ):
        [choice] = chunk.choices  # a usage chunk that was not asked for would fail here
        finish.append(choice.finish_reason)
        for call in choice.delta.tool_calls or []:
            if call.index not in merged:
                merged[call.index] = call
            elif call.function:
                merged[call.index].function.name += call.function.name or ""
                merged[call.index].function.arguments += call.function.arguments or ""

    assert sorted(merged) == [0, 1]
    assert_two_calls(merged.values())
    assert [each for each in finish if each] == ["tool_calls"]


def test_usage_comes_last_in_a_stream_that_asks_for_it(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=[QUESTION], tools=TOOLS, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip

    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == []


def test_openai_parses_the_arguments_of_both_calls(client: openai.OpenAI) -> None:
    tools = [openai.pydantic_function_tool(Weather, name="weather")]

    whole = client.chat.completions.parse(model=MODEL, messages=[QUESTION], tools=tools)
    with client.chat.completions.stream(model=MODEL, messages=[QUESTION], tools=tools) as stream:
        streamed = stream.get_final_completion()

    for answer in (whole, streamed):
        assert len(parsed_arguments(answer)) == 2
        assert all(isinstance(each, Weather) for each in parsed_arguments(answer))


def parsed_arguments(answer: ParsedChatCompletion[Any]) -> list[object]:
    calls = answer.choices[0].message.tool_calls or []
    return [call.function.parsed_arguments for call in calls]


def test_a_request_with_an_image_gets_both_calls(client: openai.OpenAI, odd: Chain) -> None:
    odd.providers.forget()
    plain = client.chat.completions.create(model=SEEING_MODEL, messages=[PICTURE], tools=TOOLS)
    with client.chat.completions.stream(
        model=SEEING_MODEL, messages=[PICTURE], tools=TOOLS
    ) as stream:
        streamed = stream.get_final_completion()

    assert_two_calls(plain.choices[0].message.tool_calls)
    assert_two_calls(streamed.choices[0].message.tool_calls)
    assert len(odd.seen("good")) == 2


def test_openai_streams_text(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=[{"role": "user", "content": "hello"}]
    ) as stream:
        answer = stream.get_final_completion()

    assert answer.choices[0].finish_reason == "stop"
    assert len((answer.choices[0].message.content or "").split()) == 12


def test_openrouter_gets_both_calls_plain_and_streamed(odd: Chain) -> None:
    fields: Mapping[str, Any] = {"model": MODEL, "messages": [QUESTION], "tools": TOOLS}
    with openrouter.OpenRouter(api_key="any", server_url=odd.base_url) as client:
        send: Any = client.chat.send  # its types reject plain dictionaries, which it sends as well
        plain = send(**fields)
        with send(**fields, stream=True) as stream:
            chunks = list(stream)

    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    pieces = [piece for delta in deltas for piece in delta.tool_calls or []]
    reasons = {choice.finish_reason for chunk in chunks for choice in chunk.choices}
    assert plain.choices[0].finish_reason == "tool_calls"
    assert_two_calls(plain.choices[0].message.tool_calls)
    assert {piece.index for piece in pieces} == {0, 1}
    assert reasons - {None} == {"tool_calls"}
    for index in (0, 1):
        own = [piece for piece in pieces if piece.index == index]
        arguments = "".join(piece.function.arguments or "" for piece in own)
        assert "".join(piece.function.name or "" for piece in own) == "weather"
        assert "place" in json.loads(arguments)
