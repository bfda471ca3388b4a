"""The stored catalog as tests read it: providers, models and endpoints with their sources."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Engine, exists, or_, select, true

from assay.engine.world.catalog import Endpoint, Model, Provider
from assay.store import tables
from assay.store.database import reading
from assay.store.listings import (
    ENDPOINTS,
    MODELS,
    PROVIDERS,
    SourceListing,
    is_gone,
    read_listings,
    select_listing,
)

Item = TypeVar("Item", Model, Endpoint)


@dataclass(frozen=True, slots=True)
class CatalogEntry(Generic[Item]):
    """A model or endpoint, the sources that list it now, and when; `gone_at` if none does."""

    value: Item
    sources: tuple[str, ...]
    first_seen_at: datetime
    last_seen_at: datetime
    gone_at: datetime | None


def list_providers(database: Engine) -> tuple[Provider, ...]:
    """Return all providers, with the name that a catalog gives them."""
    has_name = tables.provider_listing.c.name.is_not(None)
    with reading(database) as connection:
        slugs = connection.execute(select(tables.provider.c.provider)).scalars().all()
        found = read_listings(connection, PROVIDERS, has_name)
    return tuple(
        select_listing(found[slug]).value if slug in found else Provider(slug)
        for slug in sorted(slugs)
    )


def list_models(
    database: Engine, *, after: str = "", limit: int = 100, include_gone: bool = False
) -> tuple[CatalogEntry[Model], ...]:
    """Return a page of models in order of name, from the one that follows `after`.

    The times of a model include those of its endpoints.
    """
    name = tables.model.c.model
    wanted = (name > after, true() if include_gone else _is_listed())
    with reading(database) as connection:
        query = select(name).where(*wanted).order_by(name).limit(limit)
        page = connection.execute(query).scalars().all()
        models = read_listings(connection, MODELS, name.in_(page))
        endpoints = read_listings(connection, ENDPOINTS, tables.endpoint.c.model.in_(page))
    served: dict[str, list[SourceListing[Endpoint]]] = defaultdict(list)
    for listings in endpoints.values():
        served[listings[0].value.model].extend(listings)
    entries = []
    for each in page:
        own = models.get(each, [])
        value = select_listing(own).value if own else Model(each)
        entries.append(_entry(value, [*own, *served[each]]))
    return tuple(entries)


def _is_listed() -> ColumnElement[bool]:
    """Whether a source lists a model, or an endpoint of it."""
    model, listing, endpoint = tables.model.c, tables.model_listing.c, tables.endpoint_listing.c
    by_name = exists().where(listing.model == model.model, listing.gone_at.is_(None))
    by_endpoint = exists().where(
        tables.endpoint.c.endpoint_id == endpoint.endpoint_id,
        tables.endpoint.c.model == model.model,
        endpoint.gone_at.is_(None),
    )
    return or_(by_name, by_endpoint)


def list_endpoints(
    database: Engine, model: str, *, include_gone: bool = False
) -> tuple[CatalogEntry[Endpoint], ...]:
    """Return the endpoints of a model in order of id."""
    with reading(database) as connection:
        found = read_listings(connection, ENDPOINTS, tables.endpoint.c.model == model)
    return tuple(
        _entry(select_listing(found[name]).value, found[name])
        for name in sorted(found)
        if include_gone or not is_gone(found[name])
    )


def _entry(value: Item, listings: Sequence[SourceListing[Any]]) -> CatalogEntry[Item]:
    sources = sorted({listing.source for listing in listings if listing.gone_at is None})
    departures = [listing.gone_at for listing in listings if listing.gone_at is not None]
    return CatalogEntry(
        value=value,
        sources=tuple(sources),
        first_seen_at=min(listing.first_seen_at for listing in listings),
        last_seen_at=max(listing.last_seen_at for listing in listings),
        gone_at=None if sources else max(departures),
    )
