"""The world as judging and the catalog service read it: what all sources together state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, exists, or_, select, true

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.world.catalog import Endpoint, Model, Provider
from assay.engine.world.measurements import Observation
from assay.engine.world.world import World
from assay.store import tables
from assay.store.benchmarks import benchmark_runs
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
from assay.store.rows import observation_of, preference_of, tenant_of
from assay.store.traffic import (
    CounterCache,
    endpoints_without_speed,
    load_ignore_votes,
    load_served,
    load_traffic,
)

Item = TypeVar("Item", Model, Endpoint)
NO_SPECS: Mapping[str, EvidenceSpec] = {}


@dataclass(frozen=True, slots=True)
class WorldRevision:
    """Counts of changes; while they are equal, `load_world` returns the same."""

    catalog: int
    evidence: int
    preferences: int


@dataclass(frozen=True, slots=True)
class CatalogEntry(Generic[Item]):
    """A model or endpoint, the sources that list it now, and when; `gone_at` if none does."""

    value: Item
    sources: tuple[str, ...]
    first_seen_at: datetime
    last_seen_at: datetime
    gone_at: datetime | None


def world_revision(database: Engine) -> WorldRevision:
    """Return a cheap sign of whether anything that judging reads has changed."""
    with reading(database) as connection:
        rows = connection.execute(select(tables.world_revision)).all()
    return WorldRevision(**{row.kind: row.number for row in rows})


def load_world(
    database: Engine,
    as_of: datetime | None = None,
    specs: Mapping[str, EvidenceSpec] = NO_SPECS,
    *,
    cache: CounterCache | None = None,
) -> World:
    """Read the current catalog, in order of name, and traffic as of `as_of` for each evidence spec.

    Without `as_of`, the world holds no traffic. A `cache` that the caller keeps reduces reads.
    """
    with reading(database) as connection:
        listings = read_listings(connection, ENDPOINTS)
        endpoints = {
            name: select_listing(listings[name]).value
            for name in sorted(listings)
            if not is_gone(listings[name])
        }
        stored = map(preference_of, connection.execute(select(tables.preference)))
        preferences = tuple(
            sorted(stored, key=lambda p: (p.tenant, p.kind, p.target, p.model or ""))
        )
        tenants = map(tenant_of, connection.execute(select(tables.tenant_settings)))
        world = World(
            models=_read_models(connection, {each.model for each in endpoints.values()}),
            endpoints=tuple(endpoints.values()),
            observations=_read_observations(connection, endpoints),
            preferences=preferences,
            tenants=tuple(sorted(tenants, key=lambda each: each.tenant)),
            benchmarks=benchmark_runs(connection, endpoints),
        )
        if as_of is None:
            return world
        return replace(
            world,
            traffic=load_traffic(connection, specs, as_of, cache),
            ignore_votes=load_ignore_votes(connection, preferences, as_of),
            served=load_served(connection, endpoints_without_speed(world.endpoints), as_of),
        )


def _read_models(connection: Connection, served: set[str]) -> tuple[Model, ...]:
    """Read the models that a catalog lists, or that an endpoint serves."""
    found = {
        name: select_listing(listings).value
        for name, listings in read_listings(connection, MODELS).items()
        if name in served or not is_gone(listings)
    }
    return tuple(found.get(name, Model(name)) for name in sorted(found.keys() | served))


def _read_observations(
    connection: Connection, endpoints: Container[str]
) -> tuple[Observation, ...]:
    """Read the current windows of listed endpoints."""
    rows = connection.execute(select(tables.observation).where(tables.current))
    found = [observation_of(row) for row in rows if row.endpoint_id in endpoints]
    found.sort(
        key=lambda each: (each.endpoint_id, each.source, each.observed_from, each.observed_to)
    )
    return tuple(found)


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
