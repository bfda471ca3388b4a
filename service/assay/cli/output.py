"""What commands print: tables for people, JSON for programs, colours only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Protocol

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPED_WIDTH = 160
console = Console(soft_wrap=True, highlight=False)
piped = Console(soft_wrap=True, highlight=False, width=PIPED_WIDTH)
errors = Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, whole: Sequence[str] = ()
) -> None:
    """A table with a title; cells are shown as they are, whatever they hold, those of `whole` columns on one line."""
    table = Table(title=escape(title), title_justify="left", header_style="bold", box=None, pad_edge=False)
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
