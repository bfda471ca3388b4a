"""What an answer contains: whether it shows anything, its tokens, its tool calls, and its end.

Chunks and whole answers are converted once into the types below. A value of another type is
`malformed`, in one place; fields that are not listed are handed on as they are. The same walk
repairs what strict clients would trip over: indexes and ids of tool calls, arguments that are not
text, and words for `finish_reason` that OpenAI does not have.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct

from assay.forward.taxonomy import EMPTY, HTTP_OK, MALFORMED, AttemptError, error_in_answer
from assay.toolcalls import CallClass, NotToolCallsError, OfferedTools, ToolCallAssembly, check
from assay.toolcalls.json_values import decode_json
from assay.v1 import evidence_pb2 as pb

_MAX_TOKENS: Final = 1_000_000_000  # the most that EvidenceService accepts
_MAX_CHOICES: Final = 1024
_ERROR_STATUS: Final = re.compile("[45][0-9][0-9]")
_CODE_FIELDS: Final = ("code", "status", "status_code")
_MESSAGE_FIELDS: Final = ("message", "detail")

Json = dict[str, Any]


class _Usage(Struct):
    completion_tokens: int | float | None = None


class _Content(Struct):
    """A delta or a message: the fields that a caller can see."""

    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: Any = None
    thinking: Any = None
    thinking_blocks: Any = None
    tool_calls: list[Json] | None = None
    function_call: Any = None
    audio: Any = None
    images: Any = None

    @property
    def shows(self) -> bool:
        """Whether any field has something in it."""
        return bool(
            (self.content and _has_content(self.content)) or self.tool_calls
            or self.reasoning or self.reasoning_content or self.reasoning_details
            or self.thinking or self.thinking_blocks or self.refusal
            or self.function_call or self.audio or self.images
        )  # fmt: skip


class _Choice(Struct):
    index: Any = None
    delta: _Content | None = None
    message: _Content | str | None = None
    finish_reason: str | None = None
    error: Any = None


class _Answer(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None


# OpenAI's words for the end of an answer, and those of other APIs for the same.
_CUT: Final = frozenset({"length", "content_filter"})
_FORCED: Final = frozenset({"required", "function"})  # tool choices that leave no answer but a call
_FINISH_REASONS: Final = {
    **{word: word for word in ("stop", "length", "tool_calls", "content_filter", "function_call")},
    **dict.fromkeys(("max_tokens", "max_output_tokens", "model_length"), "length"),
    **dict.fromkeys(("tool_use", "tool_call"), "tool_calls"),
    **dict.fromkeys(
        ("safety", "recitation", "prohibited_content", "blocklist", "spii", "sensitive"),
        "content_filter",
    ),
    **dict.fromkeys(("error", "abort", "network_error"), "error"),
}


class AnswerSummary:
    """Collects the facts of one attempt.

    `has_token` is true once there is something to show, or an end that explains why there is not.
    `finished` is true once a choice had a finish reason, `is_complete` once all had one. `tools`
    are those of the request, as JSON.
    """

    def __init__(self, tools: Raw | None = None) -> None:
        self.has_token = False
        self.finished = False
        self.tokens: int | None = None
        self._request_tools = tools
        self._tools: OfferedTools | None = None
        self._calls: ToolCallAssembly | None = None
        self._choices: dict[int, str | None] = {}  # numbers of choices and their finish reasons

    @property
    def is_complete(self) -> bool:
        """Whether every choice has ended with something to show, so that only usage can follow."""
        return self.has_token and self.finished and None not in self._choices.values()

    def add_chunk(self, value: object) -> Json:
        """Read a chunk and return it repaired, always with `choices`; raise AttemptError."""
        chunk, answer = self._read(value)
        chunk["choices"] = chunk.get("choices") or []
        for place, choice in enumerate(answer.choices or ()):
            if choice.delta is None and choice.message:
                raise AttemptError(MALFORMED, HTTP_OK)  # a JSON answer instead of a stream
            self._add_choice(chunk["choices"][place], choice, "delta", place)
        return chunk

    def add_answer(self, value: object) -> Json:
        """Read a whole answer and return it repaired; raise AttemptError."""
        whole, answer = self._read(value)
        if answer.choices is None:
            raise AttemptError(MALFORMED, HTTP_OK)
        for place, choice in enumerate(answer.choices):
            self._add_choice(whole["choices"][place], choice, "message", place)
        if not self.has_token:
            raise AttemptError(EMPTY, HTTP_OK)
        return whole

    def _read(self, value: object) -> tuple[Json, _Answer]:
        """Return a value and its typed fields; raise AttemptError if it is an error or neither."""
        if error := _error_in(value):
            raise error_in_answer(error)
        try:
            answer = msgspec.convert(value, _Answer)
        except msgspec.ValidationError:
            raise AttemptError(MALFORMED, HTTP_OK) from None
        tokens = answer.usage.completion_tokens if answer.usage else None
        if tokens is not None:
            self.tokens = int(min(max(tokens, 0), _MAX_TOKENS))
        assert isinstance(value, dict)  # noqa: S101 - anything else does not convert
        return value, answer

    def _add_choice(
        self, raw: Json, choice: _Choice, part: Literal["delta", "message"], place: int
    ) -> None:
        """Add a choice, and repair it in place."""
        reason = _finish_reason(choice.finish_reason)
        if choice.error or reason == "error":
            raise error_in_answer(choice.error)
        is_stated = isinstance(choice.index, int) and not isinstance(choice.index, bool)
        number = raw["index"] = choice.index if is_stated else place
        if reason or number not in self._choices:
            self._choices[number] = reason
        if len(self._choices) > _MAX_CHOICES:
            raise AttemptError(MALFORMED, HTTP_OK)
        content = choice.delta if part == "delta" else choice.message
        if not isinstance(raw.get(part), dict):
            raw[part] = {} if part == "delta" else {"role": "assistant", "content": None}
        if isinstance(content, _Content):
            if not self.has_token:
                self.has_token = content.shows
            if content.tool_calls:
                raw[part]["tool_calls"] = self._add_calls(content.tool_calls, part, number)
        if choice.finish_reason is not None:
            self._end_choice(raw, reason, part, number)
        elif part == "message":  # a whole answer has ended, even if it does not say so
            raw["finish_reason"] = None
            self._end_choice(raw, "stop", part, number)

    def _add_calls(self, calls: list[Json], part: str, number: int) -> list[Json]:
        if self._calls is None:
            self._tools = _offered_tools(self._request_tools)
            self._calls = ToolCallAssembly(self._tools)
        add = self._calls.add_deltas if part == "delta" else self._calls.add_message
        try:
            return add(calls, number)
        except NotToolCallsError:
            raise AttemptError(MALFORMED, HTTP_OK) from None

    def _end_choice(self, raw: Json, reason: str | None, part: str, number: int) -> None:
        """Note the end of a choice, and give it OpenAI's word; `reason` is `None` if there is none.

        `stop` after complete tool calls becomes `tool_calls`, as clients look for that word.
        """
        stated = raw["finish_reason"]
        if reason in _CUT:
            self.has_token = True
        elif reason and self._calls is not None:
            if part == "delta" and (deltas := self._calls.missing_deltas(number)):
                raw[part]["tool_calls"] = [*(raw[part].get("tool_calls") or ()), *deltas]
            if reason == "stop" and self._calls.are_complete(number):
                reason = "tool_calls"
        self.finished = self.finished or reason is not None
        if reason != stated:
            raw["finish_reason"] = reason
            if stated:
                raw.setdefault("native_finish_reason", stated)

    def tool_use(self, use: pb.ToolUse | None) -> pb.ToolUse | None:
        """Return the tool use of a complete answer; `use` says what its request offered.

        Calls of a choice that was cut off by a token limit or a filter count only if the request
        forced a call: otherwise neither the endpoint nor the model ended them. An answer with more
        than is checked is errored, however it ended.
        """
        if use is None or self._calls is None:
            return use
        if self._calls.overflowed:
            use.tool_call_requests = use.errored_requests = 1
            return use
        ends = self._choices.items()
        is_forced = use.tool_choice in _FORCED
        counted = [number for number, reason in ends if is_forced or reason not in _CUT]
        calls = [call for number in counted for call in self._calls.assembled(number)]
        if not calls:
            return use
        use.tool_call_requests = 1
        if self._tools is not None:
            checked = check(self._tools, calls)
            use.errored_requests = int(checked.errored)
            use.tool_calls = len(checked.calls)
            for kind in set(CallClass) - {CallClass.VALID}:
                setattr(use, kind.name.lower(), checked.calls.count(kind))
        return use


def _has_content(content: str | list[Any] | None) -> bool:
    """Return whether content is text, or has a part that is more than a type and empty text."""
    if not isinstance(content, list):
        return bool(content)
    for part in content:
        fields = part if isinstance(part, dict) else {"text": part}
        if any(value for name, value in fields.items() if name != "type"):
            return True
    return False


def _finish_reason(word: str | None) -> str | None:
    """Return OpenAI's word; empty text is none, and an unknown word means `stop`."""
    return _FINISH_REASONS.get(word.lower(), "stop") if word else None


