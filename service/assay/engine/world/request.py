"""What a caller may ask: a request without any prompt text, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from assay.engine.errors import InvalidField
from assay.engine.world.catalog import Percentiles

MAX_LIST = 256
MAX_TEXT = 256
MAX_MODELS = 32
INT64_MAX = 2**63 - 1

QUANTIZATIONS = (
    "int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32", "unknown",
)  # fmt: skip
SORTS = ("price", "throughput", "latency", "exacto")
PARTITIONS = ("model", "none")
SERVICE_TIERS = ("auto", "default", "flex", "priority")
TOOL_CHOICES = ("none", "auto", "required", "function")


@dataclass(frozen=True, slots=True)
class MaxPrice:
    """Upper limits: USD per million prompt or completion or audio tokens, USD per request or image."""

    prompt: float | None = None
    completion: float | None = None
    request: float | None = None
    image: float | None = None
    audio: float | None = None


@dataclass(frozen=True, slots=True)
class ProviderPreferences:
    """OpenRouter's `provider` object, field by field; latency in seconds, throughput in tokens per second."""

    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    require_parameters: bool = False
    data_collection: str = "allow"
    zdr: bool = False
    enforce_distillable_text: bool = False
    quantizations: tuple[str, ...] = ()
    sort: str | None = None
    partition: str = "model"
    max_price: MaxPrice = field(default_factory=MaxPrice)
    preferred_min_throughput: Percentiles = field(default_factory=Percentiles)
    preferred_max_latency: Percentiles = field(default_factory=Percentiles)

    def __post_init__(self) -> None:
        """Refuse what no endpoint could mean."""
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
    """One routing question; `models` follow `model` in order of preference, each with its own suffixes."""

    model: str
    models: tuple[str, ...] = ()
    tenant: str = ""
    request_id: str = ""
    tools: int = 0
    tool_choice: str | None = None
    parameters: tuple[str, ...] = ()
    max_tokens: int | None = None
    prompt_tokens: int | None = None
    input_modalities: tuple[str, ...] = ()
    provider: ProviderPreferences = field(default_factory=ProviderPreferences)
    service_tier: str | None = None
    session_id: str = ""
    seed: bytes = b""
    min_policy_revision: int = 0

    def __post_init__(self) -> None:
        """Refuse out-of-range values, each by its name."""
        if not self.model:
            raise InvalidField("model", self.model, "a model name such as author/slug")
        check_texts("models", self.models, limit=MAX_MODELS)
        for name in ("parameters", "input_modalities"):
            check_texts(name, getattr(self, name))
        for name in ("model", "tenant", "request_id", "session_id"):
            check_text(name, getattr(self, name))
        for name in ("tools", "max_tokens", "prompt_tokens", "min_policy_revision"):
            check_not_negative(name, getattr(self, name))
        if self.tool_choice is not None:
            check_one_of("tool_choice", self.tool_choice, TOOL_CHOICES)
        if self.service_tier is not None:
            check_one_of("service_tier", self.service_tier, SERVICE_TIERS)
        if len(self.seed) not in (0, 16, 32):
            raise InvalidField("seed", self.seed.hex(), "16 or 32 bytes")


def check_text(name: str, value: str) -> None:
    """Refuse over-long text and anything that is not printable."""
    if len(value) > MAX_TEXT:
        raise InvalidField(name, value, f"at most {MAX_TEXT} characters")
    if not value.isprintable():
        raise InvalidField(name, value, "printable text")


def check_texts(name: str, values: tuple[str, ...], limit: int = MAX_LIST) -> None:
    """Refuse over-long lists and empty or unprintable members."""
    if len(values) > limit:
        raise InvalidField(name, f"{len(values)} items", f"a list of at most {limit}")
    for index, value in enumerate(values):
        if not value:
            raise InvalidField(f"{name}[{index}]", value, "a name")
        check_text(f"{name}[{index}]", value)


def check_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a word outside its list."""
    if value not in allowed:
        raise InvalidField(name, value, f"one of {', '.join(allowed)}")


def check_not_negative(name: str, value: float | None) -> None:
    """Refuse negative, infinite and NaN numbers, and integers beyond 64 bits."""
    if value is not None and not (math.isfinite(value) and 0 <= value <= INT64_MAX):
        raise InvalidField(name, value, "a finite number, zero or more")
