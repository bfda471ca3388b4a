"""RoutingService: convert, decide, convert."""

from __future__ import annotations

from typing import Protocol

import grpc

from assay.engine.decide.explanation import Explanation
from assay.engine.decide.plan import Decision
from assay.engine.errors import InvalidField
from assay.engine.world.request import Request
from assay.rpc.convert.plan import decide_response, explain_response
from assay.rpc.convert.request import request_from
from assay.rpc.service import Service
from assay.rpc.status import status_of
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

MAX_BATCH = 256
NAME = pb.DESCRIPTOR.services_by_name["RoutingService"].full_name


class Decides(Protocol):
    """What answers requests: `assay.server.decider.Decider`."""

    def decide(self, request: Request) -> Decision:
        """Plan and journal."""

    def explain(self, request: Request) -> Explanation:
        """Plan with the values seen, and journal nothing."""


class Routing(pb_grpc.RoutingServiceServicer):
    """Answers Decide, BatchDecide and Explain."""

    def __init__(self, decider: Decides) -> None:
        self._decider = decider

    def Decide(self, request: pb.DecideRequest, context: grpc.ServicerContext) -> pb.DecideResponse:
        """Order the endpoints that may serve one request."""
        return self._decide(request)

    def BatchDecide(
        self,
        request: pb.BatchDecideRequest,
        context: grpc.ServicerContext,
    ) -> pb.BatchDecideResponse:
        """Decide each request on its own."""
        if len(request.requests) > MAX_BATCH:
            raise InvalidField(
                "requests", f"{len(request.requests)} items", f"a list of at most {MAX_BATCH}"
            )
        return pb.BatchDecideResponse(results=map(self._result, request.requests))

    def Explain(
        self, request: pb.ExplainRequest, context: grpc.ServicerContext
    ) -> pb.ExplainResponse:
        """Tell what Decide would answer, and why."""
        return explain_response(self._decider.explain(request_from(request.request)))

    def _decide(self, message: pb.DecideRequest) -> pb.DecideResponse:
        decided = self._decider.decide(request_from(message))
        return decide_response(decided.decision_id, decided.plan, decided.policy_digest)

    def _result(self, message: pb.DecideRequest) -> pb.BatchDecideResult:
        try:
            return pb.BatchDecideResult(response=self._decide(message))
        except Exception as error:  # noqa: BLE001 - one bad item leaves the others alone; status_of logs what is ours
            status = status_of(error, f"{NAME}/BatchDecide")
            number: int = status.code.value[0]
            failed = pb.BatchDecideStatus(code=number, message=status.message, reason=status.reason)
            return pb.BatchDecideResult(status=failed)


def routing_service(decider: Decides) -> Service:
    """The service, ready for a server."""
    return Service(
        NAME, lambda server: pb_grpc.add_RoutingServiceServicer_to_server(Routing(decider), server)
    )
