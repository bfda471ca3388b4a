"""RoutingService: convert the request, decide, convert the answer."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from assay.engine.decide.explanation import Explanation
from assay.engine.decide.plan import Decision
from assay.engine.errors import InvalidField
from assay.engine.world.request import Request
from assay.rpc.convert.plan import decide_response, explain_response
from assay.rpc.convert.request import request_from
from assay.rpc.server import GrpcService
from assay.rpc.status import status_of
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

MAX_BATCH = 256
NAME = pb.DESCRIPTOR.services_by_name["RoutingService"].full_name


class RoutingServicer(pb_grpc.RoutingServiceServicer):
    """Answers Decide, BatchDecide and Explain."""

    def __init__(
        self, decide: Callable[[Request], Decision], explain: Callable[[Request], Explanation]
    ) -> None:
        self._decide = decide
        self._explain = explain

    def Decide(self, request: pb.DecideRequest, context: grpc.ServicerContext) -> pb.DecideResponse:
        """Order the endpoints that may serve one request."""
        return decide_response(self._decide(request_from(request)))

    def BatchDecide(
        self, request: pb.BatchDecideRequest, context: grpc.ServicerContext
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
        """Answer as Decide does, with every value that the rules read."""
        return explain_response(self._explain(request_from(request.request)))

    def _result(self, message: pb.DecideRequest) -> pb.BatchDecideResult:
        try:
            answer = decide_response(self._decide(request_from(message)))
            return pb.BatchDecideResult(response=answer)
        except Exception as error:  # noqa: BLE001 - one bad item fails alone
            status = status_of(error, f"{NAME}/BatchDecide")
            number: int = status.code.value[0]
            failed = pb.BatchDecideStatus(code=number, message=status.message, reason=status.reason)
            return pb.BatchDecideResult(status=failed)


def routing_service(
    decide: Callable[[Request], Decision], explain: Callable[[Request], Explanation]
) -> GrpcService:
    """Return the service, ready for a server."""
    servicer = RoutingServicer(decide, explain)
    return GrpcService(
        NAME, lambda server: pb_grpc.add_RoutingServiceServicer_to_server(servicer, server)
    )
