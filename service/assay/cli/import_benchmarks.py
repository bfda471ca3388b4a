"""The commands `assay import benchmarks`, `inspect` and `tau2`: scores of endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from sqlalchemy import Engine

from assay.cli.importing import Files, choose_source, import_files
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
        help="The id of the measured endpoint, if the files do not identify it; "
        "scores of files that contradict it are rejected."
    ),
]
Source = Annotated[
    str | None,
    Parameter(help="The name of the source; a newer score of the same source revises the older."),
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

    The source is --source; otherwise the table's own column, otherwise the file's name.

    Example: assay import benchmarks provider_benchmarks.csv
    """
    chosen_source = None if source is None else choose_source(source, "")

    def take(database: Engine, path: Path, data: bytes) -> ImportReport:
        document = read_benchmarks(
            data, source=path.name.partition(".")[0] or path.name, named=chosen_source
        )
        return apply_benchmarks(database, document, endpoint=endpoint, now=wall_clock())

    return import_files(files, url, take, json=json)


def inspect_command(
    files: Files,
    *,
    endpoint: Endpoint = None,
    source: Source = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Import logs of Inspect AI (.eval or JSON), such as those of OpenBench's LiveMCPBench.

    A run that was pinned to one provider through OpenRouter identifies its endpoint; any other
    needs --endpoint.

    Example: assay import inspect logs/livemcpbench.eval
    """
    chosen_source = choose_source(source, "inspect")

    def take(database: Engine, _path: Path, data: bytes) -> ImportReport:
        return apply_benchmarks(
            database, read_inspect(data, source=chosen_source), endpoint=endpoint, now=wall_clock()
        )

    return import_files(files, url, take, json=json)


def tau2_command(
    files: Files,
    *,
    endpoint: Endpoint = None,
    source: Source = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Import results of tau2-bench and submissions to its leaderboard.

    Results are a file, or the directory with results.json. Neither results nor submissions name an
    endpoint, so --endpoint is required.

    Example: assay import tau2 results.json --endpoint moonshotai/kimi-k2-0905@groq
    """
    chosen_source = choose_source(source, "tau2")

    def take(database: Engine, path: Path, data: bytes) -> ImportReport:
        document = read_tau2(data, _simulations_of(path), source=chosen_source)
        return apply_benchmarks(database, document, endpoint=endpoint, now=wall_clock())

    return import_files(files, url, take, json=json, read=_read_results)


def _read_results(path: Path) -> bytes:
    """Read the results file, which has a fixed name in a directory."""
    return (path / RESULTS if path.is_dir() else path).read_bytes()


def _simulations_of(path: Path) -> Iterator[tuple[str, bytes]] | None:
    """Return the simulation files of a results directory, or `None` for a single file."""
    if not path.is_dir() and path.name != RESULTS:
        return None
    directory = (path if path.is_dir() else path.parent) / SIMULATIONS
    return _simulation_files(directory) if path.is_dir() or directory.is_dir() else None


def _simulation_files(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each file of the directory with its name; reject links, which may lead anywhere."""
    for path in sorted(directory.glob("*.json")):
        if path.is_symlink() or not path.is_file():
            raise BadData(f"{SIMULATIONS}/{path.name}: not a plain file")
        if path.stat().st_size > LARGEST:
            raise BadData(f"{SIMULATIONS}/{path.name}: holds more than {LARGEST} bytes")
        yield path.name, path.read_bytes()
