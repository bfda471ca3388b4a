"""The official `openai` and `openrouter` clients: chat, streams, tool calls, conversations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import openrouter
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall, ChatCompletionToolParam
from tests.support.forwarding_chain import Chain
from tests.support.simulated_providers import WEATHER

MODEL = "lab/good"
QUESTION = "What is the weather in Oslo?"
TOOLS: list[ChatCompletionToolParam] = [{"type": "function", "function": WEATHER["function"]}]


@pytest.fixture
def openai_client(chain: Chain) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=chain.base_url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def openrouter_client(chain: Chain) -> Iterator[Any]:
    """Yield the client as Any: its types reject plain dictionaries, which it sends as well."""
    with openrouter.OpenRouter(api_key="any", server_url=chain.base_url) as client:
        yield client


def test_openai_chats(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "hello"}],
        extra_body={"provider": {"sort": "price"}},
    )

    assert len((answer.choices[0].message.content or "").split()) == 12
    assert answer.model == MODEL
    assert answer.model_extra is not None
    assert answer.model_extra["provider"] == "good"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


def test_openai_streams(openai_client: openai.OpenAI) -> None:
    chunks = list(
        openai_client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert len(text.split()) == 12
    assert {chunk.model for chunk in chunks} == {MODEL}
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12


def test_openai_calls_a_tool_and_continues(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], tools=TOOLS
    )
    message = answer.choices[0].message
    (call,) = message.tool_calls or []
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "weather"
    assert "place" in json.loads(call.function.arguments)

    last = openai_client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": QUESTION},
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {
                            "name": call.function.name,
                            "arguments": call.function.arguments,
                        },
                    }
                ],
            },
            {"role": "tool", "tool_call_id": call.id, "content": "rain"},
        ],
        tools=TOOLS,
    )
    assert last.choices[0].finish_reason == "stop"
    assert last.choices[0].message.content


def test_openai_assembles_a_streamed_tool_call(openai_client: openai.OpenAI) -> None:
    with openai_client.chat.completions.stream(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], tools=TOOLS
    ) as stream:
        answer = stream.get_final_completion()

    (call,) = answer.choices[0].message.tool_calls or []
    assert call.function.name == "weather"
    assert "place" in json.loads(call.function.arguments)


def test_openai_gets_the_error_message(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        openai_client.chat.completions.create(
            model="lab/none", messages=[{"role": "user", "content": "hello"}]
        )

    assert "lab/none" in refused.value.message


def test_openai_lists_models(openai_client: openai.OpenAI) -> None:
    assert MODEL in {model.id for model in openai_client.models.list()}


def test_openai_sees_an_error_in_the_middle_of_a_stream(
    chain: Chain, openai_client: openai.OpenAI
) -> None:
    chain.providers.play("bad", {"kind": "cut", "after": 4})
    stream = openai_client.chat.completions.create(
        model="lab/solo", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    words: list[str] = []
    with pytest.raises(openai.APIError):
        words.extend(choice.delta.content or "" for chunk in stream for choice in chunk.choices)


def test_openrouter_chats(openrouter_client: Any) -> None:
    answer = openrouter_client.chat.send(
        model=MODEL, messages=[{"role": "user", "content": "hello"}], provider={"sort": "price"}
    )

    assert len(str(answer.choices[0].message.content).split()) == 12
    assert answer.model == MODEL


def test_openrouter_streams(openrouter_client: Any) -> None:
    with openrouter_client.chat.send(
        model=MODEL,
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)

    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert len(text.split()) == 12
    assert chunks[-1].usage is not None


def test_openrouter_calls_a_tool(openrouter_client: Any) -> None:
    answer = openrouter_client.chat.send(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        tools=[{"type": "function", "function": WEATHER["function"]}],
    )

    (call,) = answer.choices[0].message.tool_calls or []
    assert call.function.name == "weather"
    assert "place" in json.loads(call.function.arguments)
    assert answer.choices[0].finish_reason == "tool_calls"


SHAPES = {
    "calls at one index": ["reused_index"],
    "no index": ["missing_index"],
    "no ids at one index": ["missing_ids", "reused_index"],
    "split names": ["split_names"],
    "arguments as objects": ["object_arguments"],
    "an end with stop": ["stop_after_calls"],
    "usage that was not asked for": ["usage_unasked"],
    "many at once": ["missing_index", "split_names", "stop_after_calls", "usage_unasked"],
}


@pytest.fixture(params=SHAPES)
def odd_chain(chain: Chain, request: pytest.FixtureRequest) -> Iterator[Chain]:
    """Yield a chain whose provider answers in an odd shape, with two calls at once."""
    chain.providers.play("good", quirks=SHAPES[request.param], parallel=1.0)
    yield chain
    chain.providers.play("good", quirks=[], parallel=0.0)


def assert_two_calls(found: list[tuple[str, str, str]]) -> None:
    """Assert that calls have ids of their own, the tool's name and its arguments."""
    ids, names, arguments = zip(*found, strict=True)
    assert len(set(ids)) == 2
    assert names == ("weather", "weather")
    assert all("place" in json.loads(each) for each in arguments)


@pytest.mark.usefixtures("odd_chain")
def test_openai_understands_odd_providers(openai_client: openai.OpenAI) -> None:
    asked: Any = {
        "model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "tools": TOOLS,
    }  # fmt: skip
    whole = openai_client.chat.completions.create(**asked)
    with openai_client.chat.completions.stream(**asked) as events:
        streamed = events.get_final_completion()
    for choice in (whole.choices[0], streamed.choices[0]):
        assert choice.finish_reason == "tool_calls"
        calls = choice.message.tool_calls or []
        assert_two_calls([(each.id, each.function.name, each.function.arguments) for each in calls])

    for chunk in openai_client.chat.completions.create(**asked, stream=True):
        assert chunk.choices[0].delta is not None


def test_async_openai_understands_odd_providers(odd_chain: Chain) -> None:
    async def chat() -> Any:
        client = openai.AsyncOpenAI(base_url=odd_chain.base_url, api_key="any", max_retries=0)
        async with (
            client,
            client.chat.completions.stream(
                model=MODEL, messages=[{"role": "user", "content": QUESTION}], tools=TOOLS
            ) as events,
        ):
            return await events.get_final_completion()

    (choice,) = asyncio.run(chat()).choices
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert_two_calls([(each.id, each.function.name, each.function.arguments) for each in calls])


@pytest.mark.usefixtures("odd_chain")
def test_openrouter_understands_odd_providers(openrouter_client: Any) -> None:
    asked: Any = {
        "model": MODEL, "messages": [{"role": "user", "content": QUESTION}],
        "tools": [{"type": "function", "function": WEATHER["function"]}],
    }  # fmt: skip
    (choice,) = openrouter_client.chat.send(**asked).choices
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert_two_calls([(each.id, each.function.name, each.function.arguments) for each in calls])

    with openrouter_client.chat.send(**asked, stream=True) as stream:
        choices = [chunk.choices[0] for chunk in stream]
    assert choices[-1].finish_reason == "tool_calls"


def test_openrouter_gets_a_404_if_no_endpoint_is_left(openrouter_client: Any) -> None:
    with pytest.raises(openrouter.errors.NotFoundResponseError) as refused:
        openrouter_client.chat.send(
            model=MODEL,
            messages=[{"role": "user", "content": "hello"}],
            provider={"only": ["missing"]},
        )

    assert refused.value.status_code == 404
