"""What an answer contains that outcomes report: tokens, tool calls and whether it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
import orjson

from assay.forward.request import ChatRequest, EndpointCapabilities
from assay.forward.taxonomy import HTTP_OK, MALFORMED, AttemptError, error_in_answer
from assay.toolcalls import CallClass, check
from assay.v1 import evidence_pb2 as pb

_MAX_CALLS: Final = 1024
_MAX_TOKENS: Final = 1_000_000_000  # the most that EvidenceService accepts
_MAX_ARGUMENTS: Final = 4 * 1024 * 1024  # characters of names and arguments that are stored


class AnswerSummary:
    """Collects the facts of one attempt.

    `has_token` is true once a chunk had content, `finished` once a choice had a finish reason.
    """

    def __init__(self) -> None:
        self.has_token = False
        self.finished = False
        self.tokens: int | None = None
        self._calls: dict[tuple[int, int], dict[str, str]] = {}
        self._room = _MAX_ARGUMENTS  # below zero: some call was cut off

    def add(self, value: object, part: Literal["delta", "message"]) -> dict[str, Any]:
        """Read a chunk (`delta`) or a JSON answer (`message`) and return it.

        Raises AttemptError if it is an error or not of that form.
        """
        if not isinstance(value, dict):
            raise AttemptError(MALFORMED, HTTP_OK)
        if error := value.get("error"):
            raise error_in_answer(error)
        usage = value.get("usage")
        if isinstance(usage, dict) and isinstance(tokens := usage.get("completion_tokens"), int):
            self.tokens = min(max(tokens, 0), _MAX_TOKENS)
        choices = value.get("choices")
        if not isinstance(choices, list):
            raise AttemptError(MALFORMED, HTTP_OK)
        for place, choice in enumerate(choices):
            if not isinstance(choice, dict):
                raise AttemptError(MALFORMED, HTTP_OK)
            self._add_choice(choice, part, place)
        return value

    def _add_choice(self, choice: Mapping[str, Any], part: str, place: int) -> None:
        if choice.get("finish_reason") == "error":
            raise error_in_answer(choice.get("error"))
        if part == "delta" and "message" in choice:
            raise AttemptError(MALFORMED, HTTP_OK)  # a JSON answer instead of a stream
        content = choice.get(part)
        if isinstance(content, dict):
            self.has_token = self.has_token or any(content[key] for key in content if key != "role")
            calls = content.get("tool_calls")
            number = place if part == "message" else _index(choice, place)
            for call_place, call in enumerate(calls if isinstance(calls, list) else ()):
                self._add_call(number, call_place, call)
        if choice.get("finish_reason"):
            self.has_token = self.finished = True

    def _add_call(self, choice: int, place: int, call: object) -> None:
        """Add a piece of a tool call to the pieces with the same index."""
        if not isinstance(call, dict) or not isinstance(function := call.get("function"), dict):
            return
        key = choice, _index(call, place)
        collected = self._calls.setdefault(key, {"name": "", "arguments": ""})
        for name, text in collected.items():
            piece = function.get(name)
            if isinstance(piece, (dict, list)):  # arguments as JSON instead of text
                piece = orjson.dumps(piece).decode()
            if isinstance(piece, str) and len(piece) <= self._room:
                self._room -= len(piece)
                collected[name] = text + piece if name == "arguments" else text or piece
            elif piece is not None:
                self._room = -1

    def tool_use(
        self, request: ChatRequest, capabilities: EndpointCapabilities, *, answered: bool
    ) -> pb.ToolUse | None:
        """Return the tool use to report; check calls if the answer ended and all are complete."""
        use = request.tool_use(capabilities)
        if use is None or not answered or not self._calls:
            return use
        use.tool_call_requests = 1
        if self._room >= 0 and len(self._calls) <= _MAX_CALLS:
            checked = check(msgspec.json.decode(request.fields["tools"]), self._calls.values())
            use.errored_requests = int(checked.errored)
            use.tool_calls = len(checked.calls)
            for kind in set(CallClass) - {CallClass.VALID}:
                setattr(use, kind.name.lower(), checked.calls.count(kind))
        return use


def _index(item: Mapping[str, Any], place: int) -> int:
    """Return the index that a choice or call states, or else its place."""
    index = item.get("index")
    return index if isinstance(index, int) else place
