"""CatalogService: the catalog of one world with the pools that were judged from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

import grpc

from assay.engine.errors import UnknownEndpoint, UnknownModel
from assay.engine.pool.report import PoolReport, pool_report, pool_reports
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.capabilities import refused_capabilities
from assay.engine.world.catalog import Endpoint, Model
from assay.engine.world.request import check_text
from assay.engine.world.world import World
from assay.rpc.convert import catalog as to
from assay.rpc.fields import page, require_name, require_value
from assay.rpc.server import GrpcService
from assay.v1 import catalog_pb2 as pb, catalog_pb2_grpc as pb_grpc

NAME = pb.DESCRIPTOR.services_by_name["CatalogService"].full_name


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

    def refused(self, endpoint: Endpoint) -> Collection[str]:
        """Return the capabilities that an endpoint lacks, as learned from refusals."""
        view = self._snapshot.models.get(endpoint.model)
        rows = next(iter(view.rows.values()), ()) if view else ()
        facts = next((row for row in rows if row["id"] == endpoint.endpoint_id), {})
        return refused_capabilities(endpoint, facts)

    def pools(self, model: str) -> Sequence[PoolReport]:
        """Return every pool of a model; raises UnknownModel."""
        return pool_reports(self._snapshot, model)

    def pool(self, model: str, variant: str, tenant: str) -> PoolReport:
        """Return the pool that a variant selects for a tenant.

        Raises UnknownModel, UnknownVariant and InvalidField.
        """
        return pool_report(self._snapshot, f"{model}:{variant}", tenant)


class CatalogServicer(pb_grpc.CatalogServiceServicer):
    """Answers each call from the view that was active when the call began."""

    def __init__(self, view: Callable[[], CatalogView]) -> None:
        self._view = view

    def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelsResponse:
        models, size = self._view().models(), request.page_size
        items, token = page(models, lambda m: m.model, size=size, token=request.page_token)
        return pb.ListModelsResponse(models=map(to.model, items), next_page_token=token)

    def GetModel(
        self, request: pb.GetModelRequest, context: grpc.ServicerContext
    ) -> pb.GetModelResponse:
        name = require_name("model", request.model)
        return pb.GetModelResponse(model=to.model(self._view().model(name)))

    def ListEndpoints(
        self, request: pb.ListEndpointsRequest, context: grpc.ServicerContext
    ) -> pb.ListEndpointsResponse:
        model = require_name("model", request.model) if request.model else None
        view, size = self._view(), request.page_size
        endpoints, token = page(
            view.endpoints(model), lambda e: e.endpoint_id, size=size, token=request.page_token
        )
        messages = [to.endpoint(each, view.refused(each)) for each in endpoints]
        return pb.ListEndpointsResponse(endpoints=messages, next_page_token=token)

    def GetEndpoint(
        self, request: pb.GetEndpointRequest, context: grpc.ServicerContext
    ) -> pb.GetEndpointResponse:
        endpoint_id = require_value("endpoint_id", request.endpoint_id)
        view = self._view()
        found = view.endpoint(endpoint_id)
        return pb.GetEndpointResponse(endpoint=to.endpoint(found, view.refused(found)))

    def ListPools(
        self, request: pb.ListPoolsRequest, context: grpc.ServicerContext
    ) -> pb.ListPoolsResponse:
        pools, size = self._view().pools(require_name("model", request.model)), request.page_size
        items, token = page(pools, lambda p: p.binding, size=size, token=request.page_token)
        return pb.ListPoolsResponse(pools=map(to.pool, items), next_page_token=token)

    def GetPool(
        self, request: pb.GetPoolRequest, context: grpc.ServicerContext
    ) -> pb.GetPoolResponse:
        model = require_name("model", request.model)
        variant = require_name("variant", request.variant)
        check_text("tenant", request.tenant)
        return pb.GetPoolResponse(pool=to.pool(self._view().pool(model, variant, request.tenant)))


def catalog_service(view: Callable[[], CatalogView]) -> GrpcService:
    """Return the service, ready for a server."""
    servicer = CatalogServicer(view)
    return GrpcService(NAME, partial(pb_grpc.add_CatalogServiceServicer_to_server, servicer))
