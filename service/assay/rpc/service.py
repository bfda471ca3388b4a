"""One gRPC service as a value: its full name, and how it is put on a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class Service:
    """What `Server` takes; health and reflection go by `name`."""

    name: str
    register: Callable[[grpc.Server], None]
