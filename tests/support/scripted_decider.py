"""A decider that follows a script: the model's name is the plan.

`lab/refused.good` has the providers `refused` and `good`, in this order. The author `pool` leaves
no attempts, with reasons. Requests and reports are kept for the test to look at.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from assay.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    evidence_pb2,
    evidence_pb2_grpc,
    routing_pb2 as pb,
    routing_pb2_grpc as pb_grpc,
)


class ScriptedDecider(
    pb_grpc.RoutingServiceServicer,
    evidence_pb2_grpc.EvidenceServiceServicer,
    catalog_pb2_grpc.CatalogServiceServicer,
):
    """Plans the providers that the name of the model lists; records requests and reports."""

    def __init__(self) -> None:
        self.asked: list[pb.DecideRequest] = []
        self.batches: list[evidence_pb2.ReportOutcomesRequest] = []
        self.refusing: grpc.StatusCode | None = None
        self.refused = 0
        self.poison: str | None = None  # the endpoint of the only batch to refuse
        self.unknown: set[str] = set()  # endpoints that are not in the catalog
        self.decided: dict[str, str] = {}
        self.warnings: list[pb.Warning] = []
        self.affinity = ""

    def Decide(  # noqa: N802 - the contract names the method
        self, request: pb.DecideRequest, context: grpc.ServicerContext
    ) -> pb.DecideResponse:
        self.asked.append(request)
        author = request.model.partition("/")[0]
        if author == "unknown":
            context.set_trailing_metadata((("assay-reason", "unknown-model"),))
            context.abort(grpc.StatusCode.NOT_FOUND, "model: 'unknown/x' is not in the catalog")
        answered = pb.DecideResponse(
            decision_id=str(uuid.uuid4()),
            snapshot_id="s",
            warnings=self.warnings,
            affinity=self.affinity,
        )
        self.decided[request.model] = answered.decision_id
        if author == "pool":
            answered.availability = "constraint_filtered"
            answered.availability_reasons.add(reason="ACCURACY", endpoints=2)
            answered.availability_reasons.add(reason="ignored", endpoints=1)
            return answered
        for model in (request.model, *request.models):
            for provider in model.partition("/")[2].partition(":")[0].split("."):
                rank = len(answered.attempts) + 1
                answered.attempts.add(
                    rank=rank,
                    model=model,
                    provider=provider,
                    tag=provider,
                    endpoint_id=f"{model.partition(':')[0]}@{provider}",
                )
        finding = answered.excluded.add(
            model=request.model, endpoint_id=f"{request.model}@out", provider="out"
        )
        finding.reasons.add(reason="ACCURACY", rule="tool_accuracy")
        return answered

    def ReportOutcomes(  # noqa: N802 - as in the contract
        self, request: evidence_pb2.ReportOutcomesRequest, context: grpc.ServicerContext
    ) -> evidence_pb2.ReportOutcomesResponse:
        endpoints = [each.endpoint_id for each in request.outcomes]
        if self.refusing is not None and self.poison in {None, *endpoints}:
            self.refused += 1
            context.abort(self.refusing, "not now")
        self.batches.append(request)
        refused = [
            evidence_pb2.RefusedOutcome(index=index, reason="unknown-endpoint")
            for index, endpoint_id in enumerate(endpoints)
            if endpoint_id in self.unknown
        ]
        accepted = len(endpoints) - len(refused)
        return evidence_pb2.ReportOutcomesResponse(accepted=accepted, refused=refused)

    def ListModels(  # noqa: N802 - as in the contract
        self, _request: catalog_pb2.ListModelsRequest, _context: grpc.ServicerContext
    ) -> catalog_pb2.ListModelsResponse:
        return catalog_pb2.ListModelsResponse(models=[MODEL])

    def GetModel(  # noqa: N802 - as in the contract
        self, request: catalog_pb2.GetModelRequest, context: grpc.ServicerContext
    ) -> catalog_pb2.GetModelResponse:
        if request.model != MODEL.model:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"model: '{request.model}' is not in the catalog"
            )
        return catalog_pb2.GetModelResponse(model=MODEL)

    def ListEndpoints(  # noqa: N802 - as in the contract
        self, _request: catalog_pb2.ListEndpointsRequest, _context: grpc.ServicerContext
    ) -> catalog_pb2.ListEndpointsResponse:
        return catalog_pb2.ListEndpointsResponse(endpoints=[ENDPOINT])


MODEL = catalog_pb2.Model(
    model="lab/good", name="Good", context_length=1000, input_modalities=["text"]
)
ENDPOINT = catalog_pb2.Endpoint(
    endpoint_id="lab/good@good",
    model="lab/good",
    provider="good",
    tag="good",
    quantization="fp8",
    context_length=1000,
    supported_parameters=["max_tokens", "tools", "tool_choice"],
    prices=catalog_pb2.Prices(prompt=0.6, completion=2.5),
)


@contextmanager
def deciding(decider: ScriptedDecider, address: str) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    pb_grpc.add_RoutingServiceServicer_to_server(decider, server)
    evidence_pb2_grpc.add_EvidenceServiceServicer_to_server(decider, server)
    catalog_pb2_grpc.add_CatalogServiceServicer_to_server(decider, server)
    well = health.HealthServicer()
    well.set("assay.v1.RoutingService", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(well, server)
    server.add_insecure_port(address)
    server.start()
    yield address
    server.stop(0).wait()
