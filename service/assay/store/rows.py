"""Catalog values as rows and back; the only place that knows both names of a fact."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from assay.engine.world.catalog import Endpoint, Model, Percentiles, PriceOverride, Prices, Provider
from assay.engine.world.measurements import Observation
from assay.engine.world.tenants import Preference, TenantSettings

if TYPE_CHECKING:
    from sqlalchemy import Row

Cells = dict[str, object]

PRICES = {  # field of Prices → column
    "prompt": "prompt_usd_per_mtok",
    "completion": "completion_usd_per_mtok",
    "cache_read": "cache_read_usd_per_mtok",
    "cache_write": "cache_write_usd_per_mtok",
    "audio": "audio_usd_per_mtok",
    "request_usd": "request_usd",
    "image_usd": "image_usd",
}
FACTS = {  # field of Endpoint → column, where the value is stored as it is
    "provider": "provider",
    "quantization": "quantization",
    "context_length": "context_length_tokens",
    "max_completion_tokens": "max_completion_tokens",
    "max_prompt_tokens": "max_prompt_tokens",
    "status": "status",
    "uptime_30m_percent": "uptime_30m_percent",
    "uptime_1d_percent": "uptime_1d_percent",
    "zdr": "zdr",
    "collects_data": "collects_data",
    "implicit_caching": "implicit_caching",
}
PERCENTILES = tuple(each.name for each in fields(Percentiles))
CONDITIONS = ("min_prompt_tokens", "utc_start", "utc_end")


def provider_cells(provider: Provider) -> Cells:
    """Spell a provider as columns."""
    return {"name": provider.name}


def provider_of(row: Row[Any]) -> Provider:
    """Read a provider."""
    return Provider(row.provider, row.name)


def model_cells(model: Model) -> Cells:
    """Spell a model as columns."""
    return {
        "name": model.name,
        "context_length_tokens": model.context_length,
        "input_modalities": model.input_modalities,
        "output_modalities": model.output_modalities,
        "distillable": model.distillable,
    }


def model_of(row: Row[Any]) -> Model:
    """Read a model."""
    taken, given = row.input_modalities, row.output_modalities
    return Model(
        model=row.model,
        name=row.name,
        context_length=row.context_length_tokens,
        input_modalities=None if taken is None else tuple(taken),
        output_modalities=None if given is None else tuple(given),
        distillable=row.distillable,
    )


def endpoint_cells(endpoint: Endpoint) -> Cells:
    """Spell an endpoint's facts as columns; its identity (id, model, tag) stands in another table."""
    return {
        **{column: getattr(endpoint, name) for name, column in FACTS.items()},
        **{column: getattr(endpoint.prices, name) for name, column in PRICES.items()},
        **{f"latency_{point}_s": getattr(endpoint.latency_s, point) for point in PERCENTILES},
        **{
            f"throughput_{point}_tps": getattr(endpoint.throughput_tps, point)
            for point in PERCENTILES
        },
        "supported_parameters": endpoint.supported_parameters,
        "price_overrides": [override_cells(override) for override in endpoint.overrides],
    }


def endpoint_of(row: Row[Any]) -> Endpoint:
    """Read an endpoint from its listing joined with its identity."""
    cells = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    return Endpoint(
        endpoint_id=row.endpoint_id,
        model=row.model,
        tag=row.tag,
        supported_parameters=tuple(row.supported_parameters),
        prices=Prices(**{name: cells[column] for name, column in PRICES.items()}),
        overrides=tuple(override_of(each) for each in row.price_overrides),
        latency_s=Percentiles(*(cells[f"latency_{point}_s"] for point in PERCENTILES)),
        throughput_tps=Percentiles(*(cells[f"throughput_{point}_tps"] for point in PERCENTILES)),
        **{name: cells[column] for name, column in FACTS.items()},
    )


def override_cells(override: PriceOverride) -> Cells:
    """Spell an override as JSON, under the names of the price columns, leaving out what it does not state."""
    stated: Cells = {column: getattr(override.prices, name) for name, column in PRICES.items()}
    stated |= {name: getattr(override, name) for name in CONDITIONS}
    stated["utc_days"] = list(override.utc_days) or None
    return {name: value for name, value in stated.items() if value is not None}


def override_of(stated: dict[str, Any]) -> PriceOverride:
    """Read an override."""
    return PriceOverride(
        prices=Prices(**{name: stated.get(column) for name, column in PRICES.items()}),
        utc_days=tuple(stated.get("utc_days", ())),
        **{name: stated.get(name) for name in CONDITIONS},
    )


def observation_of(row: Row[Any]) -> Observation:
    """Read an observation."""
    return Observation(**{each.name: getattr(row, each.name) for each in fields(Observation)})


def tenant_cells(settings: TenantSettings) -> Cells:
    """Spell a tenant's settings as columns."""
    return {each.name: getattr(settings, each.name) for each in fields(TenantSettings)}


def tenant_of(row: Row[Any]) -> TenantSettings:
    """Read a tenant's settings."""
    return TenantSettings(
        row.tenant, tuple(row.only), tuple(row.ignore), row.zdr, row.deny_data_collection
    )


def preference_of(row: Row[Any]) -> Preference:
    """Read a preference."""
    return Preference(row.tenant, row.kind, row.target, row.model)
