"""Progress of long work, on standard error and for terminals only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from assay.cli.output import errors

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
