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
    TrafficCounts,
)
from assay.engine.world.tenants import Preference, TenantSettings


@dataclass(frozen=True, slots=True)
class World:
    """Everything that judging reads, besides policy; each tuple may come in any order.

    Endpoints that no source lists any more are left out. `traffic` is keyed by `EvidenceSpec.key`,
    because counts are discounted while they are loaded; `served` by endpoint id.
    """

    models: tuple[Model, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    observations: tuple[Observation, ...] = ()
    preferences: tuple[Preference, ...] = ()
    tenants: tuple[TenantSettings, ...] = ()
    benchmarks: tuple[BenchmarkRun, ...] = ()
    traffic: Mapping[str, tuple[TrafficCounts, ...]] = field(default_factory=dict)
    ignore_votes: tuple[IgnoreVote, ...] = ()
    served: Mapping[str, ServedSpeed] = field(default_factory=dict)
