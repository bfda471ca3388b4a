"""The gRPC server: TCP and Unix sockets, health per service, reflection and graceful shutdown.

Watch streams of the health service occupy no worker thread and do not delay a graceful stop.
grpcio's own health servicer is not used: it sends while it holds a lock that the server's only
event thread needs when a watcher leaves, so a change of state at that moment blocks the server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from assay.rpc.address import CannotListen, check_address
from assay.rpc.status import ErrorInterceptor

THREADS = 4
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_GRACE_SECONDS = 5.0
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second server on the same port is an error
)
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class GrpcService(NamedTuple):
    """One gRPC service: its full name, used by health and reflection, and how to register it."""

    name: str
    register: Callable[[grpc.Server], None]


class GrpcServer:
    """Serves from construction until `stop`; every service starts as SERVING."""

    def __init__(
        self, services: Sequence[GrpcService], listen: Sequence[str], *, threads: int = THREADS
    ) -> None:
        addresses = [check_address(address) for address in listen]
        self.health = _HealthServicer()
        self._interceptor = ErrorInterceptor()
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="assay-rpc"),
            interceptors=[self._interceptor],
            options=_OPTIONS,
        )
        for service in services:
            service.register(self._server)
            self.health.set_serving(service.name, serving=True)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        standard = (health.SERVICE_NAME, reflection.SERVICE_NAME)
        names = (*(service.name for service in services), *standard)
        reflection.enable_server_reflection(names, self._server)
        self.addresses = tuple(self._bound(address) for address in addresses)
        self._server.start()

    def _bound(self, address: str) -> str:
        """Listen; return the address that clients dial, with the port chosen for port 0."""
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise CannotListen(address, "it is in use or not available") from error
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    def stop(self, grace: float = _GRACE_SECONDS) -> None:
        """Stop accepting calls, cancel streams, give running calls `grace` seconds to finish."""
        self.health.finish()
        stopped = self._server.stop(grace)
        self._interceptor.end_streams()
        stopped.wait()
        self._interceptor.close()
        self.health.close()


@dataclass(slots=True, eq=False)
class _HealthWatcher:
    """One Watch stream. `send(None)` ends it; `sent` is the last state sent."""

    service: str
    send: Callable[[health_pb2.HealthCheckResponse | None], None]
    sent: int | None = None


class _HealthServicer(health_pb2_grpc.HealthServicer):
    """Reports whether each service, and the whole server (empty name), can answer."""

    def __init__(self) -> None:
        self._states: dict[str, int] = {"": _SERVING}
        self._watchers: set[_HealthWatcher] = set()
        self._stopping = False
        # INVARIANT: only this thread sends. Sending waits for the event thread, so the event thread
        # must never wait for this one.
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="assay-health")

    def Check(  # noqa: N802 - the standard's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        state = self._state(request.service)
        if state == _UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=state)

    def Watch(  # type: ignore[override] # noqa: N802 - grpcio's name and callback
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send_response_callback: Callable[[health_pb2.HealthCheckResponse | None], None],
    ) -> None:
        """Send the state and every change, until the client leaves or the server stops."""
        watcher = _HealthWatcher(request.service, send_response_callback)
        self._watchers.add(watcher)
        if not context.add_callback(partial(self._watchers.discard, watcher)):
            self._watchers.discard(watcher)
        self._sender.submit(self._send, watcher)

    Watch.experimental_non_blocking = True  # type: ignore[attr-defined] # read by grpcio

    def set_serving(self, name: str, *, serving: bool) -> None:
        """Set whether a service can answer; no effect once the server stops."""
        if not self._stopping:
            self._states[name] = _SERVING if serving else _NOT_SERVING
            self._send_all()

    def finish(self) -> None:
        """Send NOT_SERVING to every watcher and end its stream; return at once."""
        self._stopping = True
        self._send_all()

    def close(self) -> None:
        """Release the sending thread, after the server has stopped."""
        self._sender.shutdown()

    def _send_all(self) -> None:
        for watcher in tuple(self._watchers):
            self._sender.submit(self._send, watcher)

    def _state(self, service: str) -> int:
        state = self._states.get(service, _UNKNOWN)
        return _NOT_SERVING if self._stopping and state == _SERVING else state

    def _send(self, watcher: _HealthWatcher) -> None:
        stopping, state = self._stopping, self._state(watcher.service)
        if state != watcher.sent:
            watcher.sent = state
            watcher.send(health_pb2.HealthCheckResponse(status=state))
        if stopping:
            watcher.send(None)
