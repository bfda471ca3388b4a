"""Files into the database: each is one transaction, and what all of them did is told at the end."""

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

SHOWN = 20
Files = Annotated[list[Path], Parameter(help="One or more files; each is one transaction.")]


def named(source: str | None, default: str) -> str:
    """The source to import under; raises InvalidField where the given one is no name."""
    if source is None:
        return default
    if not source:
        raise InvalidField("--source", source, "a name")
    check_text("--source", source)
    return source


def run(
    files: Sequence[Path],
    url: str | None,
    take: Callable[[Engine, Path, bytes], ImportReport],
    *,
    json: bool,
    read: Callable[[Path], bytes] = Path.read_bytes,
) -> int:
    """Import each file and say what it did; 3 where anything was refused."""
    reports: list[tuple[Path, ImportReport]] = []
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=errors, transient=True,
        disable=not errors.is_terminal,
    )  # fmt: skip
    try:
        with open_current_database(url) as database, progress:
            for path in files:
                task = progress.add_task(f"importing {escape(path.name)}")
                reports.append((path, taken(path, lambda path: take(database, path, read(path)))))
                progress.remove_task(task)
    finally:  # what came before a faulty file is in the database, and is told
        tell(reports, json=json)
    return 3 if any(report.rejected for _, report in reports) else 0


def taken(path: Path, take: Callable[[Path], ImportReport]) -> ImportReport:
    """Import one file; raises BadData naming it."""
    try:
        return take(path)
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
            for kind, tally in report.counts.items()
        },
        "refused": [{"where": r.where, "reason": r.reason} for r in report.rejected],
    }


def total(tally: ImportCounts) -> int:
    """How many the file lists."""
    return len(tally.added) + len(tally.changed) + tally.unchanged


def show(path: Path, report: ImportReport) -> None:
    """One import for people."""
    rows = [
        (kind, total(t), len(t.added), len(t.changed), len(t.gone), t.unchanged)
        for kind, t in report.counts.items()
    ]
    title = f"{path.name} from {report.source}" if report.source else path.name
    print_table(title, ("", "listed", "added", "changed", "gone", "unchanged"), rows)
    if report.rejected:
        print_table(
            f"{len(report.rejected)} refused",
            ("where", "reason"),
            [(r.where, r.reason) for r in report.rejected[:SHOWN]],
        )
        if len(report.rejected) > SHOWN:
            console.print(f"… and {len(report.rejected) - SHOWN} more; --json shows all")
