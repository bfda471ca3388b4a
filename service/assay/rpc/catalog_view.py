"""The catalog of one world and the pools of the snapshot that was judged from it."""

from __future__ import annotations

from collections.abc import Sequence

from assay.engine.errors import CallerError, UnknownModel, quoted
from assay.engine.pool.report import PoolReport, pool_report, pool_reports
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.catalog import Endpoint, Model
from assay.engine.world.world import World


class UnknownEndpoint(CallerError):
    """The catalog has no endpoint with that id."""

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(f"endpoint_id: {quoted(endpoint_id)} is not in the catalog")
        self.endpoint_id = endpoint_id


class CatalogView:
    """One consistent state; sequences are sorted by name, endpoint_id or binding."""

    def __init__(self, world: World, snapshot: Snapshot) -> None:
        models = sorted(world.models, key=lambda model: model.model)
        endpoints = sorted(world.endpoints, key=lambda endpoint: endpoint.endpoint_id)
        self._models = {model.model: model for model in models}
        self._endpoints = {endpoint.endpoint_id: endpoint for endpoint in endpoints}
        self._snapshot = snapshot

    def models(self) -> Sequence[Model]:
        """Return every model."""
        return tuple(self._models.values())

    def model(self, name: str) -> Model:
        """Return one model; raises UnknownModel."""
        if name not in self._models:
            raise UnknownModel(name)
        return self._models[name]

    def endpoints(self, model: str | None) -> Sequence[Endpoint]:
        """Return every endpoint, or those of one model; raises UnknownModel."""
        if model is None:
            return tuple(self._endpoints.values())
        self.model(model)
        return tuple(e for e in self._endpoints.values() if e.model == model)

    def endpoint(self, endpoint_id: str) -> Endpoint:
        """Return one endpoint; raises UnknownEndpoint."""
        if endpoint_id not in self._endpoints:
            raise UnknownEndpoint(endpoint_id)
        return self._endpoints[endpoint_id]

    def pools(self, model: str) -> Sequence[PoolReport]:
        """Return every pool of a model; raises UnknownModel."""
        return pool_reports(self._snapshot, model)

    def pool(self, model: str, variant: str, tenant: str) -> PoolReport:
        """Return the pool that a variant selects for a tenant.

        Raises UnknownModel, UnknownVariant and InvalidField.
        """
        return pool_report(self._snapshot, f"{model}:{variant}", tenant)
