"""The gRPC server: TCP and Unix sockets, health per service, reflection, and an orderly end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from assay.rpc.address import CannotListen, checked
from assay.rpc.guard import Guard
from assay.rpc.health import SERVICE_NAME, Health
from assay.rpc.service import Service

THREADS = 4
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
GRACE_SECONDS = 5.0
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # two servers on one port are a mistake until workers are asked for
)


class Server:
    """Serves from construction until `stop`; every service starts as SERVING."""

    def __init__(
        self, services: Sequence[Service], listen: Sequence[str], *, threads: int = THREADS
    ) -> None:
        addresses = [checked(address) for address in listen]
        self.health = Health()
        self._guard = Guard()
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="assay-rpc"),
            interceptors=[self._guard],
            options=OPTIONS,
        )
        self._register(services)
        self.addresses = tuple(self._bound(address) for address in addresses)
        self._server.start()

    def _register(self, services: Sequence[Service]) -> None:
        for service in services:
            service.register(self._server)
            self.health.set_serving(service.name, serving=True)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        names = (*(service.name for service in services), SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def _bound(self, address: str) -> str:
        """Listen; the address as clients dial it, with the port that port 0 came to."""
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise CannotListen(address, "it is in use or not to be had") from error
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Tell watchers, take no new calls, break streams off, let running calls end within `grace` seconds."""
        self.health.finish()
        stopped = self._server.stop(grace)
        self._guard.end_streams()
        stopped.wait()
        self._guard.close()
        self.health.close()

    def run(
        self, grace: float = GRACE_SECONDS, *, stopping: Callable[[], None] = lambda: None
    ) -> None:
        """Serve until SIGTERM or SIGINT, then stop; a second signal ends the process at once. Main thread only.

        `stopping` is called before calls that are under way get their time to end.
        """
        # A byte in a socket: whatever a handler in Python would set, a wait could begin just before it is set.
        waiting, woken = socket.socketpair()
        woken.settimeout(0.0)
        before = {
            number: signal.signal(number, taken) for number in (signal.SIGTERM, signal.SIGINT)
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


def taken(_number: int, _frame: FrameType | None) -> None:
    """Take a signal, so that it ends nothing; that it came is told through the wake-up socket."""
