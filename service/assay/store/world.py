"""The world as judging reads it: what all sources together state."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Engine, select

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.snapshot.pool_memory import CountedHours
from assay.engine.world.catalog import Model
from assay.engine.world.measurements import Observation
from assay.engine.world.world import World
from assay.store import tables
from assay.store.benchmarks import benchmark_runs
from assay.store.counter_cache import NOT_COUNTED, CounterCaches
from assay.store.database import reading
from assay.store.listings import ENDPOINTS, MODELS, is_gone, read_listings, select_listing
from assay.store.rows import observation_of, preference_of, tenant_of
from assay.store.traffic import (
    endpoints_without_speed,
    load_ignore_votes,
    load_refusals,
    load_served,
    load_traffic,
)

NO_SPECS: Mapping[str, EvidenceSpec] = {}


@dataclass(frozen=True, slots=True)
class WorldRevision:
    """Counts of changes; while they are equal, `load_world` returns the same."""

    catalog: int
    evidence: int
    preferences: int


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
    caches: CounterCaches | None = None,
    counted: CountedHours = NOT_COUNTED,
) -> World:
    """Read the current catalog, in order of name, and traffic as of `as_of` for each evidence spec.

    Without `as_of`, the world holds no traffic. Caches that the caller keeps reduce reads. A
    tick passes what has `counted` in earlier hours.
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
            traffic=load_traffic(connection, specs, as_of, caches, counted),
            ignore_votes=load_ignore_votes(connection, preferences, as_of),
            refused=load_refusals(connection, as_of),
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
