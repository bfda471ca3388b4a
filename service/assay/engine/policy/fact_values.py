"""Facts from catalog, evidence and request values: flat mappings without the missing facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from assay.engine.evidence.benchmarks import LatestScore
from assay.engine.evidence.ignores import IgnoreCounts
from assay.engine.evidence.observations import EndpointEvidence, FoldedCounts
from assay.engine.evidence.propensity import PeerShares, PeersOfShare, ShareEstimate, ToolShares
from assay.engine.world.capabilities import STRUCTURED_OUTPUTS, with_aliases
from assay.engine.world.catalog import Endpoint, Model, Percentiles, PriceOverride, Prices
from assay.engine.world.clock import HOUR
from assay.engine.world.declarations import declared_fields
from assay.engine.world.provider_names import ProviderNames
from assay.engine.world.request import MaxPrice, Request
from assay.engine.world.world import Preference, TenantSettings

Facts = dict[str, object]
TENANTS_ASIDE: Final = "tenants_aside"
"""The fact of a cohort with the tenants that are set aside."""


def _facts_of(owner: type) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    stated = ((item.spellings.fact, item.get) for item in declared_fields(owner))
    return tuple((fact, get) for fact, get in stated if fact)


_ENDPOINT, _MODEL = _facts_of(Endpoint), _facts_of(Model)
_PRICES = tuple((f"price.{name}", get) for name, get in _facts_of(Prices))


def _known(facts: Iterable[tuple[str, object]]) -> Facts:
    return {name: value for name, value in facts if value is not None}


def endpoint_facts(endpoint: Endpoint) -> Facts:
    """Return the facts that the catalog states of an endpoint, base prices included."""
    uptime = endpoint.uptime_30m_percent
    limit = endpoint.max_completion_tokens
    computed = {
        "service_tier": endpoint.service_tier,
        "demoted": False,
        "uptime_percent": endpoint.uptime_1d_percent if uptime is None else uptime,
        "completion_limit": endpoint.context_length if limit is None else limit,
        "price.blended": _blended(endpoint.prices),
    }
    return _known((name, get(endpoint)) for name, get in _ENDPOINT) | _known(computed.items())


def price_facts(prices: Prices) -> Facts:
    """Return the facts of prices."""
    stated = ((name, get(prices)) for name, get in _PRICES)
    return _known([("price.blended", _blended(prices)), *stated])


def _blended(prices: Prices) -> float | None:
    """Return the price that the default order draws by."""
    if prices.prompt is None or prices.completion is None:
        return None
    return 0.75 * prices.prompt + 0.25 * prices.completion


def prices_at(
    base: Prices, overrides: Sequence[PriceOverride], now: datetime, prompt_tokens: int | None
) -> Prices:
    """Return the prices that apply at `now` (UTC) to a prompt of that length.

    Per price, the last override that states it applies. An override with a condition on the prompt
    does not apply to a prompt of unknown length.
    """
    current = asdict(base)
    for override in overrides:
        if _applies(override, now, prompt_tokens):
            current.update(_known(asdict(override.prices).items()))
    return Prices(**current)


def _applies(override: PriceOverride, now: datetime, prompt_tokens: int | None) -> bool:
    least = override.min_prompt_tokens
    if least is not None and (prompt_tokens or 0) <= least:
        return False
    if override.utc_days and now.isoweekday() not in override.utc_days:
        return False
    start, end = override.utc_start, override.utc_end
    if start is None or end is None:
        return True
    minute = now.hour * 60 + now.minute
    if start <= end:
        return start <= minute < end
    return minute >= start or minute < end


def evidence_facts(
    evidence: EndpointEvidence | None,
    peers: PeerShares | None,
    design_effect: float,
    as_of: datetime,
) -> Facts:
    """Return the facts of an endpoint's tool calling; without fresh evidence, only staleness."""
    if evidence is None or evidence.folded is None or peers is None:
        return {"observed.stale": evidence is not None and evidence.stale}
    folded = evidence.folded
    discounted, observed = folded.discounted, folded.observed
    hours = (folded.observed_to - folded.observed_from) / HOUR
    per_hour = observed.tool_call_requests / hours if hours > 0 else 0.0
    facts = {
        "observed.stale": False,
        "tools.requests": discounted.requests,
        "tools.tool_call_requests": discounted.tool_call_requests,
        "tools.errored_requests": discounted.errored_requests,
        "tools.tenants": folded.tenants,
        "tools.pool_tenants": _pool_tenants(folded),
        "tools.use_share": folded.use_share,
        "tools.design_effect": folded.design_effect or design_effect,
        "observed.requests": round(observed.requests),
        "observed.tool_call_requests": round(observed.tool_call_requests),
        "observed.errored_requests": round(observed.errored_requests),
        "observed.age_hours": (as_of - folded.observed_to) / HOUR,
        "observed.tool_call_requests_per_hour": per_hour,
        "observed.sources": folded.sources,
        "propensity.source": folded.main_source,
    }
    shares = folded.shares.get(folded.main_source, ToolShares())
    return _known(
        (
            *facts.items(),
            *_share_facts("propensity", shares.calls, peers.calls),
            *_share_facts("usable", shares.usable, peers.usable),
        )
    )


