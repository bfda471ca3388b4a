"""Catalog, evidence and request values turned into facts: flat mappings in which an absent fact has no key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime

from assay.engine.evidence.benchmarks import LatestScore
from assay.engine.evidence.ignores import IgnoreCounts
from assay.engine.evidence.observations import EndpointEvidence, FoldedCounts, PeerPropensities
from assay.engine.world.catalog import Endpoint, Model, Percentiles, PriceOverride, Prices
from assay.engine.world.clock import HOUR
from assay.engine.world.request import Request
from assay.engine.world.tenants import Preference, TenantSettings

Facts = dict[str, object]


def present(facts: Mapping[str, object]) -> Facts:
    """The facts that are known."""
    return {name: value for name, value in facts.items() if value is not None}


def percentile_facts(prefix: str, suffix: str, values: Percentiles) -> Facts:
    """One fact per known percentile."""
    return present(
        {f"{prefix}.{f.name}{suffix}": getattr(values, f.name) for f in fields(Percentiles)}
    )


def endpoint_facts(endpoint: Endpoint) -> Facts:
    """What the catalog alone says of an endpoint, base prices included."""
    uptime = (
        endpoint.uptime_1d_percent
        if endpoint.uptime_30m_percent is None
        else endpoint.uptime_30m_percent
    )
    limit = (
        endpoint.context_length
        if endpoint.max_completion_tokens is None
        else endpoint.max_completion_tokens
    )
    return {
        "id": endpoint.endpoint_id,
        "provider": endpoint.provider,
        "tag": endpoint.tag,
        "service_tier": endpoint.service_tier,
        "quantization": endpoint.quantization,
        "supported_parameters": endpoint.supported_parameters,
        "demoted": False,
        **present(
            {
                "context_length": endpoint.context_length,
                "max_prompt_tokens": endpoint.max_prompt_tokens,
                "completion_limit": limit,
                "status": endpoint.status,
                "uptime_percent": uptime,
                "zdr": endpoint.zdr,
                "collects_data": endpoint.collects_data,
                "implicit_caching": endpoint.implicit_caching,
            }
        ),
        **percentile_facts("latency", "_s", endpoint.latency_s),
        **percentile_facts("throughput", "_tps", endpoint.throughput_tps),
        **price_facts(endpoint.prices),
    }


def price_facts(prices: Prices) -> Facts:
    """Prices, and the blend of them that the default order draws by."""
    blended = None
    if prices.prompt is not None and prices.completion is not None:
        blended = 0.75 * prices.prompt + 0.25 * prices.completion
    return present(
        {
            "price.prompt": prices.prompt,
            "price.completion": prices.completion,
            "price.blended": blended,
            "price.audio": prices.audio,
            "price.request": prices.request_usd,
            "price.image": prices.image_usd,
        }
    )


def prices_at(
    base: Prices, overrides: Sequence[PriceOverride], now: datetime, prompt_tokens: int | None
) -> Prices:
    """The prices that hold at `now` (UTC) for a prompt of that length; a later override wins, price by price.

    An override with a condition on an unknown prompt length does not hold.
    """
    current = {f.name: getattr(base, f.name) for f in fields(Prices)}
    for override in overrides:
        if holds(override, now, prompt_tokens):
            current.update(
                {
                    n: v
                    for f in fields(Prices)
                    if (v := getattr(override.prices, n := f.name)) is not None
                }
            )
    return Prices(**current)


def holds(override: PriceOverride, now: datetime, prompt_tokens: int | None) -> bool:
    """Whether every condition of an override is met."""
    if (
        override.min_prompt_tokens is not None
        and (prompt_tokens or 0) <= override.min_prompt_tokens
    ):
        return False
    if override.utc_days and now.isoweekday() not in override.utc_days:
        return False
    if override.utc_start is None or override.utc_end is None:
        return True
    minute = now.hour * 60 + now.minute
    if override.utc_start <= override.utc_end:
        return override.utc_start <= minute < override.utc_end
    return minute >= override.utc_start or minute < override.utc_end


def evidence_facts(
    evidence: EndpointEvidence | None,
    peers: PeerPropensities | None,
    design_effect: float,
    as_of: datetime,
) -> Facts:
    """What was observed of an endpoint's tool calling; nothing but staleness where nothing fresh was."""
    if evidence is None or evidence.folded is None or peers is None:
        return {"observed.stale": evidence is not None and evidence.stale}
    folded = evidence.folded
    return {
        "observed.stale": False,
        "tools.requests": folded.discounted.requests,
        "tools.tool_call_requests": folded.discounted.tool_call_requests,
        "tools.errored_requests": folded.discounted.errored_requests,
        **present({"tools.errored_requests_lenient": folded.lenient_errored}),
        "tools.design_effect": folded.design_effect or design_effect,
        "observed.requests": round(folded.observed.requests),
        "observed.tool_call_requests": round(folded.observed.tool_call_requests),
        "observed.errored_requests": round(folded.observed.errored_requests),
        "observed.age_hours": (as_of - folded.observed_to) / HOUR,
        "observed.tool_call_requests_per_hour": tool_call_requests_per_hour(folded),
        "observed.sources": folded.sources,
        **propensity_facts(folded, peers),
    }


