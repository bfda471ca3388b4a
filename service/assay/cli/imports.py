"""The `assay import` commands: each imports files into the database, one transaction per file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import console, errors, print_json, print_table
from assay.engine.errors import BadData, InvalidField, quoted
from assay.engine.world.request import check_text
from assay.importers.benchmarks import read_benchmarks
from assay.importers.catalog_csv import read_catalog
from assay.importers.documents import BenchmarkDocument, CatalogDocument, ImportReport
from assay.importers.inspect import read_inspect
from assay.importers.observations import read_observations
from assay.importers.openrouter import read_openrouter
from assay.importers.preferences import read_preferences
from assay.importers.tau2 import read_tau2
from assay.importers.tenants import read_tenants
from assay.server.database import open_current_database
from assay.server.settings import wall_clock
from assay.store.imports.benchmarks import apply_benchmarks
from assay.store.imports.catalog import apply_catalog
from assay.store.imports.observations import apply_observations
from assay.store.imports.tenants import apply_preferences, apply_tenants

_DATED = re.compile(r"[_-]?\d{4}-\d{2}-\d{2}.*$")
_RESULTS, _SIMULATIONS = "results.json", "simulations"
_LARGEST = 256 * 1024 * 1024  # bytes of a simulation
_MOST_SHOWN = 20

Files = Annotated[list[Path], Parameter(help="One or more files; each is one transaction.")]
CatalogSource = Annotated[
    str | None,
    Parameter(help="The name of the source; items that it no longer lists are marked as gone."),
]
ScoreSource = Annotated[
    str | None,
    Parameter(help="The name of the source; a newer score of the same source revises the older."),
]
Endpoint = Annotated[
    str | None,
    Parameter(
        help="The id of the measured endpoint, if the files do not identify it; "
        "scores of files that contradict it are rejected."
    ),
]
Document = TypeVar("Document")


def catalog(
    files: Files, *, source: CatalogSource = None, url: DatabaseUrl = None, json: Json = False
) -> int:
    """Import a catalog in Assay's CSV format.

    The default source is the file's name without its date.

    Example: assay import catalog endpoints_2026-07-04.csv --source openrouter
    """

    def read(path: Path) -> CatalogDocument:
        undated = _DATED.sub("", path.name.partition(".")[0]) or path.stem
        return read_catalog(path.read_bytes(), source=_choose_source(source, undated))

    return _import_files(files, read, apply_catalog, url=url, json=json)


def openrouter(
    files: Files, *, source: CatalogSource = None, url: DatabaseUrl = None, json: Json = False
) -> int:
    """Import a snapshot of OpenRouter's catalog, JSON or gzip.

    Example: assay import openrouter openrouter_2026-07-04T140407.json.gz
    """

    def read(path: Path) -> CatalogDocument:
        return read_openrouter(path.read_bytes(), source=_choose_source(source, "openrouter"))

    return _import_files(files, read, apply_catalog, url=url, json=json)


def observations(
    files: Files,
    *,
    create_endpoints: Annotated[
        bool, Parameter(help="Create models and endpoints that no catalog lists.")
    ] = False,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Import counts of tool calls by endpoint and time window.

    Example: assay import observations --create-endpoints kimi-k2-0905_2025-09-22.csv
    """
    apply = partial(apply_observations, create_endpoints=create_endpoints)
    return _import_files(files, _reader(read_observations), apply, url=url, json=json)


def preferences(files: Files, *, url: DatabaseUrl = None, json: Json = False) -> int:
    """Import tenants' standing pins and ignores: CSV with tenant, kind, target and model.

    Example: assay import preferences preferences.csv
    """
    return _import_files(files, _reader(read_preferences), apply_preferences, url=url, json=json)


def tenants(files: Files, *, url: DatabaseUrl = None, json: Json = False) -> int:
    """Import tenant settings: YAML with the keys of each tenant.

    The keys are tenant, only, ignore, zdr, deny_data_collection and affiliated_provider.

    Example: assay import tenants tenants.yaml
    """
    return _import_files(files, _reader(read_tenants), apply_tenants, url=url, json=json)


