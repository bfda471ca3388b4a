"""A chat request: the question for the decider, and the body for the provider.

The body is split into its fields once, and fields are copied as bytes. Prompts are not inspected,
except for the roles of messages, the types of their content and the length of their text.

Some fields have two spellings, and the catalog lists one of them for most endpoints: `max_tokens`
and `max_completion_tokens`, `reasoning` and `reasoning_effort`. The question names the first of
each pair (`catalog_name`), and the body uses the spelling that the endpoint lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec
import orjson
from msgspec import Meta, Raw, Struct

from assay.engine.errors import InvalidField
from assay.forward.provider_preferences import provider_preferences
from assay.v1 import evidence_pb2, routing_pb2 as pb

T = TypeVar("T")
_COUNT: Any = Annotated[int, Meta(ge=0, le=2**63 - 1)]

# The parameters that OpenRouter's catalog lists as supported or not.
_PARAMETERS: Final = frozenset({
    "frequency_penalty", "include_reasoning", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "min_p", "parallel_tool_calls", "presence_penalty", "reasoning",
    "reasoning_effort", "repetition_penalty", "response_format", "seed", "stop",
    "structured_outputs", "temperature", "tool_choice", "tools", "top_a", "top_k", "top_logprobs",
    "top_p", "verbosity", "web_search_options",
})  # fmt: skip
_LIMITS: Final = frozenset({"max_tokens", "max_completion_tokens"})  # always sent: they bound cost
_REASONING: Final = frozenset({"reasoning", "reasoning_effort"})
OTHER_SPELLING: Final = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
    "reasoning": "reasoning_effort",
    "reasoning_effort": "reasoning",
}
_TOOL_FIELDS: Final = ("tools", "tool_choice", "parallel_tool_calls")
# Fields that are not copied to the provider; `body` writes the last four itself.
_NOT_COPIED: Final = frozenset({
    "models", "provider", "route", "session_id", "plugins", "trace", "metadata", "debug", "usage",
    "transforms", "preset",
    "model", "service_tier", "stream", "stream_options",
})  # fmt: skip
_GENERAL_TIERS: Final = ("flex", "priority")
# By the type of a part without `input_` and `_url`: `image_url`, `input_image`, `input_file` …
_MODALITIES: Final = {
    "image": "image",
    "audio": "audio",
    "file": "file",
    "document": "file",
    "video": "video",
}
_TOOL_CHOICE_WORDS: Final = {"custom": "function", "tool": "function", "any": "required"}
_BYTES_PER_TOKEN: Final = 4  # of text; an estimate that suits English and code
_MAX_SESSION_CHARACTERS: Final = 256
_MAX_QUESTION_BYTES: Final = 256 * 1024
_NULL: Final = Raw(b"null")
_TRUE: Final = Raw(b"true")


class _Part(Struct):
    type: str = ""
    text: Raw = _NULL


class _Message(Struct):
    role: str = ""
    content: Raw = _NULL


class _ResponseFormat(Struct):
    type: str = ""


_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_parts = msgspec.json.Decoder(list[_Part]).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_format = msgspec.json.Decoder(_ResponseFormat).decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class EndpointCapabilities:
    """What the catalog knows about an endpoint; an empty `supports` means that it is unknown."""

    supports: frozenset[str] = frozenset()
    service_tier: str = ""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request as read; `fields` are the caller's, undecoded."""

    question: pb.DecideRequest
    fields: Mapping[str, Raw]
    stream: bool
    after_tool_result: bool
    wants_usage: bool = False

    def body(self, model: str, capabilities: EndpointCapabilities) -> bytes:
        """Return the body for an endpoint.

        It has the provider's name of the model and lacks parameters that the endpoint is known not
        to support.
        """
        parts = [b'{"model":', orjson.dumps(model)]
        for name, raw in self._fields_for(capabilities.supports):
            parts += (b",", orjson.dumps(name), b":", raw)
        tier = capabilities.service_tier or self.question.service_tier
        if tier and (capabilities.service_tier or tier not in _GENERAL_TIERS):
            parts += (b',"service_tier":', orjson.dumps(tier))
        if self.stream:
            options = _read(self.fields, "stream_options", dict[str, Raw], "an object") or {}
            # The outcome reports the usage, so the provider must send it.
            options_json = msgspec.json.encode({**options, "include_usage": True})
            parts += (b',"stream":true,"stream_options":', options_json)
        parts.append(b"}")
        return b"".join(parts)

    def dropped_parameters(self, capabilities: EndpointCapabilities) -> list[str]:
        """Return the parameters that are not sent, since the endpoint does not support them."""
        return [
            name
            for name, raw in self.fields.items()
            if raw != _NULL
            and _drops(capabilities.supports, name, raw)
            and not _is_default(name, raw)
        ]

    def _fields_for(self, supports: frozenset[str]) -> Iterator[tuple[str, bytes | Raw]]:
        """Yield what the endpoint gets of the caller's fields, under the names that it lists."""
        respelled = _respelled(self.fields, supports) if supports else {}
        for name, raw in self.fields.items():
            if name in _NOT_COPIED:
                continue
            if name in respelled:
                if (field := respelled[name]) is not None:
                    yield field
            elif not _drops(supports, name, raw):
                yield name, raw

    def tool_use(self, capabilities: EndpointCapabilities) -> evidence_pb2.ToolUse | None:
        """Return the tool use to report before anything is known about the answer."""
        supports = capabilities.supports
        if not self.question.tools or (supports and "tools" not in supports):
            return None
        return evidence_pb2.ToolUse(
            offered=self.question.tools,
            tool_choice=self.question.tool_choice,
            after_tool_result=self.after_tool_result,
        )


