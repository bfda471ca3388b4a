"""Standard gRPC health. Watch streams take no worker thread, hold no lock and do not hold up an orderly stop.

grpcio's own servicer is not used: it sends under a lock that the server's one event thread needs when a watcher leaves,
so that a change of state at that moment stops the whole server.
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
class Watcher:
    """One stream: what it is about, how to send on it (`None` ends it), and what it was told last."""

    service: str
    send: Callable[[health_pb2.HealthCheckResponse | None], None]
    told: int | None = None


class Health(health_pb2_grpc.HealthServicer):
    """Tells per service name, and for the whole server (empty name), whether it can answer."""

    def __init__(self) -> None:
        self._states: dict[str, int] = {"": SERVING}
        self._watchers: set[Watcher] = set()
        self._stopping = False
        # INVARIANT: only this thread sends; sending waits for the event thread, which therefore must never wait for it.
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="assay-health")

    def Check(  # noqa: N802 - the standard's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Tell the state of one service; NOT_FOUND where there is none of that name."""
        state = self._state(request.service)
        if state == UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=state)

    def Watch(  # type: ignore[override] # noqa: N802 - the standard's name; grpcio hands a callback in
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send_response_callback: Callable[[health_pb2.HealthCheckResponse | None], None],
    ) -> None:
        """Send the state, and every change until the client leaves or the server stops."""
        watcher = Watcher(request.service, send_response_callback)
        self._watchers.add(watcher)
        if not context.add_callback(partial(self._watchers.discard, watcher)):
            self._watchers.discard(watcher)
        self._sender.submit(self._tell, watcher)

    Watch.experimental_non_blocking = True  # type: ignore[attr-defined] # how grpcio streams without a thread

    def set_serving(self, name: str, *, serving: bool) -> None:
        """Say whether a service can answer; without effect once the server stops."""
        if not self._stopping:
            self._states[name] = SERVING if serving else NOT_SERVING
            self._tell_all()

    def finish(self) -> None:
        """Tell every watcher that nothing answers any more, and end its stream; returns at once."""
        self._stopping = True
        self._tell_all()

    def close(self) -> None:
        """Give the sending thread back, after the server has stopped."""
        self._sender.shutdown()

    def _tell_all(self) -> None:
        for watcher in tuple(self._watchers):
            self._sender.submit(self._tell, watcher)

    def _state(self, service: str) -> int:
        state = self._states.get(service, UNKNOWN)
        return NOT_SERVING if self._stopping and state == SERVING else state

    def _tell(self, watcher: Watcher) -> None:
        stopping, state = self._stopping, self._state(watcher.service)
        if state != watcher.told:
            watcher.told = state
            watcher.send(health_pb2.HealthCheckResponse(status=state))
        if stopping:
            watcher.send(None)
