"""Requests as the messages that a caller sends."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from assay.engine.world.request import Request
from assay.v1 import routing_pb2 as pb


def message_from(request: Request) -> pb.DecideRequest:
    """Return the message that states every field of a request, defaults included."""
    values = asdict(request)
    provider: dict[str, Any] = values.pop("provider")
    sort = pb.Sort(by=provider.pop("sort"), partition=provider.pop("partition"))
    seed = values.pop("seed") or None
    return pb.DecideRequest(
        provider=pb.ProviderPreferences(sort=sort, **provider), seed=seed, **values
    )