def tool_call_requests_per_hour(folded: FoldedCounts) -> float:
    """Tool-call requests an hour, from the beginning of the first window to the end of the last."""
    hours = (folded.observed_to - folded.observed_from) / HOUR
    return folded.observed.tool_call_requests / hours if hours > 0 else 0.0


def propensity_facts(folded: FoldedCounts, peers: PeerPropensities) -> Facts:
    """How often tools were called, against the other endpoints that the same source saw."""
    return present(
        {
            "propensity.source": folded.main_source,
            "propensity.share": folded.share(folded.main_source),
            "propensity.peers": peers.shares,
            "propensity.reference": peers.reference,
        }
    )


def ignore_facts(ignores: IgnoreCounts) -> Facts:
    """Counts of distinct tenants; absent where nobody has a say."""
    if not ignores.tenants:
        return {}
    return {"ignores.tenants": ignores.tenants, "ignores.ignoring": ignores.ignoring}


def benchmark_facts(standings: Sequence[LatestScore]) -> Facts:
    """The latest score in each series with its age; absent where there is none."""
    if not standings:
        return {}
    return {
        "benchmarks.series": tuple(each.run.series.name for each in standings),
        "benchmarks.scores": tuple(each.run.score for each in standings),
        "benchmarks.age_days": tuple(each.age_days for each in standings),
    }


def model_facts(model: Model) -> Facts:
    """What the catalog says of a model."""
    return {
        "id": model.model,
        "author": model.model.partition("/")[0],
        **present(
            {
                "context_length": model.context_length,
                "input_modalities": model.input_modalities,
                "output_modalities": model.output_modalities,
                "distillable": model.distillable,
            }
        ),
    }


def cohort_facts(endpoints: Sequence[Endpoint], evidence: Iterable[EndpointEvidence]) -> Facts:
    """What is known of all endpoints of a model together."""
    counts = [e.folded.discounted for e in evidence if e.folded is not None]
    return {
        "size": len(endpoints),
        "supported_parameters": tuple(
            sorted({p for e in endpoints for p in e.supported_parameters})
        ),
        "service_tiers": tuple(sorted({e.service_tier for e in endpoints} - {""})),
        "accuracies": tuple(
            1.0 - c.errored_requests / c.tool_call_requests
            for c in counts
            if c.tool_call_requests > 0
        ),
    }


def request_facts(request: Request, model: str, variants: tuple[str, ...]) -> Facts:
    """What a request says, for one of its models."""
    wants = request.provider
    facts: Facts = {
        "model": model,
        "variants": variants,
        "tools": request.tools,
        "parameters": request.parameters,
        "input_modalities": request.input_modalities,
        "explicit_order": bool(wants.order) or wants.sort is not None,
        "prefers_speed": False,
        "provider.order": wants.order,
        "provider.only": wants.only,
        "provider.ignore": wants.ignore,
        "provider.allow_fallbacks": wants.allow_fallbacks,
        "provider.require_parameters": wants.require_parameters,
        "provider.data_collection": wants.data_collection,
        "provider.zdr": wants.zdr,
        "provider.enforce_distillable_text": wants.enforce_distillable_text,
        "provider.quantizations": wants.quantizations,
    }
    add_optional(facts, request)
    return facts


NO_PERCENTILES = Percentiles()


def add_optional(facts: Facts, request: Request) -> None:
    """Add what a request may leave out."""
    wants = request.provider
    if request.tool_choice is not None:
        facts["tool_choice"] = request.tool_choice
    if request.max_tokens is not None:
        facts["max_tokens"] = request.max_tokens
    if request.prompt_tokens is not None:
        facts["prompt_tokens"] = request.prompt_tokens
    if request.service_tier is not None and request.service_tier != "auto":
        facts["service_tier"] = request.service_tier
    if wants.sort is not None:
        facts["provider.sort"] = wants.sort
    for field in fields(wants.max_price):
        if (limit := getattr(wants.max_price, field.name)) is not None:
            facts[f"provider.max_price.{field.name}"] = float(limit)
    if (
        wants.preferred_min_throughput != NO_PERCENTILES
        or wants.preferred_max_latency != NO_PERCENTILES
    ):
        facts["prefers_speed"] = True
        facts |= percentile_facts(
            "provider.preferred_min_throughput", "", wants.preferred_min_throughput
        )
        facts |= percentile_facts("provider.preferred_max_latency", "", wants.preferred_max_latency)


def tenant_facts(
    name: str, settings: TenantSettings | None, preferences: Sequence[Preference], model: str
) -> Facts:
    """What the operator allows the tenant, with the tenant's own standing preferences for the model."""
    own = [p for p in preferences if p.model in (None, model)]
    only, ignore = (settings.only, settings.ignore) if settings else ((), ())
    return {
        "name": name,
        "only": only,
        "ignore": (*ignore, *(p.target for p in own if p.kind == "ignore")),
        "pins": tuple(p.target for p in own if p.kind == "pin"),
        "zdr": bool(settings and settings.zdr),
        "deny_data_collection": bool(settings and settings.deny_data_collection),
    }
