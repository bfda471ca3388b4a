"""A request, without any prompt text; its values are checked when it is built."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Container
from dataclasses import dataclass, field, fields
from typing import Final

from assay.engine.errors import InvalidField, UnknownModel, UnknownVariant
from assay.engine.world.catalog import Percentiles
from assay.engine.world.declarations import optional, spellings

_MTOK: Final = "USD per million tokens"
_is_uuid: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
MAX_LIST = 256
MAX_TEXT = 256
MAX_MODELS = 32
INT64_MAX = 2**63 - 1

QUANTIZATIONS = (
    "int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32",
    "unknown",
)  # fmt: skip
SORTS = ("price", "throughput", "latency", "exacto")
PARTITIONS = ("model", "none")
SERVICE_TIERS = ("auto", "default", "flex", "priority")
TOOL_CHOICES = ("none", "auto", "required", "function")


@dataclass(frozen=True, slots=True)
class MaxPrice:
    """Upper limits of prices."""

    prompt: float | None = optional("of a prompt", _MTOK)
    completion: float | None = optional("of a completion", _MTOK)
    request: float | None = optional("of a request", "USD")
    image: float | None = optional("of an image", "USD")
    audio: float | None = optional("of audio", _MTOK)


@dataclass(frozen=True, slots=True)
class ProviderPreferences:
    """OpenRouter's `provider` object, field by field."""

    order: tuple[str, ...] = optional("providers or tags to try first", default=())
    only: tuple[str, ...] = optional("providers or tags to use; empty: all", default=())
    ignore: tuple[str, ...] = optional("providers or tags not to use", default=())
    allow_fallbacks: bool = optional(
        "whether more than the first choice may be tried", default=True
    )
    require_parameters: bool = optional(
        "whether every parameter sent must be supported", default=False
    )
    data_collection: str = optional("`allow` or `deny`", default="allow")
    zdr: bool = optional("whether it requires zero data retention", default=False)
    enforce_distillable_text: bool = optional("whether distillation must be allowed", default=False)
    quantizations: tuple[str, ...] = optional("quantizations to use; empty: all", default=())
    sort: str | None = optional("`price`, `throughput`, `latency` or `exacto`")
    partition: str = optional("`model` or `none`", fact=None, default="model")
    max_price: MaxPrice = field(
        default_factory=MaxPrice, metadata=spellings("highest price {}", fact="max_price.{}")
    )
    preferred_min_throughput: Percentiles = field(
        default_factory=Percentiles,
        metadata=spellings(
            "preferred speed, {}", "tokens per second", fact="preferred_min_throughput.{}"
        ),
    )
    preferred_max_latency: Percentiles = field(
        default_factory=Percentiles,
        metadata=spellings(
            "preferred time to the first token, {}", "seconds", fact="preferred_max_latency.{}"
        ),
    )

    def __post_init__(self) -> None:
        """Reject values that OpenRouter does not define."""
        for name in ("order", "only", "ignore"):
            check_texts(f"provider.{name}", getattr(self, name))
        check_texts("provider.quantizations", self.quantizations)
        for value in self.quantizations:
            check_one_of("provider.quantizations", value, QUANTIZATIONS)
        check_one_of("provider.data_collection", self.data_collection, ("allow", "deny"))
        check_one_of("provider.sort.partition", self.partition, PARTITIONS)
        if self.sort is not None:
            check_one_of("provider.sort", self.sort, SORTS)
        for group in ("max_price", "preferred_min_throughput", "preferred_max_latency"):
            for item in fields(getattr(self, group)):
                check_not_negative(
                    f"provider.{group}.{item.name}", getattr(getattr(self, group), item.name)
                )