def benchmarks(
    files: Files,
    *,
    endpoint: Endpoint = None,
    source: ScoreSource = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Import tables of scores: CSV with model, provider, suite, score, unit, run_at and more.

    The source is --source; otherwise the table's own column, otherwise the file's name.

    Example: assay import benchmarks provider_benchmarks.csv
    """
    named = None if source is None else _choose_source(source, "")

    def read(path: Path) -> BenchmarkDocument:
        file = path.name.partition(".")[0] or path.name
        return read_benchmarks(path.read_bytes(), source=file, named=named)

    apply = partial(apply_benchmarks, endpoint=endpoint)
    return _import_files(files, read, apply, url=url, json=json)


def inspect(
    files: Files,
    *,
    endpoint: Endpoint = None,
    source: ScoreSource = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Import logs of Inspect AI (.eval or JSON), such as those of OpenBench's LiveMCPBench.

    A run that was pinned to one provider through OpenRouter identifies its endpoint; any other
    needs --endpoint.

    Example: assay import inspect logs/livemcpbench.eval
    """
    read = _reader(partial(read_inspect, source=_choose_source(source, "inspect")))
    apply = partial(apply_benchmarks, endpoint=endpoint)
    return _import_files(files, read, apply, url=url, json=json)


def tau2(
    files: Files,
    *,
    endpoint: Endpoint = None,
    source: ScoreSource = None,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Import results of tau2-bench and submissions to its leaderboard.

    Results are a file, or the directory with results.json. Neither results nor submissions name an
    endpoint, so --endpoint is required.

    Example: assay import tau2 results.json --endpoint moonshotai/kimi-k2-0905@groq
    """
    chosen_source = _choose_source(source, "tau2")

    def read(path: Path) -> BenchmarkDocument:
        results = path / _RESULTS if path.is_dir() else path
        return read_tau2(results.read_bytes(), _simulations_of(path), source=chosen_source)

    apply = partial(apply_benchmarks, endpoint=endpoint)
    return _import_files(files, read, apply, url=url, json=json)


def _choose_source(source: str | None, default: str) -> str:
    """Return the name of the source; raise InvalidField if the given one is not valid."""
    if source is None:
        return default
    if not source:
        raise InvalidField("--source", source, "a name")
    check_text("--source", source)
    return source


def _reader(read: Callable[[bytes], Document]) -> Callable[[Path], Document]:
    return lambda path: read(path.read_bytes())


def _simulations_of(path: Path) -> Iterator[tuple[str, bytes]] | None:
    """Return the simulation files of a results directory, or `None` for a single file."""
    if not path.is_dir() and path.name != _RESULTS:
        return None
    directory = (path if path.is_dir() else path.parent) / _SIMULATIONS
    return _simulation_files(directory) if path.is_dir() or directory.is_dir() else None


def _simulation_files(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each file of the directory with its name; reject links, which may lead anywhere."""
    for path in sorted(directory.glob("*.json")):
        if path.is_symlink() or not path.is_file():
            raise BadData(f"{_SIMULATIONS}/{path.name}: not a plain file")
        if path.stat().st_size > _LARGEST:
            raise BadData(f"{_SIMULATIONS}/{path.name}: holds more than {_LARGEST} bytes")
        yield path.name, path.read_bytes()


def _import_files(
    files: Sequence[Path],
    read: Callable[[Path], Document],
    apply: Callable[..., ImportReport],
    *,
    url: str | None,
    json: bool,
) -> int:
    """Import each file and report the result; return 3 if any item was rejected, else 0."""
    reports: list[tuple[Path, ImportReport]] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    progress = Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)
    try:
        with open_current_database(url) as database, progress:
            for path in files:
                task = progress.add_task(f"importing {escape(path.name)}")
                try:
                    report = apply(database, read(path), now=wall_clock())
                except OSError as error:
                    raise BadData(f"file {quoted(str(path))}: {error.strerror}") from error
                except BadData as error:
                    raise BadData(f"file {quoted(str(path))}: {error}") from error
                reports.append((path, report))
                progress.remove_task(task)
    finally:  # files before a faulty one are in the database, so report them
        if json and reports:
            print_json([_report_json(path, report) for path, report in reports])
        elif not json:
            for path, report in reports:
                _print_report(path, report)
    return 3 if any(report.rejected for _, report in reports) else 0


def _report_json(path: Path, report: ImportReport) -> dict[str, object]:
    """Return the JSON form of one report: counts and names."""
    return {
        "file": str(path),
        "source": report.source,
        **{
            kind: {
                "total": tally.total,
                "added": list(tally.added),
                "changed": list(tally.changed),
                "gone": list(tally.gone),
                "unchanged": tally.unchanged,
            }
            for kind, tally in report.counts.items()
        },
        "refused": [{"where": r.where, "reason": r.reason} for r in report.rejected],
    }


def _print_report(path: Path, report: ImportReport) -> None:
    """Print one report as tables."""
    rows = [
        (kind, t.total, len(t.added), len(t.changed), len(t.gone), t.unchanged)
        for kind, t in report.counts.items()
    ]
    title = f"{path.name} from {report.source}" if report.source else path.name
    print_table(title, ("", "listed", "added", "changed", "gone", "unchanged"), rows)
    if report.rejected:
        shown = [(r.where, r.reason) for r in report.rejected[:_MOST_SHOWN]]
        print_table(f"{len(report.rejected)} rejected", ("where", "reason"), shown)
        if len(report.rejected) > _MOST_SHOWN:
            console.print(f"… and {len(report.rejected) - _MOST_SHOWN} more; --json lists all")