def _share_facts(
    name: str, own: ShareEstimate | None, peers: PeersOfShare
) -> Iterable[tuple[str, object]]:
    if own is not None:
        yield f"{name}.share", own.share
        yield f"{name}.error", own.error
    yield f"{name}.peers", peers.shares
    yield f"{name}.peers_error", peers.error
    if peers.reference is not None:
        yield f"{name}.reference", peers.reference.share
        if name == "propensity":
            yield f"{name}.reference_error", peers.reference.error


def _pool_tenants(folded: FoldedCounts) -> int | None:
    return len(folded.use.amounts) if folded.tenants is not None and folded.use else None


def ignore_facts(ignores: IgnoreCounts, others: float | None = None) -> Facts:
    """Return counts of distinct tenants; no facts if no tenant may vote.

    `others` is the share that ignores other providers of the model.
    """
    if not ignores.tenants:
        return {}
    facts = {
        "ignores.tenants": ignores.tenants,
        "ignores.ignoring": ignores.ignoring,
        "ignores.others": others,
    }
    return _known(facts.items())


def benchmark_facts(scores: Sequence[LatestScore]) -> Facts:
    """Return the latest score in each series with its age; no facts without scores."""
    if not scores:
        return {}
    return {
        "benchmarks.series": tuple(each.run.series.name for each in scores),
        "benchmarks.scores": tuple(each.run.score for each in scores),
        "benchmarks.age_days": tuple(each.age_days for each in scores),
    }


def model_facts(model: Model) -> Facts:
    """Return the facts that the catalog states of a model."""
    facts = _known((name, get(model)) for name, get in _MODEL)
    return {**facts, "author": model.model.partition("/")[0]}


def cohort_facts(endpoints: Sequence[Endpoint], evidence: Iterable[EndpointEvidence]) -> Facts:
    """Return the facts of all endpoints of a model together."""
    known = [each.folded for each in evidence if each.folded is not None]
    counts = [folded.discounted for folded in known]
    aside = {tenant for folded in known if folded.use for tenant in folded.use.aside}
    listed = (with_aliases(each.supported_parameters) for each in endpoints)
    parameters = set[str]().union(*listed)
    tiers = {each.service_tier for each in endpoints} - {""}
    called = [each for each in counts if each.tool_call_requests > 0]
    return {
        "size": len(endpoints),
        "supported_parameters": tuple(sorted(parameters)),
        "service_tiers": tuple(sorted(tiers)),
        "accuracies": tuple(1.0 - c.errored_requests / c.tool_call_requests for c in called),
        **({TENANTS_ASIDE: tuple(sorted(aside))} if aside else {}),
    }


