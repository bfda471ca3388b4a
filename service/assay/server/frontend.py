"""Serve a `Service` over gRPC: a server, loops that keep it current, and its health."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Final, Self

from assay.curator.supervised_loop import SupervisedLoop
from assay.rpc.server import GrpcServer
from assay.server.health import HealthReporter, causes_of
from assay.server.service import Service

REFRESH_LATE_S: Final = 10.0
HEALTH_INTERVAL_S: Final = 0.25
STOP_S: Final = 6.0
"""How long a stop waits for calls and loops; then it abandons them."""


class GrpcFrontend:
    """Listens from construction; as a context manager it also refreshes the service and curates."""

    def __init__(self, service: Service, listen: Sequence[str]) -> None:
        self._service = service
        self._server = GrpcServer(service.services, listen)
        self.addresses = self._server.addresses
        interval = service.settings.poll_interval
        self._refreshing = SupervisedLoop("refresh", service.refresh, interval, late=REFRESH_LATE_S)
        if service.follower is not None:
            service.follower.progress = self._refreshing.show_progress
        self.health = HealthReporter(
            partial(causes_of, service, self._refreshing),
            lambda name, serving: self._server.health.set_serving(name, serving=serving),
        )
        interval = min(interval, HEALTH_INTERVAL_S)
        self._reporting = SupervisedLoop("health", self.health.report, interval, late=interval)
        self.health.report()

    def __enter__(self) -> Self:
        """Start to refresh and to curate."""
        self._refreshing.start()
        self._reporting.start()
        if self._service.curator_loop is not None:
            self._service.curator_loop.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening, then end the loops."""
        deadline = time.monotonic() + STOP_S
        self.stop()
        self._reporting.end()
        self._refreshing.end()
        if self._service.curator_loop is not None:
            self._service.curator_loop.join(deadline - time.monotonic())
        self._refreshing.join(deadline - time.monotonic())

    def stop(self) -> None:
        """Let another curator take over at once; stop listening once running calls have ended."""
        self._service.hurry()
        loop = self._service.curator_loop
        ending = threading.Thread(target=loop.end, daemon=True) if loop else None
        if ending is not None:
            ending.start()
        self._server.stop()
        if ending is not None:
            ending.join(STOP_S)
