"""Standard gRPC health, whose watch streams take no worker thread and do not hold up an orderly stop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import grpc
from grpc_health.v1 import health, health_pb2

SERVICE_NAME = health.SERVICE_NAME


class Health(health.HealthServicer):
    """Tells per service name, and for the whole server (empty name), whether it can answer."""

    def __init__(self) -> None:
        # Non-blocking: a watch answers by callback. Otherwise as many watchers as worker threads stop all work.
        super().__init__(experimental_non_blocking=True)
        self._ends: set[Callable[[], None]] = set()

    def Watch(  # type: ignore[override]  # noqa: N802 - the standard's name; only its non-blocking form is offered
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send_response_callback: Callable[[health_pb2.HealthCheckResponse | None], None],
    ) -> None:
        """Send every change until the client leaves or the server stops."""
        end = partial(send_response_callback, None)
        self._ends.add(end)
        context.add_callback(partial(self._ends.discard, end))
        super().Watch(request, context, send_response_callback)

    def set_serving(self, name: str, *, serving: bool) -> None:
        """Say whether a service can answer."""
        states = health_pb2.HealthCheckResponse
        self.set(name, states.SERVING if serving else states.NOT_SERVING)

    def finish(self) -> None:
        """Tell every watcher that nothing answers any more, and end its stream."""
        self.enter_graceful_shutdown()
        for end in tuple(self._ends):
            end()
