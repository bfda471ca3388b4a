"""One endpoint row of an OpenRouter catalog."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING

from assay.engine.catalog import Endpoint, Percentiles
from assay.importers import cells, json_fields
from assay.importers.cells import RefusedError
from assay.importers.openrouter_prices import read_pricing

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from assay.engine.document import Refusal
    from assay.importers.json_fields import Object

POINTS = ("p50", "p75", "p90", "p99")
MS = 1000


def read_offer(
    item: Object, model: str, *, names: Container[object], slugs: Mapping[str, str]
) -> tuple[Endpoint, tuple[Refusal, ...]]:
    """Read an endpoint of `model`, which its row may call by any of `names`; price overrides are refused alone."""
    stated = item.get("model_id")
    if stated is not None and stated not in names:
        raise RefusedError("model_id", json_fields.shown(stated), f"the model of this list, {model}")
    provider, tag = read_seller(item)
    if provider not in slugs:
        raise RefusedError("provider_name", provider, "listed in providers, and its tags are all of others")
    pricing = item.get("pricing")
    prices, overrides, refused = read_pricing({} if pricing is None else json_fields.an_object("pricing", pricing))
    quantization = item.get("quantization")
    endpoint = Endpoint(
        endpoint_id="",
        model=model,
        provider=slugs[provider],
        tag=tag,
        quantization="unknown" if quantization is None else _word("quantization", quantization),
        context_length=json_fields.limit(item, "context_length"),
        max_completion_tokens=json_fields.limit(item, "max_completion_tokens"),
        max_prompt_tokens=json_fields.limit(item, "max_prompt_tokens"),
        supported_parameters=json_fields.words(item, "supported_parameters") or (),
        prices=prices,
        overrides=overrides,
        status=json_fields.code(item, "status"),
        uptime_30m_percent=json_fields.percent("uptime_last_30m", item.get("uptime_last_30m")),
        uptime_1d_percent=json_fields.percent("uptime_last_1d", item.get("uptime_last_1d")),
        latency_s=_percentiles(item, "latency_last_30m", rising=True, unit=MS),
        throughput_tps=_percentiles(item, "throughput_last_30m", rising=False),
        implicit_caching=json_fields.flag(item, "supports_implicit_caching"),
    )
    return endpoint, refused


def read_seller(item: Object) -> tuple[str, str]:
    """Read who offers: the provider's display name and the endpoint's tag."""
    name = cells.title("provider_name", json_fields.text("provider_name", item.get("provider_name")))
    if not name.strip():
        raise RefusedError("provider_name", name, "a name")
    return name, cells.named("tag", json_fields.text("tag", item.get("tag")), cells.TAG)


def _word(field: str, value: object) -> str:
    return cells.named(field, json_fields.text(field, value), cells.WORD)


def _percentiles(item: Object, field: str, *, rising: bool, unit: int = 1) -> Percentiles:
    """Read one number (the median) or the points of a distribution.

    Ours get worse with p: `p90` of a latency is met, of a throughput exceeded, by 90 %. OpenRouter documents the same,
    but real throughput points rise, so they are quantiles, of which only the median says what ours says: it is kept.
    """
    value = item.get(field)
    if not isinstance(value, dict):
        return Percentiles(p50=_scaled(json_fields.number(field, value), unit))
    points = Percentiles(*(_scaled(json_fields.number(f"{field}.{p}", value.get(p)), unit) for p in POINTS))
    stated = [point for point in astuple(points) if point is not None]
    return points if stated == sorted(stated, reverse=not rising) else Percentiles(p50=points.p50)


def _scaled(value: float | None, unit: int) -> float | None:
    return None if value is None else value / unit
