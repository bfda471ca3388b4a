"""`assay simulate`: run simulated providers, for the demo and for tests."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
from cyclopts import Parameter

from assay.cli.output import configure_logs
from assay.engine.errors import AuthorError, quoted
from assay.rpc.address import BadAddress, CannotListen, check_address
from assay.simulate.behavior import SimulationSettings, read_settings
from assay.simulate.server import listen, serve

_MAX_PATH = 4096  # characters of a path that messages show
log = structlog.get_logger("assay.simulate")

Http = Annotated[str, Parameter(help="Where to listen: HOST:PORT on a loopback address.")]
Providers = Annotated[
    Path | None,
    Parameter(help="YAML file with the behavior of each provider; without it any name works."),
]
Seed = Annotated[int | None, Parameter(help="Seed of all draws; overrides the file's.")]


class BadSimulationFile(AuthorError):
    """A file of simulated providers that cannot be used."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{quoted(str(path), _MAX_PATH)}: {' '.join(why.split())}")


def simulate_command(
    *, http: Http = "127.0.0.1:7340", providers: Providers = None, seed: Seed = None
) -> None:
    """Run OpenAI-compatible providers at http://HOST:PORT/NAME/v1, until SIGTERM or Ctrl-C.

    GET /control/requests lists the requests of each provider.
    PATCH /control/providers/NAME changes the behavior of one.

    Example: assay simulate

    Example: assay simulate --http 127.0.0.1:7340 --providers simulated.yaml --seed 7
    """
    if http.startswith("unix:"):
        raise BadAddress(http)
    host, _, port = check_address(http).rpartition(":")
    settings = _read(providers) if providers else SimulationSettings()
    if seed is not None:
        settings = msgspec.structs.replace(settings, seed=seed)
    configure_logs(logging.INFO)
    try:
        listening = listen(host.removeprefix("[").removesuffix("]"), int(port))
    except OSError as error:
        raise CannotListen(http, error.strerror or str(error)) from error
    with listening:
        address = f"{http.rpartition(':')[0]}:{listening.getsockname()[1]}"
        serve(settings, listening, lambda: log.info("simulating", http=address))
    log.info("stopped")


def _read(path: Path) -> SimulationSettings:
    """Read the file; raise BadSimulationFile."""
    try:
        return read_settings(path)
    except OSError as error:
        raise BadSimulationFile(path, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadSimulationFile(path, str(error)) from error
