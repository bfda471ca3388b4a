"""`assay forward`: answer OpenAI-style chat requests by running decisions."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
from pathlib import Path
from typing import Annotated

import structlog
import uvloop
from cyclopts import Parameter

from assay.cli.output import configure_logs
from assay.engine.errors import OperatorError, quoted
from assay.forward.app import build_server, forwarder_app
from assay.forward.settings import Clients, read_clients, read_providers
from assay.rpc.address import MAX_PORT, BadAddress, CannotListen, is_loopback
from assay.server.settings import environment, spool_path

log = structlog.get_logger("assay.forward")

Server = Annotated[str, Parameter(help="The decider to ask: HOST:PORT or unix:PATH.")]
Http = Annotated[str, Parameter(help="Where to listen for HTTP: HOST:PORT.")]
Providers = Annotated[Path, Parameter(help="Providers and how to reach them (providers.yaml).")]
ClientsFile = Annotated[
    Path | None,
    Parameter(help="Hashes of client keys with their tenants; required off loopback."),
]
SpoolPath = Annotated[
    Path | None, Parameter(help="Directory for outcomes that are not sent yet. [env: ASSAY_SPOOL]")
]


class OpenToAll(OperatorError):
    """An address that other hosts can reach, without a file of client keys."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"http: {quoted(address)} is not a loopback address; it needs client keys (--clients)"
        )


def forward_command(
    *,
    server: Server,
    http: Http,
    providers: Providers,
    clients: ClientsFile = None,
    spool: SpoolPath = None,
) -> None:
    """Answer OpenAI-style chat requests and report their outcomes, until SIGTERM or Ctrl-C.

    Each request is decided by the server and tried at one endpoint after the other.

    Example: assay forward --server 127.0.0.1:7333 --http 127.0.0.1:8080 --providers providers.yaml

    Example: assay forward --server unix:/run/assay.sock --http 0.0.0.0:8080
    --providers providers.yaml --clients clients.yaml --spool /var/lib/assay/spool
    """
    configure_logs(logging.INFO)
    connections = read_providers(providers, environment())
    known_clients = Clients() if clients is None else read_clients(clients)
    listening = _listen(http, open_to_all=clients is None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:  # as many connections as the system allows
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def run() -> None:
        directory = spool_path(spool)
        async with forwarder_app(server, connections, known_clients, directory) as application:
            uvicorn_server = build_server(application)
            # uvicorn handles signals only while it serves; until then we do.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, uvicorn_server.handle_exit)
            host, port = listening.getsockname()[:2]
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            slugs = sorted(connections.by_slug)
            log.info("forwarding", http=address, server=server, providers=slugs)
            gc.freeze()  # modules and settings stay: collections need not visit them
            await uvicorn_server.serve(sockets=[listening])

    with listening, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    log.info("stopped")


def _listen(address: str, *, open_to_all: bool) -> socket.socket:
    """Return a listening socket; raise BadAddress, OpenToAll or CannotListen."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit() and int(port) <= MAX_PORT):
        raise BadAddress(address)
    if open_to_all and not is_loopback(host):
        raise OpenToAll(address)
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        return socket.create_server(found[0][4][:2], family=found[0][0], backlog=4096)
    except OSError as error:
        raise CannotListen(address, error.strerror or "the address is not available") from error
