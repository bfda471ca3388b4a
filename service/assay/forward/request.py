"""A chat request: the question for the decider, and the body for the provider.

The body is split into its fields once, and fields are copied as bytes. Prompts are not inspected,
except for the roles of messages and the types of their content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
# Fields that are not copied to the provider; `body` writes the last four itself.
_NOT_COPIED: Final = frozenset({
    "models", "provider", "route", "session_id", "plugins", "trace", "metadata", "debug", "usage",
    "transforms", "preset",
    "model", "service_tier", "stream", "stream_options",
})  # fmt: skip
_GENERAL_TIERS: Final = ("flex", "priority")
_MODALITIES: Final = {
    "text": "text",
    "image_url": "image",
    "input_audio": "audio",
    "file": "file",
    "video_url": "video",
}
_MAX_QUESTION_BYTES: Final = 256 * 1024
_NULL: Final = Raw(b"null")
_TRUE: Final = Raw(b"true")


class _Part(Struct):
    type: str = ""


class _Message(Struct):
    role: str = ""
    content: Raw = _NULL


_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_parts = msgspec.json.Decoder(list[_Part]).decode


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
        for name, raw in self.fields.items():
            if name not in _NOT_COPIED and not _drops(capabilities, name):
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

    def tool_use(self, capabilities: EndpointCapabilities) -> evidence_pb2.ToolUse | None:
        """Return the tool use to report before anything is known about the answer."""
        if not self.question.tools or _drops(capabilities, "tools"):
            return None
        return evidence_pb2.ToolUse(
            offered=self.question.tools,
            tool_choice=self.question.tool_choice,
            after_tool_result=self.after_tool_result,
        )


def _drops(capabilities: EndpointCapabilities, name: str) -> bool:
    """Return whether a parameter is dropped, since the endpoint is known not to support it."""
    if not capabilities.supports or name in capabilities.supports:
        return False
    return name in _PARAMETERS and name not in _LIMITS


def read_request(body: bytes, *, tenant: str, session_id: str, request_id: str) -> ChatRequest:
    """Read a body; raise InvalidField with the name of the first wrong field."""
    try:
        fields = _decode_fields(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
    try:
        question = pb.DecideRequest(
            model=model,
            models=models,
            tenant=tenant,
            request_id=request_id,
            tools=len(_read(fields, "tools", list[Raw], "a list of tools") or ()),
            tool_choice=_tool_choice(_read(fields, "tool_choice", Any, "a word or an object")),
            parameters=sorted(_parameters(fields)),
            max_tokens=max((limit for limit in limits if limit is not None), default=None),
            input_modalities=sorted(_modalities(messages)),
            provider=None if preferences is None else provider_preferences(preferences),
            service_tier=_read(fields, "service_tier", str, "a word"),
            session_id=_read(fields, "session_id", str, "text") or session_id,
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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidField(name, "its value", expected) from None


def _parameters(fields: Mapping[str, Raw]) -> set[str]:
    """Return the catalog's names of the parameters that are present and not null."""
    present = [name for name in fields.keys() & _PARAMETERS if fields[name] != _NULL]
    return {"max_tokens" if name in _LIMITS else name for name in present}


def _tool_choice(value: object) -> str | None:
    """Return the contract's word for a tool choice; the decider rejects unknown words by name."""
    if not isinstance(value, dict):
        return None if value is None else str(value)
    kind = value.get("type")
    allowed = value.get("allowed_tools", value)
    if kind == "allowed_tools" and isinstance(allowed, dict):
        return str(allowed.get("mode", "auto"))
    return "function" if kind == "custom" else str(kind)  # either names one tool


def _modalities(messages: Iterable[_Message]) -> set[str]:
    """Return the kinds of input in messages whose content is a list of parts."""
    found: set[str] = set()
    for message in messages:
        if memoryview(message.content)[:1].tobytes() == b"[":
            try:
                parts = _decode_parts(message.content)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # the provider decides what content may be
            found |= {_MODALITIES.get(part.type, "text") for part in parts}
    return found
