"""A chat request: what the decider is asked, and what goes on to the provider, byte for byte save what is the router's.

The body is cut into its fields once and no further: prompts are not looked into, beyond roles and kinds of content.
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
COUNT: Any = Annotated[int, Meta(ge=0, le=2**63 - 1)]

# Names of OpenRouter's list of parameters that endpoints may or may not support.
PARAMETERS: Final = frozenset({
    "frequency_penalty", "include_reasoning", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "min_p",
    "parallel_tool_calls", "presence_penalty", "reasoning", "reasoning_effort", "repetition_penalty", "response_format",
    "seed", "stop", "structured_outputs", "temperature", "tool_choice", "tools", "top_a", "top_k", "top_logprobs",
    "top_p", "verbosity", "web_search_options",
})  # fmt: skip
LIMITS: Final = frozenset(
    {"max_tokens", "max_completion_tokens"}
)  # never dropped: they bound what is paid
# What stays here; the last five are put in anew.
OWN: Final = frozenset({
    "models", "provider", "route", "session_id", "plugins", "trace", "metadata", "debug", "usage", "transforms",
    "preset", "model", "service_tier", "stream", "stream_options",
})  # fmt: skip
TIERS: Final = ("flex", "priority")
MODALITIES: Final = {
    "text": "text", "image_url": "image", "input_audio": "audio", "file": "file", "video_url": "video",
}  # fmt: skip
MAX_QUESTION_BYTES: Final = 256 * 1024
NULL: Final = Raw(b"null")


class Part(Struct):
    """One piece of a message's content."""

    type: str = ""


class Message(Struct):
    """A message without what it says."""

    role: str = ""
    content: Raw = NULL


fields_of = msgspec.json.Decoder(dict[str, Raw]).decode
messages_of = msgspec.json.Decoder(list[Message]).decode
parts_of = msgspec.json.Decoder(list[Part]).decode


@dataclass(frozen=True, slots=True)
class EndpointCapabilities:
    """What the catalog says of an endpoint; `supports` is empty where it lists no parameters."""

    supports: frozenset[str] = frozenset()
    service_tier: str = ""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request read: the question, the fields to hand on, and what is known of its tools."""

    question: pb.DecideRequest
    fields: Mapping[str, Raw]
    stream: bool
    after_tool_result: bool

    def body(self, model: str, offer: EndpointCapabilities) -> bytes:
        """What goes to an endpoint: its own name of the model, and no parameter that it is known not to support."""
        parts = [b'{"model":', orjson.dumps(model)]
        for name, raw in self.fields.items():
            if name not in OWN and not self.dropped(name, offer):
                parts += (b",", orjson.dumps(name), b":", raw)
        tier = offer.service_tier or self.question.service_tier
        if tier and (offer.service_tier or tier not in TIERS):
            parts += (b',"service_tier":', orjson.dumps(tier))
        if self.stream:
            parts += (b',"stream":true,"stream_options":', self.stream_options())
        parts.append(b"}")
        return b"".join(parts)

    def dropped(self, name: str, offer: EndpointCapabilities) -> bool:
        """Whether an endpoint is known not to support a parameter."""
        return (
            bool(offer.supports)
            and name in PARAMETERS
            and name not in offer.supports
            and name not in LIMITS
        )

    def stream_options(self) -> bytes:
        """The caller's, with the usage that accounting needs."""
        options = read(self.fields, "stream_options", dict[str, Raw], "an object") or {}
        return msgspec.json.encode({**options, "include_usage": True})

    def tools_sent(self, offer: EndpointCapabilities) -> int:
        """How many tools an endpoint is offered."""
        return 0 if self.dropped("tools", offer) else self.question.tools

    def tool_use(self, offer: EndpointCapabilities) -> evidence_pb2.ToolUse | None:
        """What is to be said of the tools before anything came of them."""
        offered = self.tools_sent(offer)
        if not offered:
            return None
        return evidence_pb2.ToolUse(
            offered=offered,
            tool_choice=self.question.tool_choice,
            after_tool_result=self.after_tool_result,
        )


def read_request(body: bytes, *, tenant: str, session_id: str, request_id: str) -> ChatRequest:
    """Read a body; raises InvalidField naming what is wrong with it."""
    try:
        fields = fields_of(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidField("body", f"{len(body)} bytes", "a JSON object") from None
    messages = read(fields, "messages", list[Message], "a list of messages")
    if messages is None:
        raise InvalidField("messages", "nothing", "a list of messages")
    models = read(fields, "models", list[str], "a list of model names") or []
    model = read(fields, "model", str, "a model name") or (models.pop(0) if models else "")
    preferences = read(fields, "provider", Any, "an object")
    limits = [
        read(fields, name, COUNT, "an integer, zero or more")
        for name in ("max_completion_tokens", "max_tokens")
    ]
    try:
        question = pb.DecideRequest(
            model=model,
            models=models,
            tenant=tenant,
            request_id=request_id,
            tools=len(read(fields, "tools", list[Raw], "a list of tools") or ()),
            tool_choice=tool_choice(read(fields, "tool_choice", Any, "a word or an object")),
            parameters=sorted(parameters(fields)),
            max_tokens=max((limit for limit in limits if limit is not None), default=None),
            input_modalities=sorted(modalities(messages)),
            provider=None if preferences is None else provider_preferences(preferences),
            service_tier=read(fields, "service_tier", str, "a word"),
            session_id=read(fields, "session_id", str, "text") or session_id,
        )
    except (ValueError, TypeError) as error:  # numbers beyond 64 bits, half surrogate pairs
        raise InvalidField(
            "body", f"{len(body)} bytes", "made of numbers and texts that can be handed on"
        ) from error
    if question.ByteSize() > MAX_QUESTION_BYTES:
        raise InvalidField(
            "body",
            f"{question.ByteSize()} bytes of names and wishes",
            f"at most {MAX_QUESTION_BYTES}",
        )
    stream = read(fields, "stream", bool, "true or false") or False
    return ChatRequest(
        question, fields, stream, bool(messages) and messages[-1].role in ("tool", "function")
    )


def read(fields: Mapping[str, Raw], name: str, kind: type[T], expected: str) -> T | None:
    """A field of the body, if it is there; its value is not shown where it is wrong, for it could be a prompt."""
    raw = fields.get(name)
    if raw is None or raw == NULL:
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidField(name, "its value", expected) from None


def parameters(fields: Mapping[str, Raw]) -> set[str]:
    """Names of the parameters sent, by the names of the list; a null is as good as nothing."""
    return {
        "max_tokens" if name in LIMITS else name
        for name in fields.keys() & PARAMETERS
        if fields[name] != NULL
    }


def tool_choice(value: object) -> str | None:
    """A word of the contract's; what is none is left to the decider to refuse by name."""
    if not isinstance(value, dict):
        return None if value is None else str(value)
    kind = value.get("type")
    inner = value.get("allowed_tools", value)
    return str(
        inner.get("mode", "auto") if kind == "allowed_tools" and isinstance(inner, dict) else kind
    )


def modalities(messages: Iterable[Message]) -> set[str]:
    """The kinds of input, besides text alone."""
    found: set[str] = set()
    for message in messages:
        if memoryview(message.content)[:1].tobytes() == b"[":
            try:
                found |= {MODALITIES.get(part.type, "text") for part in parts_of(message.content)}
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # the provider judges what content may be
    return found
