"""The tool calls of an answer: of the tools that were offered, good or bad by the provider's accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson

from assay.simulate.arguments import mismatched_arguments, valid_arguments
from assay.simulate.behaviour import Behaviour

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call; its arguments are JSON text, or were to be."""

    call_id: str
    name: str
    arguments: str


def calls_for(body: Json, behaviour: Behaviour, draw: Random) -> tuple[Call, ...]:
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


def one_call(tool: Json, tools: Sequence[Json], behaviour: Behaviour, draw: Random) -> Call:
    """A call of this tool, right or wrong in one of three ways."""
    call_id = f"call_{draw.getrandbits(96):024x}"
    good = draw.random() < behaviour.accuracy
    errors = behaviour.errors
    shares = (errors.invalid_json, errors.unknown_name, errors.schema_mismatch)
    spoil = draw.choices(SPOILERS, shares if any(shares) else None)[0]
    name, arguments = (right if good else spoil)(tool, tools, draw)
    return Call(call_id, name, arguments)


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
