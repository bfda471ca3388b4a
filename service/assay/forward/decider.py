"""Asking the decider: one channel, retried by its own policy; every status becomes the caller's answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assay.forward.errors import ErrorReply
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc

SERVICE: Final = "assay.v1.RoutingService"
SERVICE_CONFIG: Final = json.dumps({
    "methodConfig": [{
        "name": [{"service": SERVICE}, {"service": "assay.v1.CatalogService"}],
        "retryPolicy": {
            "maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "0.5s", "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        },
    }],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
})  # fmt: skip
OPTIONS: Final = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # how long one try to connect may take
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)
HEALTH_SECONDS: Final = 1.0
WAIT_SECONDS: Final = 5.0
MOST_ASKING: Final = 256  # gRPC's server turns calls away at random once a thousand wait for it
RETRY_AFTER_SECONDS: Final = 1.0


def channel_to(server: str) -> grpc.aio.Channel:
    """The one channel to the decider: decisions and reports of their outcomes reach the same worker."""
    return grpc.aio.insecure_channel(server, OPTIONS)


@dataclass(frozen=True, slots=True)
class DecideErrorReply:
    """What a caller is told instead of a decision."""

    status: int
    error_type: str
    code: str | None = None


AWAY: Final = DecideErrorReply(503, "decider_unavailable", "temporarily_unavailable")
STATUSES: Final = {
    "unknown-model": DecideErrorReply(400, "model_not_found", "model_not_found"),
    "INVALID_ARGUMENT": DecideErrorReply(400, "invalid_request"),
    "NOT_FOUND": DecideErrorReply(400, "invalid_request"),
}


class DeciderClient:
    """Decide, as the chat route uses it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._decide = routing_pb2_grpc.RoutingServiceStub(channel).Decide
        stub: Any = health_pb2_grpc.HealthStub  # generated without types
        self._check = stub(channel).Check
        self._room = asyncio.Semaphore(MOST_ASKING)

    async def decide(self, question: pb.DecideRequest, seconds: float) -> pb.DecideResponse:
        """The decision; raises Refused. A decider that is away is waited for, but not for long."""
        limit = min(seconds, WAIT_SECONDS)
        try:
            async with asyncio.timeout(limit), self._room:
                return await self._decide(question, timeout=limit, wait_for_ready=True)
        except TimeoutError:
            raise away("DEADLINE_EXCEEDED") from None
        except grpc.aio.AioRpcError as error:
            raise refusal(error, question) from None

    async def ready(self) -> bool:
        """Whether the decider says that it can answer."""
        try:
            told = await self._check(
                health_pb2.HealthCheckRequest(service=SERVICE), timeout=HEALTH_SECONDS
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(told.status == health_pb2.HealthCheckResponse.SERVING)


def refusal(error: grpc.aio.AioRpcError, question: pb.DecideRequest) -> ErrorReply:
    """What a gRPC status means for the caller, who reads the decider's words where the fault is theirs."""
    reason = dict(error.trailing_metadata() or ()).get("assay-reason")
    told = STATUSES.get(str(reason)) or STATUSES.get(error.code().name) or AWAY
    if told is AWAY:
        return away(error.code().name)
    requested = (question.model, *question.models)
    return ErrorReply(
        told.status, error.details() or "", told.error_type, code=told.code, requested=requested
    )


def away(code: str) -> ErrorReply:
    """What a caller is told while nobody decides."""
    message = f"no decision can be had at the moment ({code})"
    return ErrorReply(
        AWAY.status, message, AWAY.error_type, code=AWAY.code, retry_after=RETRY_AFTER_SECONDS
    )