def _drops(supports: frozenset[str], name: str, raw: Raw) -> bool:
    """Return whether a parameter is dropped, since the endpoint is known not to support it."""
    if not supports or name not in _PARAMETERS or name in _LIMITS:
        return False
    if name in _TOOL_FIELDS and "tools" not in supports:
        return True
    if raw == _NULL:
        return name not in supports
    if name == "response_format" and _format_of(raw) == "json_schema":
        return supports.isdisjoint(("structured_outputs", "response_format"))
    if name in _REASONING:
        return supports.isdisjoint(_REASONING) or (
            name not in supports and name == "reasoning" and _effort_in(raw) is None
        )
    return name not in supports


def _is_default(name: str, raw: Raw) -> bool:
    """Return whether a parameter states what holds without it."""
    return name == "response_format" and _format_of(raw) == "text"


def _respelled(
    fields: Mapping[str, Raw], supports: frozenset[str]
) -> dict[str, tuple[str, bytes | Raw] | None]:
    """Return the fields that the endpoint lists under another name, with that name.

    `None` stands for a field whose value is already sent under the listed name.
    """
    found: dict[str, tuple[str, bytes | Raw] | None] = {}
    for name in fields.keys() & (_LIMITS | _REASONING):
        other = OTHER_SPELLING[name]
        if name in supports or other not in supports or fields[name] == _NULL:
            continue
        raw = fields[name]
        if other in _LIMITS:
            found[name] = None if fields.get(other, _NULL) != _NULL else (other, raw)
        elif name == "reasoning_effort":
            found.update(_effort_as_reasoning(fields, raw))
        elif fields.get(other, _NULL) != _NULL:
            found[name] = None
        elif (effort := _effort_in(raw)) is not None:
            found[name] = other, effort
    return found


def _effort_as_reasoning(
    fields: Mapping[str, Raw], effort: Raw
) -> dict[str, tuple[str, bytes | Raw] | None]:
    """Return `reasoning` with the effort, unless the caller's own states one."""
    own = fields.get("reasoning", _NULL)
    if own == _NULL:
        return {"reasoning_effort": ("reasoning", msgspec.json.encode({"effort": effort}))}
    try:
        merged = {"effort": effort, **_decode_object(own)}
    except _UNREADABLE:
        return {"reasoning_effort": None}
    return {"reasoning_effort": None, "reasoning": ("reasoning", msgspec.json.encode(merged))}


def _effort_in(reasoning: Raw) -> Raw | None:
    try:
        effort = _decode_object(reasoning).get("effort", _NULL)
    except _UNREADABLE:
        return None
    return None if effort == _NULL else effort


def _format_of(response_format: Raw) -> str:
    try:
        return _decode_format(response_format).type
    except _UNREADABLE:
        return ""


