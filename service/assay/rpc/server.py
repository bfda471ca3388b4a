"""The gRPC server: TCP and Unix sockets, health per service, reflection and graceful shutdown."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from assay.rpc.address import CannotListen, check_address
from assay.rpc.health import SERVICE_NAME, HealthServicer
from assay.rpc.interceptor import ErrorInterceptor

THREADS = 4
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
GRACE_SECONDS = 5.0
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second server on the same port is an error
)


@dataclass(frozen=True, slots=True)
class GrpcService:
    """One gRPC service: its full name, used by health and reflection, and how to register it."""

    name: str
    register: Callable[[grpc.Server], None]


class GrpcServer:
    """Serves from construction until `stop`; every service starts as SERVING."""

    def __init__(
        self, services: Sequence[GrpcService], listen: Sequence[str], *, threads: int = THREADS
    ) -> None:
        addresses = [check_address(address) for address in listen]
        self.health = HealthServicer()
        self._interceptor = ErrorInterceptor()
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="assay-rpc"),
            interceptors=[self._interceptor],
            options=OPTIONS,
        )
        self._register(services)
        self.addresses = tuple(self._bound(address) for address in addresses)
        self._server.start()

    def _register(self, services: Sequence[GrpcService]) -> None:
        for service in services:
            service.register(self._server)
            self.health.set_serving(service.name, serving=True)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        names = (*(service.name for service in services), SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def _bound(self, address: str) -> str:
        """Listen; return the address that clients dial, with the port chosen for port 0."""
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise CannotListen(address, "it is in use or not available") from error
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Stop accepting calls, cancel streams, give running calls `grace` seconds to finish."""
        self.health.finish()
        stopped = self._server.stop(grace)
        self._interceptor.end_streams()
        stopped.wait()
        self._interceptor.close()
        self.health.close()

    def run(
        self, grace: float = GRACE_SECONDS, *, stopping: Callable[[], None] = lambda: None
    ) -> None:
        """Serve until SIGTERM or SIGINT, then stop; a second signal ends the process at once.

        Call it on the main thread. `stopping` is called before running calls get their grace time.
        """
        # The signal writes a byte to a socket. A flag set by a Python handler would be missed if
        # the signal came just before the wait.
        waiting, woken = socket.socketpair()
        woken.settimeout(0.0)
        before = {
            number: signal.signal(number, _ignore) for number in (signal.SIGTERM, signal.SIGINT)
        }
        wakeup = signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        try:
            waiting.recv(1)
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            waiting.close()
            woken.close()
            stopping()
            self.stop(grace)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Keep the signal from ending the process; `run` learns of it from the wake-up socket."""
