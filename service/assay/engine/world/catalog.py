"""What the catalog says of models and endpoints: plain values, absence is `None`, units are in the names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from assay.engine.evidence.benchmarks import BenchmarkRun

if TYPE_CHECKING:  # what these are, they say of the endpoints and observations below
    from assay.engine.evidence.ignores import Ballot
    from assay.engine.evidence.speed import Served
    from assay.engine.evidence.traffic_counts import Tally

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


@dataclass(frozen=True, slots=True)
class Observation:
    """Counts of what an endpoint did with requests that offered tools, from one source in one window.

    `requests` offered tools and were answered; `tool_call_requests` of them ended in tool calls;
    `errored_requests` of those held at least one bad call.
    """

    endpoint_id: str
    source: str
    observed_from: datetime
    observed_to: datetime
    requests: int
    tool_call_requests: int
    errored_requests: int
    reference: bool = False


@dataclass(frozen=True, slots=True)
class Preference:
    """A tenant's pin or ignore of a provider (slug) or an endpoint (tag), for one model or for all (`None`)."""

    tenant: str
    kind: str  # "pin" | "ignore"
    target: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """What the operator allows a tenant: an empty `only` allows all providers."""

    tenant: str
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    zdr: bool = False
    deny_data_collection: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """Everything judging reads, besides policy: the whole catalog, all evidence, all tenants.

    Endpoints that are gone from every source are left out; each tuple may come in any order.
    """

    models: tuple[Model, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    observations: tuple[Observation, ...] = ()
    preferences: tuple[Preference, ...] = ()
    tenants: tuple[TenantSettings, ...] = ()
    benchmarks: tuple[BenchmarkRun, ...] = ()
    tallies: Mapping[str, tuple[Tally, ...]] = field(
        default_factory=dict
    )  # by the key of the way of folding
    ballots: tuple[Ballot, ...] = ()
    served: Mapping[str, Served] = field(default_factory=dict)  # by endpoint