@dataclass(frozen=True, slots=True)
class Request:
    """One routing question.

    `models` follow `model` in order of preference, each with its own suffixes.
    """

    model: str = field(metadata=spellings("name of the model, with suffixes", fact=None))
    models: tuple[str, ...] = optional("models to fall back to", fact=None, default=())
    tenant: str = optional("the tenant's name", fact=None, default="")
    request_id: str = optional("the caller's own id", fact=None, default="")
    tools: int = optional("number of tools offered", default=0)
    tool_choice: str | None = optional("`none`, `auto`, `required` or `function`")
    parameters: tuple[str, ...] = optional("names of the parameters sent", default=())
    max_tokens: int | None = optional("longest answer", "tokens")
    prompt_tokens: int | None = optional("length of the prompt as the caller counts it", "tokens")
    input_modalities: tuple[str, ...] = optional("kinds of input in the prompt", default=())
    provider: ProviderPreferences = field(
        default_factory=ProviderPreferences, metadata=spellings("{}", fact="provider.{}")
    )
    service_tier: str | None = optional("`default`, `flex` or `priority`; `auto` counts as missing")
    session_id: str = optional("session whose requests draw alike", fact=None, default="")
    seed: bytes = optional("seed of all draws", fact=None, default=b"")
    min_policy_revision: int = optional("oldest policy revision to accept", fact=None, default=0)
    previous_endpoint_id: str = optional(
        "endpoint that served the conversation before; empty: none", default=""
    )
    previous_decision_id: str = optional("decision of the previous request", fact=None, default="")

    def __post_init__(self) -> None:
        """Reject values out of range."""
        if not self.model:
            raise InvalidField("model", self.model, "a model name such as author/slug")
        check_texts("models", self.models, limit=MAX_MODELS)
        for name in ("parameters", "input_modalities"):
            check_texts(name, getattr(self, name))
        for name in ("model", "tenant", "request_id", "session_id", "previous_endpoint_id"):
            check_text(name, getattr(self, name))
        for name in ("tools", "max_tokens", "prompt_tokens", "min_policy_revision"):
            check_not_negative(name, getattr(self, name))
        if self.tool_choice is not None:
            check_one_of("tool_choice", self.tool_choice, TOOL_CHOICES)
        if self.service_tier is not None:
            check_one_of("service_tier", self.service_tier, SERVICE_TIERS)
        if self.previous_decision_id and not _is_uuid(self.previous_decision_id):
            raise InvalidField("previous_decision_id", self.previous_decision_id, "a UUID")
        if len(self.seed) not in (0, 16, 32):
            raise InvalidField("seed", self.seed.hex(), "16 or 32 bytes")


def check_text(name: str, value: str) -> None:
    """Reject text that is too long or not printable."""
    if len(value) > MAX_TEXT:
        raise InvalidField(name, value, f"at most {MAX_TEXT} characters")
    if not value.isprintable():
        raise InvalidField(name, value, "printable text")


def check_texts(name: str, values: tuple[str, ...], limit: int = MAX_LIST) -> None:
    """Reject lists that are too long, and empty or unprintable members."""
    if len(values) > limit:
        raise InvalidField(name, f"{len(values)} items", f"a list of at most {limit}")
    for index, value in enumerate(values):
        if not value:
            raise InvalidField(f"{name}[{index}]", value, "a name")
        check_text(f"{name}[{index}]", value)


def check_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Reject a word that is not listed."""
    if value not in allowed:
        raise InvalidField(name, value, f"one of {', '.join(allowed)}")


def check_not_negative(name: str, value: float | None) -> None:
    """Reject negative, infinite and NaN numbers, and integers beyond 64 bits."""
    if value is not None and not (math.isfinite(value) and 0 <= value <= INT64_MAX):
        raise InvalidField(name, value, "a finite number, zero or more")


CATALOG_VARIANTS = ("free", "batch", "thinking", "extended")
MAX_SLUG = 256
NAME = re.compile(r"[A-Za-z0-9~][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Slug:
    """A model, catalog variant included, and the routing variants in the order given."""

    model: str
    variants: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the slug as a caller writes it."""
        return ":".join((self.model, *self.variants))


def parse_slug(text: str, *, models: Container[str], variants: Collection[str]) -> Slug:
    """Split a requested name, given the models and routing variants that exist.

    Raises `InvalidField` for malformed names, `UnknownModel` and `UnknownVariant`.
    """
    if len(text) > MAX_SLUG:
        raise InvalidField("model", text, f"a name of at most {MAX_SLUG} characters")
    base, *suffixes = text.split(":")
    if not NAME.fullmatch(base) or not all(suffixes):
        raise InvalidField("model", text, "a name such as author/slug or author/slug:variant")
    catalog = [s for s in suffixes if s in CATALOG_VARIANTS and s not in variants]
    if len(catalog) > 1:
        raise InvalidField(
            "model", text, f"a name with at most one of {', '.join(CATALOG_VARIANTS)}"
        )
    routing = tuple(s for s in suffixes if s not in catalog)
    for suffix in routing:
        if suffix not in variants:
            raise UnknownVariant(text, suffix, tuple(sorted(variants)))
    model = ":".join((base, *catalog))
    if model not in models:
        raise UnknownModel(model)
    return Slug(model, routing)


def provider_matches(name: str, provider: str, tag: str, service_tier: str) -> bool:
    """Return whether a name in a request or preference means an endpoint.

    As at OpenRouter, a provider's slug means all its endpoints except service tiers; any other name
    means exactly one tag.
    """
    if name == provider:
        return not service_tier or tag == name
    return tag == name
