"""What commands print: tables for people, JSON for programs, colours only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import orjson
import structlog
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table


def configure_logs(level: int) -> None:
    """Log from this level on."""
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


Item = TypeVar("Item")
COLUMNS = ("{task.description}", "{task.completed:,}")


def counted(items: Iterable[Item], words: str) -> Iterator[Item]:
    """The items as they are, counted on the terminal while somebody takes them."""
    if not errors.is_terminal:
        yield from items
        return
    columns = (SpinnerColumn(), *map(TextColumn, COLUMNS), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task(escape(words), total=None)
        for item in items:
            yield item
            progress.advance(task)


PIPED_WIDTH = 160
console = Console(soft_wrap=True, highlight=False)
piped = Console(soft_wrap=True, highlight=False, width=PIPED_WIDTH)
errors = Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    whole: Sequence[str] = (),
) -> None:
    """A table with a title; cells are shown as they are, whatever they hold, those of `whole` columns on one line."""
    table = Table(
        title=escape(title), title_justify="left", header_style="bold", box=None, pad_edge=False
    )
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in whole)
    for row in rows:
        table.add_row(*(escape("" if cell is None else str(cell)) for cell in row))
    (console if console.is_terminal else piped).print(table, soft_wrap=False)


class Reasoned(Protocol):
    """What a rule said, in whichever form it came."""

    @property
    def reason(self) -> str:
        """Code from the closed list."""

    @property
    def message(self) -> str:
        """One sentence."""


def said(findings: Iterable[Reasoned]) -> list[tuple[str, str]]:
    """Reason and message of each finding; rules that say the same are told once."""
    return list(dict.fromkeys((finding.reason, finding.message) for finding in findings))


def fail(message: str) -> None:
    """One line on standard error."""
    errors.print(f"[bold red]assay:[/] {escape(message)}")
