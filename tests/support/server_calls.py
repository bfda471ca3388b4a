"""Calls to a server: decide, health and metrics."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.support.waiting import eventually

from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

TIMEOUT_SECONDS = 30.0


def decide(channel: grpc.Channel, model: str, **fields: Any) -> pb.DecideResponse:
    request = pb.DecideRequest(model=model, **fields)
    return pb_grpc.RoutingServiceStub(channel).Decide(request, timeout=TIMEOUT_SECONDS)


def tags(response: pb.DecideResponse) -> list[str]:
    """Return the tags of the attempts, in order."""
    return [attempt.tag for attempt in response.attempts]


def reasons(response: pb.DecideResponse) -> dict[str, set[str]]:
    """Return the reasons for each excluded endpoint, by tag."""
    return {
        excluded.tag: {finding.reason for finding in excluded.reasons}
        for excluded in response.excluded
    }


def health_status(channel: grpc.Channel, service: str = "") -> str:
    """Return the name of a service's health; of the whole server by default."""
    stub: Any = health_pb2_grpc.HealthStub
    request = health_pb2.HealthCheckRequest(service=service)
    reply = stub(channel).Check(request, timeout=TIMEOUT_SECONDS)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def wait_for_health(channel: grpc.Channel, status: str, *services: str) -> None:
    """Wait until each service has this health."""
    for service in services:
        eventually(partial(health_status, channel, service), lambda found: found == status)


def scrape_metrics(address: str) -> dict[str, float]:
    """Return the metrics of a server, by name with labels."""
    with urlopen(f"http://{address}/metrics", timeout=TIMEOUT_SECONDS) as reply:
        lines = reply.read().decode().splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in samples}
