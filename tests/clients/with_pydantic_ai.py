"""Chat, stream and tools through pydantic-ai, in its own environment; prints JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openrouter import OpenRouterModel
from pydantic_ai.providers.openrouter import OpenRouterProvider

base_url, name = sys.argv[1:]
asked: list[str] = []
model = OpenRouterModel(
    name, provider=OpenRouterProvider(openai_client=AsyncOpenAI(base_url=base_url, api_key="any"))
)


def weather(place: str) -> str:
    """Return the weather of a place."""
    asked.append(place)
    return "rain"


def streamed(agent: Agent, question: str) -> Iterator[str]:
    yield from agent.run_stream_sync(question).stream_text(delta=True)


QUESTION = "What is the weather in Oslo?"
equipped = Agent(model, tools=[weather])
result = {
    "chat": Agent(model).run_sync("hello").output,
    "stream": "".join(streamed(Agent(model), "hello")),
    "tools": equipped.run_sync(QUESTION).output,
    "asked": asked.copy(),
}
asked.clear()
result["tools_in_stream"] = "".join(streamed(equipped, QUESTION))
result["asked_in_stream"] = asked
sys.stdout.write(json.dumps(result))
