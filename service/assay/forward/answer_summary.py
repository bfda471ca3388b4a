"""What an answer came to: tokens, tool calls, how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson

from assay.forward.request import ChatRequest, EndpointCapabilities
from assay.forward.taxonomy import MALFORMED, OK, AttemptError, inside
from assay.toolcalls import CallClass, check
from assay.v1 import evidence_pb2 as pb

MAX_CALLS: Final = 1024
MAX_TOKENS: Final = 1_000_000_000  # what EvidenceService takes
MAX_ARGUMENTS: Final = 4 * 1024 * 1024
COUNTED: Final = {
    CallClass.INVALID_JSON: "invalid_json",
    CallClass.UNKNOWN_NAME: "unknown_name",
    CallClass.SCHEMA_MISMATCH: "schema_mismatch",
}


class AnswerSummary:
    """Of one attempt; `meaningful` once a token was seen, `finished` once every sign of an end was."""

    def __init__(self) -> None:
        self.meaningful = False
        self.finished = False
        self.tokens: int | None = None
        self._calls: dict[tuple[int, int], dict[str, str]] = {}
        self._room = MAX_ARGUMENTS

    def take(self, value: object, part: str) -> dict[str, Any]:
        """Read a chunk (`delta`) or a whole answer (`message`); raises Failed where it is an error or none at all."""
        if not isinstance(value, dict):
            raise AttemptError(MALFORMED, OK)
        if error := value.get("error"):
            raise inside(error)
        usage = value.get("usage")
        if isinstance(usage, dict) and isinstance(tokens := usage.get("completion_tokens"), int):
            self.tokens = min(max(tokens, 0), MAX_TOKENS)
        choices = value.get("choices")
        if not isinstance(choices, list):
            raise AttemptError(MALFORMED, OK)
        for place, choice in enumerate(choices):
            if not isinstance(choice, dict):
                raise AttemptError(MALFORMED, OK)
            self._choice(choice, part, place)
        return value

    def _choice(self, choice: Mapping[str, Any], part: str, place: int) -> None:
        if choice.get("finish_reason") == "error":
            raise inside(choice.get("error"))
        if part == "delta" and "message" in choice:
            raise AttemptError(MALFORMED, OK)  # a whole answer where a stream was asked for
        said = choice.get(part)
        if isinstance(said, dict):
            self.meaningful = self.meaningful or any(said[key] for key in said if key != "role")
            calls = said.get("tool_calls")
            for index, call in enumerate(calls if isinstance(calls, list) else ()):
                self._call(place if part == "message" else number(choice, place), index, call)
        if choice.get("finish_reason"):
            self.meaningful = self.finished = True

    def _call(self, choice: int, place: int, call: object) -> None:
        """Put a piece of a tool call to its pieces."""
        if not isinstance(call, dict) or not isinstance(function := call.get("function"), dict):
            return
        kept = self._calls.setdefault((choice, number(call, place)), {"name": "", "arguments": ""})
        for name, text in kept.items():
            piece = function.get(name)
            if isinstance(piece, (dict, list)):  # arguments that were not written as text
                piece = orjson.dumps(piece).decode()
            if isinstance(piece, str) and len(piece) <= self._room:
                self._room -= len(piece)
                kept[name] = text + piece if name == "arguments" else text or piece
            elif piece is not None:
                self._room = -1  # too much of it to be judged

    def tool_use(
        self, asked: ChatRequest, offer: EndpointCapabilities, *, answered: bool
    ) -> pb.ToolUse | None:
        """What came of the tools; calls are judged where the answer ended well and all of them were kept."""
        use = asked.tool_use(offer)
        if use is None or not answered or not self._calls:
            return use
        use.tool_call_requests = 1
        if self._room >= 0 and len(self._calls) <= MAX_CALLS:
            checked = check(msgspec.json.decode(asked.fields["tools"]), self._calls.values())
            use.errored_requests = int(checked.errored)
            use.tool_calls = len(checked.calls)
            for kind, name in COUNTED.items():
                setattr(use, name, checked.calls.count(kind))
        return use


def number(item: Mapping[str, Any], place: int) -> int:
    """The index of a choice or call, by its own word or by its place."""
    index = item.get("index")
    return index if isinstance(index, int) else place
