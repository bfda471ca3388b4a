"""The import of files, one transaction each, and the report of all imports at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from assay.cli.output import console, errors, print_json, print_table
from assay.engine.errors import BadData, InvalidField, quoted
from assay.engine.world.request import check_text
from assay.importers.documents import ImportCounts, ImportReport
from assay.server.database import open_current_database

_MOST_SHOWN = 20
Files = Annotated[list[Path], Parameter(help="One or more files; each is one transaction.")]


def choose_source(source: str | None, default: str) -> str:
    """Return the name of the source; raise InvalidField if the given one is not valid."""
    if source is None:
        return default
    if not source:
        raise InvalidField("--source", source, "a name")
    check_text("--source", source)
    return source


def import_files(
    files: Sequence[Path],
    url: str | None,
    take: Callable[[Engine, Path, bytes], ImportReport],
    *,
    json: bool,
    read: Callable[[Path], bytes] = Path.read_bytes,
) -> int:
    """Import each file and report the result; return 3 if any item was rejected, else 0."""
    reports: list[tuple[Path, ImportReport]] = []
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    try:
        with open_current_database(url) as database, progress:
            for path in files:
                task = progress.add_task(f"importing {escape(path.name)}")
                reports.append(
                    (path, _import_file(path, lambda path: take(database, path, read(path))))
                )
                progress.remove_task(task)
    finally:  # files before a faulty one are in the database, so report them
        _print_reports(reports, json=json)
    return 3 if any(report.rejected for _, report in reports) else 0


def _import_file(path: Path, take: Callable[[Path], ImportReport]) -> ImportReport:
    """Import one file; raise BadData with its name."""
    try:
        return take(path)
    except OSError as error:
        raise BadData(f"file {quoted(str(path))}: {error.strerror}") from error
    except BadData as error:
        raise BadData(f"file {quoted(str(path))}: {error}") from error


def _print_reports(reports: Sequence[tuple[Path, ImportReport]], *, json: bool) -> None:
    """Print the results of the imports."""
    if json and reports:
        print_json([_report_json(path, report) for path, report in reports])
    elif not json:
        for path, report in reports:
            _print_report(path, report)


def _report_json(path: Path, report: ImportReport) -> dict[str, object]:
    """Return the JSON form of one report: counts and names."""
    return {
        "file": str(path),
        "source": report.source,
        **{
            kind: {
                "total": _total_of(tally),
                "added": list(tally.added),
                "changed": list(tally.changed),
                "gone": list(tally.gone),
                "unchanged": tally.unchanged,
            }
            for kind, tally in report.counts.items()
        },
        "refused": [{"where": r.where, "reason": r.reason} for r in report.rejected],
    }


def _total_of(tally: ImportCounts) -> int:
    """Return how many items the file lists."""
    return len(tally.added) + len(tally.changed) + tally.unchanged


def _print_report(path: Path, report: ImportReport) -> None:
    """Print one report as tables."""
    rows = [
        (kind, _total_of(t), len(t.added), len(t.changed), len(t.gone), t.unchanged)
        for kind, t in report.counts.items()
    ]
    title = f"{path.name} from {report.source}" if report.source else path.name
    print_table(title, ("", "listed", "added", "changed", "gone", "unchanged"), rows)
    if report.rejected:
        print_table(
            f"{len(report.rejected)} rejected",
            ("where", "reason"),
            [(r.where, r.reason) for r in report.rejected[:_MOST_SHOWN]],
        )
        if len(report.rejected) > _MOST_SHOWN:
            console.print(f"… and {len(report.rejected) - _MOST_SHOWN} more; --json lists all")
