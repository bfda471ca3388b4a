"""Simulated providers on a socket."""

from __future__ import annotations

import signal
import socket

import uvicorn

from assay.simulate.app import application
from assay.simulate.behaviour import Cast
from assay.simulate.stage import Stage
from assay.simulate.wire import OpenProtocol

BACKLOG = 4096  # connections that may wait to be accepted
GRACE = 1  # seconds that answers under way have at the end


def listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections from now on; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def perform(cast: Cast, taken: socket.socket) -> None:
    """Play until SIGTERM or Ctrl-C."""
    config = uvicorn.Config(
        application(Stage(cast)),
        http=OpenProtocol,
        ws="none",
        lifespan="off",
        backlog=BACKLOG,
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    before = signal.signal(
        signal.SIGTERM, lambda *_: None
    )  # uvicorn raises it once more when it is done
    try:
        uvicorn.Server(config).run(sockets=[taken])
    finally:
        signal.signal(signal.SIGTERM, before)