def _offered_tools(tools: Raw | None) -> OfferedTools | None:
    """Return the tools of a request, or `None` if they are not known."""
    try:
        return None if tools is None else OfferedTools(decode_json(bytes(tools)))
    except (ValueError, TypeError):  # the caller's, so no endpoint is judged by them
        return None


def _error_in(value: object) -> object:
    """Return the error of an answer, or `None`.

    It is the field `error` with the codes around it, an item of a list, or the whole value.
    """
    if isinstance(value, list):
        items = (item for item in value if isinstance(item, dict))
        return next((error for item in items if (error := _error_in(item))), None)
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if error and not (isinstance(error, dict) and not any(error.values())):
        around = {name: value[name] for name in _CODE_FIELDS if name in value}
        return {"error": error, **around}
    if value.get("choices") is not None or value.get("usage") is not None:
        return None
    says_so = "error" in (value.get("object"), value.get("type"))
    has_message = any(isinstance(value.get(name), str) for name in _MESSAGE_FIELDS)
    has_status = any(_is_error_status(value.get(name)) for name in _CODE_FIELDS)
    return value if says_so or has_message or has_status else None


def _is_error_status(value: object) -> bool:
    text = str(value) if isinstance(value, int) else value
    return isinstance(text, str) and _ERROR_STATUS.fullmatch(text) is not None
