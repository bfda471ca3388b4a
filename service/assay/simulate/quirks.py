"""Odd shapes in which real providers write tool calls and streams; the content stays the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Any, Final

import orjson

Pieces = list[dict[str, Any]]  # one call: its deltas in a stream, or the call of a whole answer


class Quirk(StrEnum):
    """One odd shape of a provider."""

    REUSED_INDEX = "reused_index"  # every streamed call has index 0
    MISSING_INDEX = "missing_index"  # streamed calls have none
    MISSING_IDS = "missing_ids"
    SPLIT_NAMES = "split_names"  # a streamed name comes in two pieces
    OBJECT_ARGUMENTS = "object_arguments"  # JSON instead of text with JSON
    STOP_AFTER_CALLS = "stop_after_calls"  # `finish_reason` is `stop` instead of `tool_calls`
    USAGE_UNASKED = "usage_unasked"  # every stream ends with a usage chunk


def reshape_call(pieces: Pieces, quirks: Collection[Quirk]) -> Pieces:
    """Return a whole call as a provider with these quirks writes it."""
    return _apply(_OF_CALLS, pieces, quirks)


def reshape_deltas(pieces: Pieces, quirks: Collection[Quirk]) -> Pieces:
    """Return the deltas of a call as a provider with these quirks writes them."""
    return _apply(_OF_DELTAS, _apply(_OF_CALLS, pieces, quirks), quirks)


_Reshape = Callable[[Pieces], Pieces]


def _apply(table: Mapping[Quirk, _Reshape], pieces: Pieces, quirks: Collection[Quirk]) -> Pieces:
    for quirk, reshape in table.items():
        if quirk in quirks:
            pieces = reshape(pieces)
    return pieces


def _with_object_arguments(pieces: Pieces) -> Pieces:
    """Return one piece with parsed arguments; text that is not JSON stays as it is."""
    text = "".join(piece["function"]["arguments"] for piece in pieces)
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError:
        return pieces
    first = pieces[0]
    return [{**first, "function": {**first["function"], "arguments": arguments}}]


def _with_split_name(pieces: Pieces) -> Pieces:
    first, *rest = pieces
    name = first["function"]["name"]
    half = (len(name) + 1) // 2
    head = {**first, "function": {"name": name[:half], "arguments": ""}}
    tail = {
        **{key: value for key, value in first.items() if key == "index"},
        "function": {**first["function"], "name": name[half:]},
    }
    return [head, tail, *rest]


def _with_index_zero(pieces: Pieces) -> Pieces:
    return [{**piece, "index": 0} for piece in pieces]


def _without(key: str) -> _Reshape:
    return lambda pieces: [
        {name: value for name, value in piece.items() if name != key} for piece in pieces
    ]


_OF_CALLS: Final[Mapping[Quirk, _Reshape]] = {
    Quirk.OBJECT_ARGUMENTS: _with_object_arguments,
    Quirk.MISSING_IDS: _without("id"),
}
_OF_DELTAS: Final[Mapping[Quirk, _Reshape]] = {
    Quirk.SPLIT_NAMES: _with_split_name,
    Quirk.REUSED_INDEX: _with_index_zero,
    Quirk.MISSING_INDEX: _without("index"),
}
