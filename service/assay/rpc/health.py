"""Standard gRPC health. Watch streams occupy no worker thread and do not delay a graceful stop.

grpcio's own servicer is not used: it sends while it holds a lock that the server's only event
thread needs when a watcher leaves, so a change of state at that moment blocks the whole server.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICE_NAME = health.SERVICE_NAME
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@dataclass(slots=True, eq=False)
class HealthWatcher:
    """One Watch stream. `send(None)` ends it; `sent` is the last state sent."""

    service: str
    send: Callable[[health_pb2.HealthCheckResponse | None], None]
    sent: int | None = None


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Reports whether each service, and the whole server (empty name), can answer."""

    def __init__(self) -> None:
        self._states: dict[str, int] = {"": SERVING}
        self._watchers: set[HealthWatcher] = set()
        self._stopping = False
        # INVARIANT: only this thread sends. Sending waits for the event thread, so the event thread
        # must never wait for this one.
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="assay-health")

    def Check(  # noqa: N802 - the standard's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Return the state of one service; NOT_FOUND for an unknown name."""
        state = self._state(request.service)
        if state == UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=state)

    def Watch(  # type: ignore[override] # noqa: N802 - grpcio's name and callback
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send_response_callback: Callable[[health_pb2.HealthCheckResponse | None], None],
    ) -> None:
        """Send the state and every change, until the client leaves or the server stops."""
        watcher = HealthWatcher(request.service, send_response_callback)
        self._watchers.add(watcher)
        if not context.add_callback(partial(self._watchers.discard, watcher)):
            self._watchers.discard(watcher)
        self._sender.submit(self._send, watcher)

    Watch.experimental_non_blocking = True  # type: ignore[attr-defined] # read by grpcio

    def set_serving(self, name: str, *, serving: bool) -> None:
        """Set whether a service can answer; no effect once the server stops."""
        if not self._stopping:
            self._states[name] = SERVING if serving else NOT_SERVING
            self._send_all()

    def finish(self) -> None:
        """Send NOT_SERVING to every watcher and end its stream; returns at once."""
        self._stopping = True
        self._send_all()

    def close(self) -> None:
        """Release the sending thread, after the server has stopped."""
        self._sender.shutdown()

    def _send_all(self) -> None:
        for watcher in tuple(self._watchers):
            self._sender.submit(self._send, watcher)

    def _state(self, service: str) -> int:
        state = self._states.get(service, UNKNOWN)
        return NOT_SERVING if self._stopping and state == SERVING else state

    def _send(self, watcher: HealthWatcher) -> None:
        stopping, state = self._stopping, self._state(watcher.service)
        if state != watcher.sent:
            watcher.sent = state
            watcher.send(health_pb2.HealthCheckResponse(status=state))
        if stopping:
            watcher.send(None)
