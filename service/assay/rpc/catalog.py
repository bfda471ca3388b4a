"""CatalogService: take the active view, select a page, convert."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from assay.engine.world.request import check_text
from assay.rpc.catalog_view import CatalogView
from assay.rpc.convert import catalog as to
from assay.rpc.fields import page, require_name, require_value
from assay.rpc.server import GrpcService
from assay.v1 import catalog_pb2 as pb, catalog_pb2_grpc as pb_grpc

NAME = pb.DESCRIPTOR.services_by_name["CatalogService"].full_name


class CatalogServicer(pb_grpc.CatalogServiceServicer):
    """Answers each call from the view that was active when the call began."""

    def __init__(self, view: Callable[[], CatalogView]) -> None:
        self._view = view

    def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelsResponse:
        """List models, by name."""
        items, token = page(
            self._view().models(),
            lambda m: m.model,
            size=request.page_size,
            token=request.page_token,
        )
        return pb.ListModelsResponse(models=map(to.model, items), next_page_token=token)

    def GetModel(
        self, request: pb.GetModelRequest, context: grpc.ServicerContext
    ) -> pb.GetModelResponse:
        """Read one model."""
        return pb.GetModelResponse(
            model=to.model(self._view().model(require_name("model", request.model)))
        )

    def ListEndpoints(
        self, request: pb.ListEndpointsRequest, context: grpc.ServicerContext
    ) -> pb.ListEndpointsResponse:
        """List endpoints, by endpoint id."""
        endpoints = self._view().endpoints(
            require_name("model", request.model) if request.model else None
        )
        items, token = page(
            endpoints, lambda e: e.endpoint_id, size=request.page_size, token=request.page_token
        )
        return pb.ListEndpointsResponse(endpoints=map(to.endpoint, items), next_page_token=token)

    def GetEndpoint(
        self, request: pb.GetEndpointRequest, context: grpc.ServicerContext
    ) -> pb.GetEndpointResponse:
        """Read one endpoint."""
        endpoint_id = require_value("endpoint_id", request.endpoint_id)
        return pb.GetEndpointResponse(endpoint=to.endpoint(self._view().endpoint(endpoint_id)))

    def ListPools(
        self, request: pb.ListPoolsRequest, context: grpc.ServicerContext
    ) -> pb.ListPoolsResponse:
        """List the pools of a model."""
        pools = self._view().pools(require_name("model", request.model))
        items, token = page(
            pools, lambda p: p.binding, size=request.page_size, token=request.page_token
        )
        return pb.ListPoolsResponse(pools=map(to.pool, items), next_page_token=token)

    def GetPool(
        self, request: pb.GetPoolRequest, context: grpc.ServicerContext
    ) -> pb.GetPoolResponse:
        """Read the pool that a variant selects for a tenant."""
        model, variant = (
            require_name("model", request.model),
            require_name("variant", request.variant),
        )
        check_text("tenant", request.tenant)
        return pb.GetPoolResponse(pool=to.pool(self._view().pool(model, variant, request.tenant)))


def catalog_service(view: Callable[[], CatalogView]) -> GrpcService:
    """Return the service, ready for a server."""
    return GrpcService(
        NAME,
        lambda server: pb_grpc.add_CatalogServiceServicer_to_server(CatalogServicer(view), server),
    )
