"""The gRPC client of the decider; every status becomes a reply to the caller."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assay.forward.errors import RETRY_AFTER_SECONDS, ErrorReply
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc

_SERVICE: Final = "assay.v1.RoutingService"
_SERVICE_CONFIG: Final = json.dumps({
    "methodConfig": [{
        "name": [{"service": _SERVICE}, {"service": "assay.v1.CatalogService"}],
        "retryPolicy": {
            "maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "0.5s",
            "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"],
        },
    }],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
})  # fmt: skip
_OPTIONS: Final = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # how long one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)
_HEALTH_SECONDS: Final = 1.0
_WAIT_SECONDS: Final = 5.0
_MAX_CONCURRENT: Final = 256  # gRPC's server rejects calls at random once a thousand are queued
# By the `assay-reason` of a status, or else by its code: error type and availability code of a 400.
_CALLER_ERRORS: Final = {
    "unknown-model": ("model_not_found", "model_not_found"),
    "INVALID_ARGUMENT": ("invalid_request", None),
    "NOT_FOUND": ("invalid_request", None),
}


def open_channel(server: str) -> grpc.aio.Channel:
    """Open the one channel to the decider, so that decisions and reports reach the same worker."""
    return grpc.aio.insecure_channel(server, _OPTIONS)


class DeciderClient:
    """Calls Decide for the chat route."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._decide = routing_pb2_grpc.RoutingServiceStub(channel).Decide
        stub: Any = health_pb2_grpc.HealthStub  # generated without types
        self._check = stub(channel).Check
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)

    async def decide(self, question: pb.DecideRequest, seconds: float) -> pb.DecideResponse:
        """Return the decision; wait 5 seconds for an unavailable decider, then raise ErrorReply."""
        limit = min(seconds, _WAIT_SECONDS)
        try:
            async with asyncio.timeout(limit), self._slots:
                return await self._decide(question, timeout=limit, wait_for_ready=True)
        except TimeoutError:
            raise _unavailable("DEADLINE_EXCEEDED") from None
        except grpc.aio.AioRpcError as error:
            status = error.code().name
            reason = str(dict(error.trailing_metadata() or ()).get("assay-reason"))
            known = _CALLER_ERRORS.get(reason) or _CALLER_ERRORS.get(status)
            if known is None:
                raise _unavailable(status) from None
            error_type, code = known
            requested = (question.model, *question.models)
            message = error.details() or ""
            raise ErrorReply(400, message, error_type, code, requested=requested) from None

    async def is_ready(self) -> bool:
        """Return whether the decider reports that it is serving."""
        request = health_pb2.HealthCheckRequest(service=_SERVICE)
        try:
            health = await self._check(request, timeout=_HEALTH_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return bool(health.status == health_pb2.HealthCheckResponse.SERVING)


def _unavailable(grpc_code: str) -> ErrorReply:
    return ErrorReply(
        503, f"the decider is not available ({grpc_code})", "decider_unavailable",
        code="temporarily_unavailable", retry_after=RETRY_AFTER_SECONDS,
    )  # fmt: skip
