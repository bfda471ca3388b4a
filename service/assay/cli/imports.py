"""`assay import …`: files into the database, one transaction each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from assay.cli.options import Database, Json
from assay.cli.output import console, errors, print_json, print_table
from assay.engine.document import ImportReport, Tally
from assay.engine.errors import BadData, InvalidField, quoted
from assay.engine.request import text
from assay.importers.catalog_csv import read_catalog
from assay.importers.observations import read_observations
from assay.importers.openrouter import read_openrouter
from assay.importers.preferences import read_preferences
from assay.importers.tenants import read_tenants
from assay.store.imports.catalog import apply_catalog
from assay.store.imports.observations import apply_observations
from assay.store.imports.tenants import apply_preferences, apply_tenants
from assay.wiring import open_database, wall_clock

SHOWN = 20
DATED = re.compile(r"[_-]?\d{4}-\d{2}-\d{2}.*$")
Files = Annotated[list[Path], Parameter(help="One or more files; each is one transaction.")]
Source = Annotated[str | None, Parameter(help="Who says so; what this source no longer lists is marked as gone.")]

imports = cyclopts.App(name="import", help="Read files into the database.")


@imports.command(name="catalog")
def catalog(files: Files, *, source: Source = None, database: Database = None, json: Json = False) -> int:
    """Import our neutral catalog CSV. The source is by default the file's name without its date.

    Example: assay import catalog endpoints_2026-07-04.csv --source openrouter
    """

    def take(engine: Engine, path: Path, data: bytes) -> ImportReport:
        undated = DATED.sub("", path.name.partition(".")[0]) or path.stem
        return apply_catalog(engine, read_catalog(data, source=named(source, undated)), now=wall_clock())

    return run(files, database, take, json=json)


@imports.command(name="openrouter")
def openrouter(files: Files, *, source: Source = None, database: Database = None, json: Json = False) -> int:
    """Import a snapshot of OpenRouter's catalog, JSON or gzip.

    Example: assay import openrouter openrouter_2026-07-04T140407.json.gz
    """

    def take(engine: Engine, _path: Path, data: bytes) -> ImportReport:
        return apply_catalog(engine, read_openrouter(data, source=named(source, "openrouter")), now=wall_clock())

    return run(files, database, take, json=json)


@imports.command(name="observations")
def observations(
    files: Files,
    *,
    create_endpoints: Annotated[
        bool, Parameter(negative="", help="Create models and endpoints that the catalog does not know.")
    ] = False,
    database: Database = None,
    json: Json = False,
) -> int:
    """Import counts of tool calls per endpoint and window.

    Example: assay import observations --create-endpoints kimi-k2-0905_2025-09-22.csv
    """

    def take(engine: Engine, _path: Path, data: bytes) -> ImportReport:
        return apply_observations(engine, read_observations(data), create_endpoints=create_endpoints, now=wall_clock())

    return run(files, database, take, json=json)


@imports.command(name="preferences")
def preferences(files: Files, *, database: Database = None, json: Json = False) -> int:
    """Import tenants' standing pins and ignores: CSV with tenant, kind, target, model.

    Example: assay import preferences preferences.csv
    """

    def take(engine: Engine, _path: Path, data: bytes) -> ImportReport:
        return apply_preferences(engine, read_preferences(data), now=wall_clock())

    return run(files, database, take, json=json)


@imports.command(name="tenants")
def tenants(files: Files, *, database: Database = None, json: Json = False) -> int:
    """Import what the operator allows tenants: YAML with only, ignore, zdr, deny_data_collection.

    Example: assay import tenants tenants.yaml
    """

    def take(engine: Engine, _path: Path, data: bytes) -> ImportReport:
        return apply_tenants(engine, read_tenants(data), now=wall_clock())

    return run(files, database, take, json=json)


def named(source: str | None, default: str) -> str:
    """The source to import under; raises InvalidField where the given one is no name."""
    if source is None:
        return default
    if not source:
        raise InvalidField("--source", source, "a name")
    text("--source", source)
    return source


def run(
    files: Sequence[Path], database: str | None, take: Callable[[Engine, Path, bytes], ImportReport], *, json: bool
) -> int:
    """Import each file and say what it did; 3 where anything was refused."""
    reports: list[tuple[Path, ImportReport]] = []
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=errors, transient=True,
        disable=not errors.is_terminal,
    )  # fmt: skip
    try:
        with open_database(database) as engine, progress:
            for path in files:
                task = progress.add_task(f"importing {escape(path.name)}")
                reports.append((path, taken(engine, path, take)))
                progress.remove_task(task)
    finally:  # what came before a faulty file is in the database, and is told
        tell(reports, json=json)
    return 3 if any(report.refused for _, report in reports) else 0


def taken(engine: Engine, path: Path, take: Callable[[Engine, Path, bytes], ImportReport]) -> ImportReport:
    """Import one file; raises BadData naming it."""
    try:
        return take(engine, path, path.read_bytes())
    except OSError as error:
        raise BadData(f"file {quoted(str(path))}: {error.strerror}") from error
    except BadData as error:
        raise BadData(f"file {quoted(str(path))}: {error}") from error


def tell(reports: Sequence[tuple[Path, ImportReport]], *, json: bool) -> None:
    """Say what the imports did."""
    if json and reports:
        print_json([as_json(path, report) for path, report in reports])
    elif not json:
        for path, report in reports:
            show(path, report)


def as_json(path: Path, report: ImportReport) -> dict[str, object]:
    """One import for programs: counts, and the names behind them."""
    return {
        "file": str(path),
        "source": report.source,
        **{
            kind: {
                "total": total(tally),
                "added": list(tally.added),
                "changed": list(tally.changed),
                "gone": list(tally.gone),
                "unchanged": tally.unchanged,
            }
            for kind, tally in report.tallies.items()
        },
        "refused": [{"where": r.where, "reason": r.reason} for r in report.refused],
    }


def total(tally: Tally) -> int:
    """How many the file lists."""
    return len(tally.added) + len(tally.changed) + tally.unchanged


def show(path: Path, report: ImportReport) -> None:
    """One import for people."""
    rows = [
        (kind, total(t), len(t.added), len(t.changed), len(t.gone), t.unchanged) for kind, t in report.tallies.items()
    ]
    title = f"{path.name} from {report.source}" if report.source else path.name
    print_table(title, ("", "listed", "added", "changed", "gone", "unchanged"), rows)
    if report.refused:
        print_table(
            f"{len(report.refused)} refused", ("where", "reason"), [(r.where, r.reason) for r in report.refused[:SHOWN]]
        )
        if len(report.refused) > SHOWN:
            console.print(f"… and {len(report.refused) - SHOWN} more; --json shows all")
