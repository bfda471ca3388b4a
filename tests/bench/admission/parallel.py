"""Many worlds on two processes, with progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Final, TypeVar

PROCESSES: Final = 2
Task = TypeVar("Task")
Found = TypeVar("Found")


def simulate(run: Callable[[Task], Found], tasks: Sequence[Task]) -> Iterator[tuple[Task, Found]]:
    """Yield each task with its result, as soon as it is there."""
    with ProcessPoolExecutor(PROCESSES) as processes:
        futures = {processes.submit(run, task): task for task in tasks}
        for done, future in enumerate(as_completed(futures), 1):
            sys.stderr.write(f"\r{done} of {len(tasks)} worlds ")
            yield futures[future], future.result()
    sys.stderr.write("\n")
