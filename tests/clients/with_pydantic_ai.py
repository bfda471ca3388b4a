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


def streamed() -> Iterator[str]:
    yield from Agent(model).run_stream_sync("hello").stream_text(delta=True)


result = {
    "chat": Agent(model).run_sync("hello").output,
    "stream": "".join(streamed()),
    "tools": Agent(model, tools=[weather]).run_sync("What is the weather in Oslo?").output,
    "asked": asked,
}
sys.stdout.write(json.dumps(result))
