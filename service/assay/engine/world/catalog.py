"""The catalog's models and endpoints: plain values, in which `None` means unknown.

Each field is declared once; `declarations` says what is derived from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from assay.engine.world.declarations import optional, spellings

_MTOK: Final = "USD per million tokens"
_SERVICE_TIERS: Final = ("flex", "priority")


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Four points of a distribution.

    90 % of requests have at most the `p90` latency, and at least the `p90` throughput.
    """

    p50: float | None = optional("p50")
    p75: float | None = optional("p75")
    p90: float | None = optional("p90")
    p99: float | None = optional("p99")


@dataclass(frozen=True, slots=True)
class Prices:
    """What an endpoint charges; `None` means that no price is stated, which is not free."""

    prompt: float | None = optional("of a prompt", _MTOK, column="prompt_usd_per_mtok")
    completion: float | None = optional("of a completion", _MTOK, column="completion_usd_per_mtok")
    cache_read: float | None = optional(
        "of reading a cached prompt", _MTOK, fact=None, column="cache_read_usd_per_mtok"
    )
    cache_write: float | None = optional(
        "of writing a prompt to the cache", _MTOK, fact=None, column="cache_write_usd_per_mtok"
    )
    audio: float | None = optional("of audio", _MTOK, column="audio_usd_per_mtok")
    request_usd: float | None = optional("of a request", "USD", fact="request")
    image_usd: float | None = optional("of an image", "USD", fact="image")


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """Prices that replace the base prices while all conditions hold; per price, the last one wins.

    The prompt must be longer than `min_prompt_tokens`. `utc_start` and `utc_end` are minutes of the
    UTC day, half-open, and may wrap over midnight; `utc_days` are ISO weekdays (Monday is 1).
    """

    prices: Prices
    min_prompt_tokens: int | None = None
    utc_start: int | None = None
    utc_end: int | None = None
    utc_days: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """An organization that serves models."""

    slug: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model as listed: `author/slug`, catalog variant included (`…:free`)."""

    model: str = field(metadata=spellings("`author/slug`, with the catalog variant", fact="id"))
    name: str | None = optional("name for people", fact=None)
    context_length: int | None = optional(
        "prompt and completion together", "tokens", column="context_length_tokens"
    )
    input_modalities: tuple[str, ...] | None = optional("`text`, `image` …")
    output_modalities: tuple[str, ...] | None = optional("`text`, `image` …")
    distillable: bool | None = optional("whether its author allows distillation")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One provider's offer of one model; `endpoint_id` is the only key."""

    endpoint_id: str = field(
        metadata=spellings("`model@tag`, with `~2` … where a tag repeats", fact="id", csv=None)
    )
    model: str = field(metadata=spellings("name of its model", fact=None))
    provider: str = field(metadata=spellings("the provider's slug"))
    tag: str = field(
        metadata=spellings("the provider's name for this offer, such as `deepinfra/fp8`")
    )
    provider_name: str | None = optional("the provider's name for people, such as `DeepInfra`")
    quantization: str = optional(
        "`fp8`, `bf16` …; `unknown` if it is not stated", default="unknown"
    )
    context_length: int | None = optional(
        "prompt and completion together",
        "tokens",
        column="context_length_tokens",
        csv="context_length",
    )
    max_completion_tokens: int | None = optional("longest completion", "tokens", fact=None)
    max_prompt_tokens: int | None = optional("longest prompt", "tokens")
    supported_parameters: tuple[str, ...] = optional(
        "names of the request parameters that it supports; as a fact, with their aliases",
        default=(),
    )
    tool_choices: tuple[str, ...] | None = optional(
        "values of tool_choice that it supports", fact=None
    )
    input_modalities: tuple[str, ...] | None = optional(
        "kinds of input that it accepts, where they differ from the model's", fact=None, csv=None
    )
    prices: Prices = field(
        default_factory=Prices, metadata=spellings("price {}", fact="price.{}", column="{}")
    )
    overrides: tuple[PriceOverride, ...] = ()
    status: int | None = optional(
        "status in the catalog; 0 is good, a negative status is degraded", is_reading=True
    )
    uptime_30m_percent: float | None = optional(
        "requests answered in the last 30 minutes",
        "percent",
        fact=None,
        csv="uptime_last_30m_percent",
        is_reading=True,
    )
    uptime_1d_percent: float | None = optional(
        "requests answered in the last day",
        "percent",
        fact=None,
        csv="uptime_last_1d_percent",
        is_reading=True,
    )
    latency_s: Percentiles = field(
        default_factory=Percentiles,
        metadata=spellings(
            "time to the first token that this share of requests does not exceed, {}",
            "seconds",
            fact="latency.{}_s",
            column="latency_{}_s",
            is_reading=True,
        ),
    )
    throughput_tps: Percentiles = field(
        default_factory=Percentiles,
        metadata=spellings(
            "speed that this share of requests reaches, {}",
            "tokens per second",
            fact="throughput.{}_tps",
            column="throughput_{}_tps",
            is_reading=True,
        ),
    )
    zdr: bool | None = optional("whether it keeps no data (zero data retention)")
    collects_data: bool | None = optional(
        "whether it may keep prompts or train on them", csv="data_collection"
    )
    implicit_caching: bool | None = optional(
        "whether it caches prompts without being asked", csv="supports_implicit_caching"
    )

    @property
    def service_tier(self) -> str:
        """`flex` or `priority` if the tag ends so, otherwise empty."""
        last = self.tag.rsplit("/", 1)[-1]
        return last if "/" in self.tag and last in _SERVICE_TIERS else ""
