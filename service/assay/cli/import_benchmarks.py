"""`assay import benchmarks|inspect|tau2`: scores of endpoints, as evidence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from sqlalchemy import Engine

from assay.cli.importing import Files, named, run
from assay.cli.options import DatabaseUrl, Json
from assay.engine.errors import BadData
from assay.importers.benchmarks import read_benchmarks
from assay.importers.documents import ImportReport
from assay.importers.inspect import read_inspect
from assay.importers.tau2 import read_tau2
from assay.server.settings import wall_clock
from assay.store.imports.benchmarks import apply_benchmarks

RESULTS, SIMULATIONS = "results.json", "simulations"
LARGEST = 256 * 1024 * 1024

Endpoint = Annotated[
    str | None,
    Parameter(
        help="The endpoint that was measured, where the files do not say; they may not deny it."
    ),
]
Source = Annotated[
    str | None, Parameter(help="Who says so; what a source says again revises what it said.")
]


def benchmarks_command(
    files: Files,
    *,
    endpoint: Endpoint = None,
    source: Source = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Import tables of scores: CSV with model, provider, suite, score, unit, run_at and more.

    The source is --source, else the table's own column, else the file's name.

    Example: assay import benchmarks provider_benchmarks.csv
    """
    said = None if source is None else named(source, "")

    def take(database: Engine, path: Path, data: bytes) -> ImportReport:
        document = read_benchmarks(
            data, source=path.name.partition(".")[0] or path.name, named=said
        )
        return apply_benchmarks(database, document, endpoint=endpoint, now=wall_clock())

    return run(files, url, take, json=json)


def inspect_command(
    files: Files,
    *,
    endpoint: Endpoint = None,
    source: Source = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Import logs of Inspect AI, .eval or JSON: OpenBench's LiveMCPBench and any other task.

    Runs that were pinned to one provider through OpenRouter name their endpoint; any other needs --endpoint.

    Example: assay import inspect logs/livemcpbench.eval
    """
    said = named(source, "inspect")

    def take(database: Engine, _path: Path, data: bytes) -> ImportReport:
        return apply_benchmarks(
            database, read_inspect(data, source=said), endpoint=endpoint, now=wall_clock()
        )

    return run(files, url, take, json=json)


def tau2_command(
    files: Files,
    *,
    endpoint: Endpoint = None,
    source: Source = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Import results of tau2-bench (a file, or the directory with results.json) and submissions to its leaderboard.

    None of them names an endpoint, so --endpoint has to.

    Example: assay import tau2 results.json --endpoint moonshotai/kimi-k2-0905@groq
    """
    said = named(source, "tau2")

    def take(database: Engine, path: Path, data: bytes) -> ImportReport:
        document = read_tau2(data, simulations_of(path), source=said)
        return apply_benchmarks(database, document, endpoint=endpoint, now=wall_clock())

    return run(files, url, take, json=json, read=read_results)


def read_results(path: Path) -> bytes:
    """Read the results file, which the directory form holds under a fixed name."""
    return (path / RESULTS if path.is_dir() else path).read_bytes()


def simulations_of(path: Path) -> Iterator[tuple[str, bytes]] | None:
    """The simulation files of the directory form by name, one after the other; `None` where it is one file."""
    if not path.is_dir() and path.name != RESULTS:
        return None
    directory = (path if path.is_dir() else path.parent) / SIMULATIONS
    return simulation_files(directory) if path.is_dir() or directory.is_dir() else None


def simulation_files(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Read files that lie in the directory itself: links may lead anywhere and are refused."""
    for path in sorted(directory.glob("*.json")):
        if path.is_symlink() or not path.is_file():
            raise BadData(f"{SIMULATIONS}/{path.name}: not a plain file")
        if path.stat().st_size > LARGEST:
            raise BadData(f"{SIMULATIONS}/{path.name}: holds more than {LARGEST} bytes")
        yield path.name, path.read_bytes()
