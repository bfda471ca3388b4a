"""`assay forward`: the OpenAI-compatible front that runs decisions."""

from __future__ import annotations

import asyncio
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
from assay.forward.settings import Clients, ProviderConnections, read_clients, read_providers
from assay.rpc.address import MAX_PORT, BadAddress, CannotListen, is_loopback
from assay.server.settings import environment, spool_path

log = structlog.get_logger("assay.forward")


class OpenToAll(OperatorError):
    """An address that others could reach, without a file that says who may ask."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"http: {quoted(address)} is not a loopback address; say with --clients who may ask there"
        )


def forward_command(
    *,
    server: Annotated[
        str, Parameter(help="Ask this server for decisions: HOST:PORT or unix:PATH.")
    ],
    http: Annotated[str, Parameter(help="Where to answer HTTP: HOST:PORT.")],
    providers: Annotated[
        Path, Parameter(help="Providers, where they are and how to reach them (providers.yaml).")
    ],
    clients: Annotated[
        Path | None, Parameter(help="Who may ask: hashes of keys, and their tenants.")
    ] = None,
    spool: Annotated[
        Path | None, Parameter(help="Directory of outcomes not reported yet. [env: ASSAY_SPOOL]")
    ] = None,
) -> None:
    """Answer OpenAI-style chat requests by running decisions, and report what came of them, until SIGTERM or Ctrl-C.

    Example: assay forward --server 127.0.0.1:7333 --http 127.0.0.1:8080 --providers providers.yaml
    """
    configure_logs(logging.INFO)
    known = read_providers(providers, environment())
    asking = Clients() if clients is None else read_clients(clients)
    listening = listen(http, open_to_all=clients is None)
    allow_many_connections()
    with listening, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(server, listening, (known, asking), spool_path(spool)))
    log.info("stopped")


async def run(
    server: str, listening: socket.socket, files: tuple[ProviderConnections, Clients], spool: Path
) -> None:
    """Serve until told to stop."""
    providers, clients = files
    async with forwarder_app(server, providers, clients, spool) as application:
        http = build_server(application)
        for number in (
            signal.SIGTERM,
            signal.SIGINT,
        ):  # uvicorn takes them while it serves, and hands them on after
            signal.signal(number, http.handle_exit)
        host, port = listening.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        log.info("forwarding", http=address, server=server, providers=sorted(providers.by_slug))
        await http.serve(sockets=[listening])


def listen(address: str, *, open_to_all: bool) -> socket.socket:
    """A socket that takes connections."""
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
        raise CannotListen(address, error.strerror or "it is not to be had") from error


def allow_many_connections() -> None:
    """Take as many file descriptors as the machine gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