def read_request(body: bytes, *, tenant: str, session_id: str, request_id: str) -> ChatRequest:
    """Read a body; raise InvalidField with the name of the first wrong field."""
    try:
        fields = _decode_fields(body)
    except _UNREADABLE:
        raise InvalidField("body", f"{len(body)} bytes", "a JSON object") from None
    messages = _read(fields, "messages", list[_Message], "a list of messages")
    if messages is None:
        raise InvalidField("messages", "nothing", "a list of messages")
    models = _read(fields, "models", list[str], "a list of model names") or []
    model = _read(fields, "model", str, "a model name") or (models.pop(0) if models else "")
    preferences = _read(fields, "provider", Any, "an object")
    limits = [
        _read(fields, name, _COUNT, "an integer, zero or more")
        for name in ("max_completion_tokens", "max_tokens")
    ]
    tools = len(_read(fields, "tools", list[Raw], "a list of tools") or ())
    if not tools:
        for name in _TOOL_FIELDS:
            fields.pop(name, None)
    modalities, text_bytes = _inspect(messages)
    try:
        question = pb.DecideRequest(
            model=model,
            models=models,
            tenant=tenant,
            request_id=request_id,
            tools=tools,
            tool_choice=_tool_choice(_read(fields, "tool_choice", Any, "a word or an object")),
            parameters=sorted(_parameters(fields)),
            max_tokens=max((limit for limit in limits if limit is not None), default=None),
            prompt_tokens=text_bytes // _BYTES_PER_TOKEN or None,
            input_modalities=sorted(modalities),
            provider=None if preferences is None else provider_preferences(preferences),
            service_tier=_read(fields, "service_tier", str, "a word"),
            session_id=_read(fields, "session_id", str, "text") or session_id or _cache_key(fields),
        )
    except (ValueError, TypeError) as error:  # numbers beyond 64 bits, half surrogate pairs
        expected = "made of valid Unicode text and numbers of at most 64 bits"
        raise InvalidField("body", f"{len(body)} bytes", expected) from error
    if (size := question.ByteSize()) > _MAX_QUESTION_BYTES:
        what = f"{size} bytes of names and preferences"
        raise InvalidField("body", what, f"at most {_MAX_QUESTION_BYTES}")
    stream = _read(fields, "stream", bool, "true or false") or False
    after_tool_result = bool(messages) and messages[-1].role in ("tool", "function")
    wants_usage = stream and _wants_usage(fields)
    return ChatRequest(question, fields, stream, after_tool_result, wants_usage)


def _wants_usage(fields: Mapping[str, Raw]) -> bool:
    """Return whether the caller of a stream asks for usage, in OpenAI's or in OpenRouter's way."""
    options = _read(fields, "stream_options", dict[str, Raw], "an object") or {}
    usage = _read(fields, "usage", dict[str, Raw], "an object") or {}
    return _TRUE in (options.get("include_usage"), usage.get("include"))


def _read(fields: Mapping[str, Raw], name: str, kind: type[T], expected: str) -> T | None:
    """Return a field, if present; an error does not show its value, which could be a prompt."""
    raw = fields.get(name)
    if raw is None or raw == _NULL:
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except _UNREADABLE:
        raise InvalidField(name, "its value", expected) from None


def _cache_key(fields: Mapping[str, Raw]) -> str:
    """Return the key of the prompt cache, which names the session if nothing else does."""
    raw = fields.get("prompt_cache_key", _NULL)
    if raw == _NULL:
        return ""
    try:
        key = msgspec.json.decode(raw, type=str)
    except _UNREADABLE:
        return ""
    return key if key.isprintable() and len(key) <= _MAX_SESSION_CHARACTERS else ""


def catalog_name(name: str, fields: Mapping[str, Raw]) -> str:
    """Return the name under which the question has a field of the request; empty: it has not."""
    if name in _LIMITS:
        return "max_tokens"
    if name in _REASONING:
        return "reasoning"
    if name == "response_format" and name in fields:
        kind = _format_of(fields[name])
        return {"text": "", "json_schema": "structured_outputs"}.get(kind, name)
    return name


def _parameters(fields: Mapping[str, Raw]) -> set[str]:
    """Return the catalog's names of the parameters that are present and not null."""
    present = [name for name in fields.keys() & _PARAMETERS if fields[name] != _NULL]
    return {catalog_name(name, fields) for name in present} - {""}


def _tool_choice(value: object) -> str | None:
    """Return the contract's word for a tool choice; the decider rejects unknown words by name."""
    if not isinstance(value, dict):
        return None if value is None else _TOOL_CHOICE_WORDS.get(str(value), str(value))
    kind = str(value.get("type"))
    allowed = value.get("allowed_tools", value)
    if kind == "allowed_tools" and isinstance(allowed, dict):
        return str(allowed.get("mode", "auto"))
    return _TOOL_CHOICE_WORDS.get(kind, kind)


def _inspect(messages: Iterable[_Message]) -> tuple[set[str], int]:
    """Return the kinds of input in messages that consist of parts, and the bytes of all text."""
    found: set[str] = set()
    text_bytes = 0
    for message in messages:
        content = bytes(message.content)
        if not content.startswith(b"["):
            text_bytes += _text_bytes(content)
            continue
        try:
            parts = _decode_parts(content)
        except _UNREADABLE:
            continue  # the provider decides what content may be
        for part in parts:
            kind = part.type.removeprefix("input_").removesuffix("_url")
            found.add(_MODALITIES.get(kind, "text"))
            text_bytes += _text_bytes(bytes(part.text))
    return found, text_bytes


def _text_bytes(raw: bytes) -> int:
    """Return the length of a JSON text in UTF-8, about; that of other values is zero.

    An escape of one character counts as one byte, one of four hex digits as three.
    """
    if not raw.startswith(b'"'):
        return 0
    return len(raw) - len(b'""') - raw.count(b"\\") - 2 * raw.count(b"\\u")
