"""What the catalog service reads from: one world and the snapshot judged of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from assay.engine.errors import CallerError, UnknownModel, quoted
from assay.engine.pool.report import PoolReport, pool_report, pool_reports
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.catalog import Endpoint, Model
from assay.engine.world.world import World


class UnknownEndpoint(CallerError):
    """No endpoint of that id is in the catalog."""

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(f"endpoint_id: {quoted(endpoint_id)} is not in the catalog")
        self.endpoint_id = endpoint_id


class CatalogView(Protocol):
    """One consistent state of things; sequences come in the order of their key (name, endpoint_id, binding)."""

    def models(self) -> Sequence[Model]:
        """Every model."""

    def model(self, name: str) -> Model:
        """One model; raises UnknownModel."""

    def endpoints(self, model: str | None) -> Sequence[Endpoint]:
        """Every endpoint, or those of one model; raises UnknownModel."""

    def endpoint(self, endpoint_id: str) -> Endpoint:
        """One endpoint; raises UnknownEndpoint."""

    def pools(self, model: str) -> Sequence[PoolReport]:
        """Every pool of a model; raises UnknownModel."""

    def pool(self, model: str, variant: str, tenant: str) -> PoolReport:
        """The pool that a variant means for a tenant; raises UnknownModel, UnknownVariant and InvalidField."""


class WorldView:
    """The view of a world and of the snapshot judged of it."""

    def __init__(self, world: World, snapshot: Snapshot) -> None:
        self._models = {m.model: m for m in sorted(world.models, key=lambda m: m.model)}
        self._endpoints = {
            e.endpoint_id: e for e in sorted(world.endpoints, key=lambda e: e.endpoint_id)
        }
        self._snapshot = snapshot

    def models(self) -> Sequence[Model]:
        """Every model, by name."""
        return tuple(self._models.values())

    def model(self, name: str) -> Model:
        """One model; raises UnknownModel."""
        if name not in self._models:
            raise UnknownModel(name)
        return self._models[name]

    def endpoints(self, model: str | None) -> Sequence[Endpoint]:
        """Every endpoint, or those of one model, by id; raises UnknownModel."""
        if model is None:
            return tuple(self._endpoints.values())
        self.model(model)
        return tuple(e for e in self._endpoints.values() if e.model == model)

    def endpoint(self, endpoint_id: str) -> Endpoint:
        """One endpoint; raises UnknownEndpoint."""
        if endpoint_id not in self._endpoints:
            raise UnknownEndpoint(endpoint_id)
        return self._endpoints[endpoint_id]

    def pools(self, model: str) -> Sequence[PoolReport]:
        """Every pool of a model, by binding; raises UnknownModel."""
        return pool_reports(self._snapshot, model)

    def pool(self, model: str, variant: str, tenant: str) -> PoolReport:
        """The pool that a variant means for a tenant; raises UnknownModel, UnknownVariant and InvalidField."""
        return pool_report(self._snapshot, f"{model}:{variant}", tenant)
