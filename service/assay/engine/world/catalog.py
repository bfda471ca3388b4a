"""What the catalog says of models and endpoints: plain values, absence is `None`, units are in the names."""

from __future__ import annotations

from dataclasses import dataclass, field

TIERS = ("flex", "priority")


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Four points of a distribution: 90 % of requests have at most the `p90` latency, at least the `p90` throughput."""

    p50: float | None = None
    p75: float | None = None
    p90: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """What an endpoint charges: USD per million tokens; `request_usd` and `image_usd` per unit."""

    prompt: float | None = None
    completion: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None
    audio: float | None = None
    request_usd: float | None = None
    image_usd: float | None = None


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """Prices that replace the base ones while all stated conditions hold; later overrides win per price.

    `min_prompt_tokens` is strictly exceeded; `utc_start`/`utc_end` are minutes of the UTC day, half-open, and may
    wrap over midnight; `utc_days` are ISO weekdays (Monday 1).
    """

    prices: Prices
    min_prompt_tokens: int | None = None
    utc_start: int | None = None
    utc_end: int | None = None
    utc_days: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """An organisation that serves models."""

    slug: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model as listed: `author/slug`, catalog variant included (`…:free`)."""

    model: str
    name: str | None = None
    context_length: int | None = None
    input_modalities: tuple[str, ...] | None = None
    output_modalities: tuple[str, ...] | None = None
    distillable: bool | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One provider's offer of one model; `endpoint_id` is the only key."""

    endpoint_id: str
    model: str
    provider: str
    tag: str
    quantization: str = "unknown"
    context_length: int | None = None
    max_completion_tokens: int | None = None
    max_prompt_tokens: int | None = None
    supported_parameters: tuple[str, ...] = ()
    prices: Prices = field(default_factory=Prices)
    overrides: tuple[PriceOverride, ...] = ()
    status: int | None = None
    uptime_30m_percent: float | None = None
    uptime_1d_percent: float | None = None
    latency_s: Percentiles = field(default_factory=Percentiles)
    throughput_tps: Percentiles = field(default_factory=Percentiles)
    zdr: bool | None = None
    collects_data: bool | None = None
    implicit_caching: bool | None = None

    @property
    def service_tier(self) -> str:
        """`flex` or `priority` where the tag ends so, else empty."""
        last = self.tag.rsplit("/", 1)[-1]
        return last if "/" in self.tag and last in TIERS else ""
