"""Output of commands: tables for people, JSON for programs, logs; colors only on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import orjson
import structlog
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from assay.engine.policy.verdict import RuleFinding
from assay.v1 import routing_pb2 as pb

Item = TypeVar("Item")
COLUMNS = ("{task.description}", "{task.completed:,}")
PIPED_WIDTH = 160
console = Console(soft_wrap=True, highlight=False, markup=False)
piped = Console(soft_wrap=True, highlight=False, markup=False, width=PIPED_WIDTH)
errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def configure_logs(level: int) -> None:
    """Write log records of this level and above to standard error."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=True)
            if terminal
            else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # What psycopg says beside its exceptions would be bare text between our lines.
    logging.getLogger("psycopg").handlers = [_DriverLines()]


class _DriverLines(logging.Handler):
    """Writes what the database driver logs as lines of our log."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger(record.name).log(record.levelno, record.getMessage())


def counted(items: Iterable[Item], words: str) -> Iterator[Item]:
    """Yield the items unchanged; show on a terminal how many were consumed."""
    if not errors.is_terminal:
        yield from items
        return
    columns = (SpinnerColumn(), *map(TextColumn, COLUMNS), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task(escape(words), total=None)
        for item in items:
            yield item
            progress.advance(task)


def print_json(value: object) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    whole: Sequence[str] = (),
) -> None:
    """Print a table; `whole` columns are not wrapped."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in whole)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    (console if console.is_terminal else piped).print(table, soft_wrap=False)


def unique_reasons(findings: Iterable[RuleFinding | pb.Finding]) -> list[tuple[str, str]]:
    """Return reason and message of each finding, without duplicates."""
    return list(dict.fromkeys((finding.reason, finding.message) for finding in findings))


def reason_rows(
    excluded: Iterable[tuple[str, Iterable[tuple[str, str]]]],
) -> list[tuple[str, str, str]]:
    """Return a row per reason, without duplicates; an endpoint's first row names the endpoint."""
    rows: list[tuple[str, str, str]] = []
    for endpoint, reasons in excluded:
        for place, (reason, message) in enumerate(dict.fromkeys(reasons)):
            rows.append(("" if place else endpoint, reason, message))
    return rows


def utc(time: datetime) -> str:
    """Return a time as ISO 8601 in UTC, with microseconds if it has any."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def fail(message: str) -> None:
    """Write one line to standard error."""
    errors.print(f"[bold red]assay:[/] {escape(message)}", markup=True)
