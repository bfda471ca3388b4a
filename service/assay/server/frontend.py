"""Serve a `Service` over gRPC: a server, a thread that keeps it current, and its health."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final, Self

import structlog

from assay.engine.errors import AssayError, StoreUnavailable
from assay.rpc.catalog import NAME as CATALOG
from assay.rpc.evidence import NAME as EVIDENCE
from assay.rpc.routing import NAME as ROUTING
from assay.rpc.server import GrpcServer
from assay.server.service import Service

_LOGGED: Final = frozenset({ROUTING, EVIDENCE})
_NEED_SNAPSHOT: Final = _LOGGED | {CATALOG}
log = structlog.get_logger(__name__)


class GrpcFrontend:
    """Listens from construction; as a context manager it also refreshes the service and curates."""

    def __init__(self, service: Service, listen: Sequence[str]) -> None:
        self._service = service
        services = service.grpc_services()
        self._need_snapshot = [each.name for each in services if each.name in _NEED_SNAPSHOT]
        self._server = GrpcServer(services, listen)
        self.addresses = self._server.addresses
        self._curating = service.curator_loop or nullcontext()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="assay-refresh", daemon=True)
        self._report_health()

    def __enter__(self) -> Self:
        """Start to refresh and to curate."""
        self._thread.start()
        self._curating.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to listen, then both, after a refresh that is running."""
        self.stop()
        self._ended.set()
        self._curating.__exit__(None, None, None)
        self._thread.join()

    def stop(self) -> None:
        """Let another curator take over at once, and stop to listen once running calls end."""
        if self._service.curator_loop is not None:
            self._service.curator_loop.end()
        self._server.stop()

    def _run(self) -> None:
        while not self._ended.wait(self._service.settings.poll_interval):
            try:
                self._report_health(self._service.refresh())
            except Exception:
                log.exception("refresh failed")

    def _report_health(self, error: AssayError | None = None) -> None:
        """Set the health of each part.

        Decisions and outcomes need a snapshot and a log that accepts records. A database that can
        be read but takes no records counts as unavailable.
        """
        service, writer = self._service, self._service.log_writer
        set_serving = self._server.health.set_serving
        active, accepting = service.view is not None, writer is None or writer.accepting
        for name in self._need_snapshot:
            set_serving(name, serving=active and (accepting or name not in _LOGGED))
        if self._need_snapshot:
            set_serving("", serving=active and accepting)
        curating = service.curator_loop.trouble if service.curator_loop else None
        unavailable = any(isinstance(each, StoreUnavailable) for each in (error, curating))
        shipping = writer is None or writer.trouble is None
        set_serving("assay.store", serving=shipping and not unavailable)
        if "judge" in service.roles or "curate" in service.roles:
            set_serving("assay.policy", serving=service.rule_files.error is None)
        if service.follower is not None:
            set_serving("assay.snapshot", serving=active and service.follower.trouble is None)
        if service.curator_loop is not None:
            set_serving("assay.curator", serving=curating is None)
