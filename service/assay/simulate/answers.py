"""What a simulated provider answers: text or tool calls, as JSON or as a stream."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson

from assay.simulate.arguments import WORDS, mismatched_arguments, valid_arguments
from assay.simulate.behavior import ProviderBehavior
from assay.simulate.connection import DONE, Json, SimulatedAnswer, encode_chunk, streamed_choice
from assay.simulate.quirks import Pieces, Quirk, reshape_call, reshape_deltas

_ARGUMENTS_PER_EVENT: Final = 12  # characters


@dataclass(frozen=True, slots=True)
class SimulatedCall:
    """One tool call; its arguments are JSON text or a broken form of it."""

    call_id: str
    name: str
    arguments: str
    is_good: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the call as in an assistant's message."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.call_id, "type": "function", "function": function}

    def deltas(self, index: int) -> Pieces:
        """Return the call as pieces for a stream: its name, then its arguments."""
        function = {"name": self.name, "arguments": ""}
        head = {"index": index, "id": self.call_id, "type": "function", "function": function}
        starts = range(0, len(self.arguments), _ARGUMENTS_PER_EVENT)
        texts = (self.arguments[start : start + _ARGUMENTS_PER_EVENT] for start in starts)
        return [head, *({"index": index, "function": {"arguments": text}} for text in texts)]


def answer_request(
    body: Json, behavior: ProviderBehavior, draw: Random, now: int
) -> SimulatedAnswer:
    """Return the answer of a provider to a request."""
    calls = choose_calls(body, behavior, draw)
    words = () if calls else tuple(draw.choice(WORDS) for _ in range(behavior.tokens))
    head = {
        "id": f"chatcmpl-{draw.getrandbits(96):024x}",
        "created": now,
        "model": body.get("model", ""),
    }
    prompt = len(orjson.dumps(body.get("messages") or [])) // 4  # a rough count of tokens
    completion = len(words) or sum(len(call.arguments) // 4 + 1 for call in calls)
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    bad_calls = sum(not call.is_good for call in calls)
    quirks = behavior.quirks
    finish = "tool_calls" if calls and Quirk.STOP_AFTER_CALLS not in quirks else "stop"
    if not body.get("stream"):
        message: dict[str, Any] = {"role": "assistant", "content": " ".join(words)}
        if calls:
            whole = [piece for call in calls for piece in reshape_call([call.to_json()], quirks)]
            message.update(content=None, tool_calls=whole)
        choice = {"index": 0, "message": message, "finish_reason": finish}
        value = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        return SimulatedAnswer(stream=False, parts=(orjson.dumps(value),), bad_calls=bad_calls)
    choices = [streamed_choice(delta, None) for delta in _deltas(words, calls, quirks)]
    choices.append(streamed_choice({}, finish))
    events = [encode_chunk(head, choices=[choice]) for choice in choices]
    if Quirk.USAGE_UNASKED in quirks or _asks_for_usage(body):
        events.append(encode_chunk(head, choices=[], usage=usage))
    return SimulatedAnswer(stream=True, parts=(*events, DONE), bad_calls=bad_calls)


def _asks_for_usage(body: Json) -> bool:
    options = body.get("stream_options")
    return isinstance(options, Mapping) and bool(options.get("include_usage"))


def _deltas(
    words: Sequence[str], calls: Sequence[SimulatedCall], quirks: Collection[Quirk]
) -> Iterator[Json]:
    yield {"role": "assistant", "content": None if calls else ""}
    for number, word in enumerate(words):
        yield {"content": f" {word}" if number else word}
    for index, call in enumerate(calls):
        for piece in reshape_deltas(call.deltas(index), quirks):
            yield {"tool_calls": [piece]}


def choose_calls(body: Json, behavior: ProviderBehavior, draw: Random) -> tuple[SimulatedCall, ...]:
    """Return the tool calls of an answer; none if the request or the behavior is against it."""
    choice = body.get("tool_choice") or "auto"
    is_inclined = draw.random() < behavior.propensity
    offered = [
        tool.get("function") for tool in body.get("tools") or [] if isinstance(tool, Mapping)
    ]
    tools = [function for function in offered if function and "name" in function]
    last = (body.get("messages") or [None])[-1]
    ends_with_result = isinstance(last, Mapping) and last.get("role") == "tool"
    if not tools or choice == "none":
        return ()
    if choice == "auto" and (ends_with_result or not is_inclined):
        return ()
    name = choice.get("function", {}).get("name") if isinstance(choice, Mapping) else None
    tools = [tool for tool in tools if name in (None, tool["name"])] or tools
    count = 2 if draw.random() < behavior.parallel else 1
    return tuple(_call(draw.choice(tools), tools, behavior, draw) for _ in range(count))


def _call(
    tool: Json, tools: Sequence[Json], behavior: ProviderBehavior, draw: Random
) -> SimulatedCall:
    """Return a call of this tool, good or bad by the provider's accuracy."""
    call_id = f"call_{draw.getrandbits(96):024x}"
    is_good = draw.random() < behavior.accuracy
    errors = behavior.errors
    shares = (errors.invalid_json, errors.unknown_name, errors.schema_mismatch)
    make_bad = draw.choices(_BAD_CALLS, shares if any(shares) else None)[0]
    name, arguments = (_good_call if is_good else make_bad)(tool, tools, draw)
    return SimulatedCall(call_id, name, arguments, is_good)


_NameAndArguments = tuple[str, str]


def _good_call(tool: Json, _tools: Sequence[Json], draw: Random) -> _NameAndArguments:
    arguments = valid_arguments(tool.get("parameters"), draw)
    return str(tool["name"]), orjson.dumps(arguments).decode()


def _invalid_json(tool: Json, tools: Sequence[Json], draw: Random) -> _NameAndArguments:
    name, arguments = _good_call(tool, tools, draw)
    return name, arguments[:-1]


def _unknown_name(tool: Json, tools: Sequence[Json], draw: Random) -> _NameAndArguments:
    name, arguments = _good_call(tool, tools, draw)
    known = {each["name"] for each in tools}
    while name in known:
        name += "_v2"
    return name, arguments


def _schema_mismatch(tool: Json, tools: Sequence[Json], draw: Random) -> _NameAndArguments:
    """Return a call that violates the schema, or an unknown name if the schema accepts anything."""
    arguments = mismatched_arguments(tool.get("parameters"), draw)
    if arguments is None:
        return _unknown_name(tool, tools, draw)
    return str(tool["name"]), orjson.dumps(arguments).decode()


_BAD_CALLS: Final[Sequence[Callable[[Json, Sequence[Json], Random], _NameAndArguments]]] = (
    _invalid_json, _unknown_name, _schema_mismatch,
)  # fmt: skip
