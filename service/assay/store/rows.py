"""Catalog values as rows and back, by their declarations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Integer, Row, Text
from sqlalchemy.types import TypeEngine

from assay.engine.world.catalog import Endpoint, Model, PriceOverride, Prices
from assay.engine.world.declarations import Field, build, declared_fields
from assay.engine.world.measurements import Observation
from assay.engine.world.world import Preference, TenantSettings

Cells = dict[str, object]

_IDENTITY = ("endpoint_id", "model", "tag")  # columns of other tables
_CONDITIONS = ("min_prompt_tokens", "utc_start", "utc_end")


def _stored(owner: type) -> tuple[tuple[str, Field], ...]:
    return tuple(
        (item.spellings.column, item)
        for item in declared_fields(owner)
        if item.spellings.column and item.path not in _IDENTITY
    )


_MODEL, _ENDPOINT, _PRICES = _stored(Model), _stored(Endpoint), _stored(Prices)


def declared_columns(owner: type, *besides: str) -> list[Column[Any]]:
    """Return the columns of a declared value, except `besides`; optional ones are nullable."""
    return [
        Column(name, _column_type(item), nullable=item.is_optional)
        for name, item in _stored(owner)
        if name not in besides
    ]


def _column_type(item: Field) -> TypeEngine[Any]:
    if item.kind is int:
        return BigInteger() if item.spellings.unit else Integer()
    if item.kind is tuple:
        return JSON(none_as_null=item.is_optional)
    return _COLUMN_TYPES[item.kind]()


_COLUMN_TYPES: Mapping[type, type[TypeEngine[Any]]] = {bool: Boolean, float: Double, str: Text}


def model_cells(model: Model) -> Cells:
    """Return a model as columns."""
    return {column: item.get(model) for column, item in _MODEL}


def model_of(row: Row[Any]) -> Model:
    """Return the model that a listing states."""
    return build(Model, _values(row, _MODEL), model=row.model)


def endpoint_cells(endpoint: Endpoint) -> Cells:
    """Return an endpoint as columns; its identity (id, model, tag) is stored in another table."""
    cells: Cells = {column: item.get(endpoint) for column, item in _ENDPOINT}
    return {**cells, "price_overrides": [_override_cells(each) for each in endpoint.overrides]}


def endpoint_of(row: Row[Any]) -> Endpoint:
    """Return the endpoint that a listing, joined with its identity, states."""
    return build(
        Endpoint,
        _values(row, _ENDPOINT),
        endpoint_id=row.endpoint_id,
        model=row.model,
        tag=row.tag,
        overrides=tuple(_override_of(each) for each in row.price_overrides),
    )


def _values(row: Row[Any], stored: Sequence[tuple[str, Field]]) -> dict[str, object]:
    cells = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    return {
        item.path: tuple(cells[column])
        if item.kind is tuple and cells[column] is not None
        else cells[column]
        for column, item in stored
    }


def _override_cells(override: PriceOverride) -> Cells:
    """Return what an override states as JSON, under the names of the price columns."""
    stated: Cells = {column: item.get(override.prices) for column, item in _PRICES}
    stated |= {name: getattr(override, name) for name in _CONDITIONS}
    stated["utc_days"] = list(override.utc_days) or None
    return {name: value for name, value in stated.items() if value is not None}


def _override_of(stated: dict[str, Any]) -> PriceOverride:
    return PriceOverride(
        prices=build(Prices, {item.path: stated.get(column) for column, item in _PRICES}),
        utc_days=tuple(stated.get("utc_days", ())),
        **{name: stated.get(name) for name in _CONDITIONS},
    )


def observation_of(row: Row[Any]) -> Observation:
    """Return the observation of a row."""
    return Observation(**{each.name: getattr(row, each.name) for each in fields(Observation)})


def tenant_of(row: Row[Any]) -> TenantSettings:
    """Return the tenant's settings of a row."""
    return TenantSettings(
        row.tenant, tuple(row.only), tuple(row.ignore), row.zdr, row.deny_data_collection
    )


def preference_of(row: Row[Any]) -> Preference:
    """Return the preference of a row."""
    return Preference(row.tenant, row.kind, row.target, row.model)
