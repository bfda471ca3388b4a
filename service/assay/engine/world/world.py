"""The whole input of judging, besides policy: catalog, evidence and tenants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.engine.world.catalog import Endpoint, Model
from assay.engine.world.measurements import (
    BenchmarkRun,
    IgnoreVote,
    Observation,
    ServedSpeed,
)
from assay.engine.world.traffic_table import TrafficTable


@dataclass(frozen=True, slots=True)
class Preference:
    """A tenant's pin or ignore of a provider (slug) or endpoint (tag), for one model or for all."""

    tenant: str
    kind: str  # "pin" | "ignore"
    target: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """What the operator allows a tenant; an empty `only` allows all providers."""

    tenant: str
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    zdr: bool = False
    deny_data_collection: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """Everything that judging reads, besides policy; each tuple may come in any order.

    Endpoints that no source lists any more are left out. `traffic` is keyed by `EvidenceSpec.key`,
    because counts are discounted while they are loaded; `served` by endpoint id. `refused` holds
    capabilities that endpoints do not have, as learned from refusals, by endpoint id.
    """

    models: tuple[Model, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    observations: tuple[Observation, ...] = ()
    preferences: tuple[Preference, ...] = ()
    tenants: tuple[TenantSettings, ...] = ()
    benchmarks: tuple[BenchmarkRun, ...] = ()
    traffic: Mapping[str, TrafficTable] = field(default_factory=dict)
    ignore_votes: tuple[IgnoreVote, ...] = ()
    served: Mapping[str, ServedSpeed] = field(default_factory=dict)
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
