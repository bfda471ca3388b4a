"""What a simulated provider answers: words or tool calls, as one JSON body or as the events of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson

from assay.simulate.arguments import WORDS, mismatched_arguments, valid_arguments
from assay.simulate.behavior import ProviderBehavior

Json = Mapping[str, Any]
PIECE: Final = 12  # characters of arguments in an event
DONE: Final = b"data: [DONE]\n\n"
COMMENT: Final = b": PROCESSING\n\n"


@dataclass(frozen=True, slots=True)
class SimulatedAnswer:
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


def answer(body: Json, behaviour: ProviderBehavior, draw: Random, now: int) -> SimulatedAnswer:
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
        return SimulatedAnswer(stream=False, parts=(plain(head, choice, usage),))
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
    return SimulatedAnswer(stream=True, parts=(*events, DONE))


def used(body: Json, completion: int) -> Json:
    """Tokens, counted roughly."""
    prompt = len(orjson.dumps(body.get("messages") or [])) // 4
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def message(words: tuple[str, ...], calls: tuple[SimulatedCall, ...]) -> Json:
    """The assistant's message of a plain answer."""
    if not calls:
        return {"role": "assistant", "content": " ".join(words)}
    return {"role": "assistant", "content": None, "tool_calls": [call_json(call) for call in calls]}


def call_json(call: SimulatedCall) -> Json:
    """A whole tool call."""
    return {
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def text_deltas(words: tuple[str, ...]) -> Iterator[Json]:
    """One event for each word."""
    yield from ({"content": word if i == 0 else f" {word}"} for i, word in enumerate(words))


def call_deltas(calls: tuple[SimulatedCall, ...]) -> Iterator[Json]:
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


@dataclass(frozen=True, slots=True)
class SimulatedCall:
    """One tool call; its arguments are JSON text, or were to be."""

    call_id: str
    name: str
    arguments: str


def calls_for(body: Json, behaviour: ProviderBehavior, draw: Random) -> tuple[SimulatedCall, ...]:
    """What a provider that behaves so calls; nothing where no tool may be called, or one just was."""
    tools, choice = (
        [one for one in offered(body) if "name" in one],
        body.get("tool_choice") or "auto",
    )
    wants = draw.random() < behaviour.propensity
    if not tools or choice == "none" or (choice == "auto" and (after_result(body) or not wants)):
        return ()
    named = choice.get("function", {}).get("name") if isinstance(choice, Mapping) else None
    tools = [tool for tool in tools if named in (None, tool["name"])] or tools
    count = 2 if draw.random() < behaviour.parallel else 1
    return tuple(one_call(draw.choice(tools), tools, behaviour, draw) for _ in range(count))


def offered(body: Json) -> list[Json]:
    """The functions among the offered tools."""
    tools = body.get("tools") or []
    return [tool.get("function") or {} for tool in tools if isinstance(tool, Mapping)]


def after_result(body: Json) -> bool:
    """Whether the conversation ends with a tool's result."""
    messages = body.get("messages") or []
    return (
        bool(messages) and isinstance(messages[-1], Mapping) and messages[-1].get("role") == "tool"
    )


def one_call(
    tool: Json, tools: Sequence[Json], behaviour: ProviderBehavior, draw: Random
) -> SimulatedCall:
    """A call of this tool, right or wrong in one of three ways."""
    call_id = f"call_{draw.getrandbits(96):024x}"
    good = draw.random() < behaviour.accuracy
    errors = behaviour.errors
    shares = (errors.invalid_json, errors.unknown_name, errors.schema_mismatch)
    spoil = draw.choices(SPOILERS, shares if any(shares) else None)[0]
    name, arguments = (right if good else spoil)(tool, tools, draw)
    return SimulatedCall(call_id, name, arguments)


def right(tool: Json, _tools: Sequence[Json], draw: Random) -> tuple[str, str]:
    """The tool with arguments that fit."""
    return str(tool["name"]), orjson.dumps(valid_arguments(tool.get("parameters"), draw)).decode()


def invalid_json(tool: Json, tools: Sequence[Json], draw: Random) -> tuple[str, str]:
    """Arguments that break off before their end."""
    name, arguments = right(tool, tools, draw)
    return name, arguments[:-1]


def unknown_name(tool: Json, tools: Sequence[Json], draw: Random) -> tuple[str, str]:
    """A tool that nobody offered."""
    name, arguments = right(tool, tools, draw)
    known = {one["name"] for one in tools}
    while name in known:
        name += "_v2"
    return name, arguments


def schema_mismatch(tool: Json, tools: Sequence[Json], draw: Random) -> tuple[str, str]:
    """Arguments that the tool's schema does not admit; an unknown tool where it admits anything."""
    arguments = mismatched_arguments(tool.get("parameters"), draw)
    if arguments is None:
        return unknown_name(tool, tools, draw)
    return str(tool["name"]), orjson.dumps(arguments).decode()


SPOILERS: Final[Sequence[Callable[[Json, Sequence[Json], Random], tuple[str, str]]]] = (
    invalid_json,
    unknown_name,
    schema_mismatch,
)
