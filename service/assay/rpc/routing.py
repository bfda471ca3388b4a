"""RoutingService: read the request, decide, convert the answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import grpc

from assay.engine.decide.explanation import Explanation
from assay.engine.decide.plan import Decision
from assay.engine.errors import InvalidField
from assay.engine.world.catalog import Percentiles
from assay.engine.world.declarations import declared_fields
from assay.engine.world.request import SORTS, MaxPrice, ProviderPreferences, Request, check_one_of
from assay.rpc.convert.plan import decide_response, explain_response
from assay.rpc.server import GrpcService
from assay.rpc.status import status_of
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

MAX_BATCH = 256
NAME = pb.DESCRIPTOR.services_by_name["RoutingService"].full_name
_LISTS: Final = frozenset(
    item.path.rpartition(".")[2] for item in declared_fields(Request) if item.kind is tuple
)


class RoutingServicer(pb_grpc.RoutingServiceServicer):
    """Answers Decide, BatchDecide and Explain."""

    def __init__(
        self, decide: Callable[[Request], Decision], explain: Callable[[Request], Explanation]
    ) -> None:
        self._decide = decide
        self._explain = explain

    def Decide(self, request: pb.DecideRequest, context: grpc.ServicerContext) -> pb.DecideResponse:
        return decide_response(self._decide(request_from(request)))

    def BatchDecide(
        self, request: pb.BatchDecideRequest, context: grpc.ServicerContext
    ) -> pb.BatchDecideResponse:
        if (size := len(request.requests)) > MAX_BATCH:
            raise InvalidField("requests", f"{size} items", f"a list of at most {MAX_BATCH}")
        return pb.BatchDecideResponse(results=map(self._result, request.requests))

    def _result(self, message: pb.DecideRequest) -> pb.BatchDecideResult:
        try:
            answer = decide_response(self._decide(request_from(message)))
            return pb.BatchDecideResult(response=answer)
        except Exception as error:  # noqa: BLE001 - one bad item fails alone
            status = status_of(error, f"{NAME}/BatchDecide")
            number: int = status.code.value[0]
            failed = pb.BatchDecideStatus(code=number, message=status.message, reason=status.reason)
            return pb.BatchDecideResult(status=failed)

    def Explain(
        self, request: pb.ExplainRequest, context: grpc.ServicerContext
    ) -> pb.ExplainResponse:
        return explain_response(self._explain(request_from(request.request)))


def routing_service(
    decide: Callable[[Request], Decision], explain: Callable[[Request], Explanation]
) -> GrpcService:
    """Return the service, ready for a server."""
    servicer = RoutingServicer(decide, explain)
    return GrpcService(NAME, partial(pb_grpc.add_RoutingServiceServicer_to_server, servicer))


def request_from(message: pb.DecideRequest) -> Request:
    """Return the request that a message states; a missing field has its documented default.

    Raises `InvalidField` with the field's path in the message.
    """
    values = _set_fields(message)
    if values.get("seed") == b"":
        raise InvalidField("seed", "", "16 or 32 bytes")
    if "provider" in values:
        wants = _set_fields(values["provider"])
        if "sort" in wants:
            sort = _set_fields(wants.pop("sort"))
            if "by" in sort:
                check_one_of("provider.sort.by", sort["by"], SORTS)
                wants["sort"] = sort["by"]
            if "partition" in sort:
                wants["partition"] = sort["partition"]
        if "max_price" in wants:
            wants["max_price"] = MaxPrice(**_set_fields(wants["max_price"]))
        for name in ("preferred_min_throughput", "preferred_max_latency"):
            if name in wants:
                wants[name] = Percentiles(**_set_fields(wants[name]))
        values["provider"] = ProviderPreferences(**wants)
    return Request(**{"model": "", **values})


def _set_fields(message: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the messages above
    """Return the fields that are set: each is read once, with lists as tuples."""
    return {
        field.name: tuple(value) if field.name in _LISTS else value
        for field, value in message.ListFields()
    }