def _request_fields(holder: str, *, optional: bool) -> list[tuple[str, str, type]]:
    """Attribute, fact and type of the declared fields of a request's part, such as `provider`."""
    return [
        (item.path.rpartition(".")[2], item.spellings.fact, item.kind)
        for item in declared_fields(Request)
        if item.spellings.fact
        and item.is_optional == optional
        and item.path.rpartition(".")[0] == holder
    ]


_REQUEST = _request_fields("", optional=False)
_PROVIDER = _request_fields("provider", optional=False)
_REQUEST_OPTIONAL = _request_fields("", optional=True)
_PROVIDER_OPTIONAL = _request_fields("provider", optional=True)
_MAX_PRICE = _request_fields("provider.max_price", optional=True)
_MIN_THROUGHPUT = _request_fields("provider.preferred_min_throughput", optional=True)
_MAX_LATENCY = _request_fields("provider.preferred_max_latency", optional=True)
_NO_LIMITS, _NO_PERCENTILES = MaxPrice(), Percentiles()


def request_facts(request: Request, model: str, variants: tuple[str, ...]) -> Facts:
    """Return the facts of a request, for one of its models; every Decide calls this."""
    wants = request.provider
    facts: Facts = {"model": model, "variants": variants, "prefers_speed": False}
    facts["capabilities"] = needed_capabilities(request)
    facts["explicit_order"] = bool(wants.order) or wants.sort is not None
    for attribute, fact, _ in _REQUEST:
        facts[fact] = getattr(request, attribute)
    for attribute, fact, _ in _PROVIDER:
        facts[fact] = getattr(wants, attribute)
    _add_known(facts, request, _REQUEST_OPTIONAL)
    _add_known(facts, wants, _PROVIDER_OPTIONAL)
    if request.service_tier == "auto":
        del facts["service_tier"]
    if wants.max_price != _NO_LIMITS:
        _add_known(facts, wants.max_price, _MAX_PRICE)
    fastest, slowest = wants.preferred_min_throughput, wants.preferred_max_latency
    if fastest != _NO_PERCENTILES or slowest != _NO_PERCENTILES:
        facts["prefers_speed"] = True
        _add_known(facts, fastest, _MIN_THROUGHPUT)
        _add_known(facts, slowest, _MAX_LATENCY)
    return facts


def needed_capabilities(request: Request) -> tuple[str, ...]:
    """Return what a request needs, besides its parameters; every Decide calls this."""
    needed: list[str] = []
    if request.tools and request.tool_choice is not None:
        needed.append(f"tool_choice.{request.tool_choice}")
    if STRUCTURED_OUTPUTS in request.parameters:
        needed.append(STRUCTURED_OUTPUTS)
    needed += [f"input_modalities.{kind}" for kind in request.input_modalities if kind != "text"]
    return tuple(needed)


def _add_known(facts: Facts, holder: object, fields: Sequence[tuple[str, str, type]]) -> None:
    for attribute, fact, kind in fields:
        value = getattr(holder, attribute)
        if value is not None:
            facts[fact] = kind(value)


def tenant_facts(
    name: str,
    settings: TenantSettings | None,
    preferences: Sequence[Preference],
    model: str,
    *,
    names: ProviderNames | None = None,
) -> Facts:
    """Return what the operator allows a tenant, and its own preferences for the model.

    Names of providers are resolved by `names`.
    """
    own = [p for p in preferences if p.model in (None, model)]
    only, ignore = (settings.only, settings.ignore) if settings else ((), ())
    ignore = (*ignore, *(p.target for p in own if p.kind == "ignore"))
    pins = tuple(p.target for p in own if p.kind == "pin")
    if names is not None and (only or ignore or pins):
        only, ignore, pins = map(names.resolve, (only, ignore, pins))
    return {
        "name": name,
        "only": only,
        "ignore": ignore,
        "pins": pins,
        "zdr": bool(settings and settings.zdr),
        "deny_data_collection": bool(settings and settings.deny_data_collection),
    }
