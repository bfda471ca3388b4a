"""What a simulated provider answers: words or tool calls, as one JSON body or as the events of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson

from assay.simulate.arguments import WORDS
from assay.simulate.behaviour import Behaviour
from assay.simulate.calls import Call, calls_for

Json = Mapping[str, Any]
PIECE: Final = 12  # characters of arguments in an event
DONE: Final = b"data: [DONE]\n\n"
COMMENT: Final = b": PROCESSING\n\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; a plain one has one part, its body, and a stream one for each event."""

    stream: bool
    parts: tuple[bytes, ...]

    @property
    def media_type(self) -> str:
        """The content type of either kind."""
        return "text/event-stream" if self.stream else "application/json"

    def first(self, count: int) -> tuple[bytes, ...]:
        """What is sent before something goes wrong: so many events, or half of a body."""
        if self.stream:
            return self.parts[:count]
        (body,) = self.parts
        return (body[: len(body) // 2],) if count else ()


def answer(body: Json, behaviour: Behaviour, draw: Random, now: int) -> Answer:
    """The answer of a provider that behaves so, to this request."""
    calls = calls_for(body, behaviour, draw)
    words = () if calls else tuple(draw.choice(WORDS) for _ in range(behaviour.tokens))
    head = {
        "id": f"chatcmpl-{draw.getrandbits(96):024x}",
        "created": now,
        "model": body.get("model", ""),
    }
    usage = used(body, len(words) or sum(len(call.arguments) // 4 + 1 for call in calls))
    finish = "tool_calls" if calls else "stop"
    if not body.get("stream"):
        choice = {"index": 0, "message": message(words, calls), "finish_reason": finish}
        return Answer(stream=False, parts=(plain(head, choice, usage),))
    options = body.get("stream_options")
    asked = isinstance(options, Mapping) and bool(options.get("include_usage"))
    deltas = [
        {"role": "assistant", "content": None if calls else ""},
        *text_deltas(words),
        *call_deltas(calls),
    ]
    events = [chunk(head, choices=[choice_of(delta, None)]) for delta in deltas]
    events.append(chunk(head, choices=[choice_of({}, finish)]))
    events += [chunk(head, choices=[], usage=usage)] * asked
    return Answer(stream=True, parts=(*events, DONE))


def used(body: Json, completion: int) -> Json:
    """Tokens, counted roughly."""
    prompt = len(orjson.dumps(body.get("messages") or [])) // 4
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def message(words: tuple[str, ...], calls: tuple[Call, ...]) -> Json:
    """The assistant's message of a plain answer."""
    if not calls:
        return {"role": "assistant", "content": " ".join(words)}
    return {"role": "assistant", "content": None, "tool_calls": [call_json(call) for call in calls]}


def call_json(call: Call) -> Json:
    """A whole tool call."""
    return {
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def text_deltas(words: tuple[str, ...]) -> Iterator[Json]:
    """One event for each word."""
    yield from ({"content": word if i == 0 else f" {word}"} for i, word in enumerate(words))


def call_deltas(calls: tuple[Call, ...]) -> Iterator[Json]:
    """For each call its name, then its arguments in pieces."""
    for index, call in enumerate(calls):
        head = {
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        yield {"tool_calls": [{"index": index, **head}]}
        for at in range(0, len(call.arguments), PIECE):
            yield {
                "tool_calls": [
                    {"index": index, "function": {"arguments": call.arguments[at : at + PIECE]}}
                ]
            }


def choice_of(delta: Json, finish: str | None) -> Json:
    """The one choice of an event."""
    return {"index": 0, "delta": delta, "finish_reason": finish}


def plain(head: Json, choice: Json, usage: Json) -> bytes:
    """The body of a plain answer."""
    return orjson.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


def chunk(head: Json, **fields: object) -> bytes:
    """One event of a stream."""
    return event({**head, "object": "chat.completion.chunk", **fields})


def event(value: object) -> bytes:
    """A JSON value as an event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def error(code: int | None, words: str) -> Json:
    """OpenAI's envelope of an error."""
    return {"error": {"message": words, "type": "simulated_error", "param": None, "code": code}}
