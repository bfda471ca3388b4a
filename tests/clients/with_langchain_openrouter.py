"""Chat, stream and tools through langchain-openrouter, in its own environment; prints JSON."""

from __future__ import annotations

import json
import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openrouter import ChatOpenRouter

base_url, name = sys.argv[1:]
model = ChatOpenRouter(
    model=name, api_key="any", base_url=base_url, openrouter_provider={"sort": "price"}
)


def weather(place: str) -> str:
    """Return the weather of a place."""
    return f"rain in {place}"


lookup = tool(weather)
question = HumanMessage("What is the weather in Oslo?")
equipped = model.bind_tools([lookup])
answer = equipped.invoke([question])
results = [
    ToolMessage(lookup.invoke(call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls
]
chunks = list(equipped.stream([question]))
streamed = chunks[0]
for chunk in chunks[1:]:
    streamed += chunk
result = {
    "chat": model.invoke("hello").content,
    "stream": "".join(chunk.content for chunk in model.stream("hello")),
    "tools": equipped.invoke([question, answer, *results]).content,
    "asked": [call["args"]["place"] for call in answer.tool_calls],
    "asked_in_stream": [call["args"]["place"] for call in streamed.tool_calls],
}
sys.stdout.write(json.dumps(result))
