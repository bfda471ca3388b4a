"""What judging and the catalog service read: the world as all sources together state it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, exists, or_, select, true

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.world.catalog import Endpoint, Model, Provider
from assay.engine.world.measurements import Observation
from assay.engine.world.tenants import Preference, TenantSettings
from assay.engine.world.world import World
from assay.store import tables
from assay.store.benchmarks import benchmark_runs
from assay.store.database import reading
from assay.store.listings import (
    ENDPOINTS,
    MODELS,
    PROVIDERS,
    SourceListing,
    Value,
    holding,
    is_gone,
    listings,
)
from assay.store.rows import observation_of, preference_of, tenant_of
from assay.store.served import load_served, silent
from assay.store.traffic_counts import CounterCache, load_tallies
from assay.store.voters import load_ballots

Thing = TypeVar("Thing", Model, Endpoint)
NO_FOLDS: Mapping[str, EvidenceSpec] = {}


@dataclass(frozen=True, slots=True)
class WorldRevision:
    """Counts of changes: as long as they are equal, `load_world` returns the same."""

    catalog: int
    evidence: int
    preferences: int


@dataclass(frozen=True, slots=True)
class CatalogEntry(Generic[Thing]):
    """A model or endpoint as listed: what holds of it, who lists it now, and since when nobody does."""

    value: Thing
    sources: tuple[str, ...]
    first_seen_at: datetime
    last_seen_at: datetime
    gone_at: datetime | None


def world_revision(database: Engine) -> WorldRevision:
    """Tell cheaply whether anything that judging reads has changed."""
    with reading(database) as connection:
        rows = connection.execute(select(tables.world_revision)).all()
    return WorldRevision(**{row.kind: row.number for row in rows})


def load_world(
    database: Engine,
    as_of: datetime | None = None,
    folds: Mapping[str, EvidenceSpec] = NO_FOLDS,
    *,
    cache: CounterCache | None = None,
) -> World:
    """Read everything that is there now, of one instant, in order of name.

    What traffic tells is added up as of another: told when, it is part of the world, in each of the ways of folding.
    Who comes again keeps a `book`, so that less is read.
    """
    with reading(database) as connection:
        endpoints = present(listings(connection, ENDPOINTS))
        wishes = preferences(connection)
        world = World(
            models=known_models(connection, {each.model for each in endpoints.values()}),
            endpoints=tuple(endpoints.values()),
            observations=observations(connection, endpoints),
            preferences=wishes,
            tenants=tenants(connection),
            benchmarks=benchmark_runs(connection, endpoints),
        )
        if as_of is None:
            return world
        return replace(
            world,
            traffic=load_tallies(connection, folds, as_of, cache),
            ignore_votes=load_ballots(connection, wishes, as_of),
            served=load_served(connection, silent(world.endpoints), as_of),
        )


def present(found: Mapping[str, list[SourceListing[Value]]]) -> dict[str, Value]:
    """Keep what somebody lists."""
    return {name: holding(found[name]).value for name in sorted(found) if not is_gone(found[name])}


def known_models(connection: Connection, served: set[str]) -> tuple[Model, ...]:
    """Read the models that a catalog lists, or that an endpoint serves."""
    found = listings(connection, MODELS)
    facts = {
        name: holding(said).value
        for name, said in found.items()
        if name in served or not is_gone(said)
    }
    return tuple(facts.get(name, Model(name)) for name in sorted(facts.keys() | served))


def observations(
    connection: Connection, endpoints: Mapping[str, Endpoint]
) -> tuple[Observation, ...]:
    """Read the current windows of endpoints that are there."""
    seen = [
        observation_of(row)
        for row in connection.execute(select(tables.observation).where(tables.current))
    ]
    kept = (each for each in seen if each.endpoint_id in endpoints)
    return tuple(
        sorted(kept, key=lambda o: (o.endpoint_id, o.source, o.observed_from, o.observed_to))
    )


def preferences(connection: Connection) -> tuple[Preference, ...]:
    """Read the standing preferences."""
    found = [preference_of(row) for row in connection.execute(select(tables.preference))]
    return tuple(sorted(found, key=lambda p: (p.tenant, p.kind, p.target, p.model or "")))


def tenants(connection: Connection) -> tuple[TenantSettings, ...]:
    """Read the tenants' settings."""
    found = [tenant_of(row) for row in connection.execute(select(tables.tenant_settings))]
    return tuple(sorted(found, key=lambda each: each.tenant))


def providers(database: Engine) -> tuple[Provider, ...]:
    """List all providers; a name given by any catalog is better than none."""
    with reading(database) as connection:
        slugs = connection.execute(select(tables.provider.c.provider)).scalars().all()
        found = listings(connection, PROVIDERS, tables.provider_listing.c.name.is_not(None))
    return tuple(
        holding(found[slug]).value if slug in found else Provider(slug) for slug in sorted(slugs)
    )


def models(
    database: Engine, *, after: str = "", limit: int = 100, include_gone: bool = False
) -> tuple[CatalogEntry[Model], ...]:
    """Return one page of models in order of name, from the one that follows `after`."""
    name = tables.model.c.model
    with reading(database) as connection:
        query = (
            select(tables.model)
            .where(name > after, true() if include_gone else is_there())
            .order_by(name)
            .limit(limit)
        )
        rows = connection.execute(query).all()
        page = [row.model for row in rows]
        said = listings(connection, MODELS, name.in_(page))
        offers = listings(connection, ENDPOINTS, tables.endpoint.c.model.in_(page))
    served: dict[str, list[SourceListing[Endpoint]]] = defaultdict(list)
    for offer in offers.values():
        served[offer[0].value.model].extend(offer)
    return tuple(listed_model(each, said.get(each, []), served[each]) for each in page)


def is_there() -> ColumnElement[bool]:
    """Whether a model is listed, or an endpoint of it is."""
    listing, offer = tables.model_listing.c, tables.endpoint_listing.c
    by_name = exists().where(listing.model == tables.model.c.model, listing.gone_at.is_(None))
    by_offer = exists().where(
        tables.endpoint.c.endpoint_id == offer.endpoint_id,
        tables.endpoint.c.model == tables.model.c.model,
        offer.gone_at.is_(None),
    )
    return or_(by_name, by_offer)


def listed_model(
    name: str, said: list[SourceListing[Model]], offers: list[SourceListing[Endpoint]]
) -> CatalogEntry[Model]:
    """Put together what is said of a model and, for its times, of its endpoints."""
    value = holding(said).value if said else Model(name)
    return listed(value, [*said, *offers])


def endpoints(
    database: Engine, model: str, *, include_gone: bool = False
) -> tuple[CatalogEntry[Endpoint], ...]:
    """Return the endpoints of a model in order of id."""
    with reading(database) as connection:
        found = listings(connection, ENDPOINTS, tables.endpoint.c.model == model)
    return tuple(
        listed(holding(found[name]).value, found[name])
        for name in sorted(found)
        if include_gone or not is_gone(found[name])
    )


def listed(value: Thing, said: Iterable[SourceListing[Any]]) -> CatalogEntry[Thing]:
    """Sum up what several sources say of one thing."""
    said = tuple(said)
    now = sorted({listing.source for listing in said if listing.gone_at is None})
    departures = [listing.gone_at for listing in said if listing.gone_at is not None]
    return CatalogEntry(
        value=value,
        sources=tuple(now),
        first_seen_at=min(listing.first_seen_at for listing in said),
        last_seen_at=max(listing.last_seen_at for listing in said),
        gone_at=None if now else max(departures),
    )
