"""`assay simulate`: simulated providers, for the demo and for tests."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
from cyclopts import Parameter

from assay.cli.output import configure_logs
from assay.engine.errors import AuthorError, quoted
from assay.rpc.address import BadAddress, CannotListen, checked
from assay.simulate.behavior import SimulationSettings, read_settings
from assay.simulate.server import listening, perform

PATH = 4096  # characters of a path that are shown: its end is what tells
log = structlog.get_logger("assay.simulate")

Http = Annotated[str, Parameter(help="Where to listen: HOST:PORT on loopback.")]
Providers = Annotated[
    Path | None,
    Parameter(
        help="YAML file of how each provider behaves; without it every name plays, faultlessly."
    ),
]
Seed = Annotated[
    int | None, Parameter(help="What chance starts from; takes the place of the file's.")
]


class BadCast(AuthorError):
    """A file of simulated providers that cannot be played."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{quoted(str(path), PATH)}: {' '.join(why.split())}")


def simulate_command(
    *, http: Http = "127.0.0.1:7340", providers: Providers = None, seed: Seed = None
) -> None:
    """Play OpenAI-compatible providers at http://HOST:PORT/NAME/v1, until SIGTERM or Ctrl-C.

    GET /control/requests shows what each one saw; PATCH /control/providers/NAME changes how one behaves.

    Example: assay simulate

    Example: assay simulate --http 127.0.0.1:7340 --providers simulated.yaml --seed 7
    """
    host, port = address(http)
    cast = read(providers) if providers else SimulationSettings()
    configure_logs(logging.INFO)
    try:
        taken = listening(host, port)
    except OSError as error:
        raise CannotListen(http, error.strerror or str(error)) from error
    with taken:
        log.info("simulating", http=f"{http.rpartition(':')[0]}:{taken.getsockname()[1]}")
        perform(cast if seed is None else msgspec.structs.replace(cast, seed=seed), taken)
    log.info("stopped")


def address(http: str) -> tuple[str, int]:
    """Host and port of an address that only this machine reaches; raises BadAddress, PlaintextRefused."""
    if http.startswith("unix:"):
        raise BadAddress(http)
    host, _, port = checked(http).rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def read(path: Path) -> SimulationSettings:
    """The file's content; raises BadCast."""
    try:
        return read_settings(path)
    except OSError as error:
        raise BadCast(path, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadCast(path, str(error)) from error
