"""Benchmark runs as rows and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from assay.engine.benchmark import BenchmarkRun, Series, rank
from assay.store.benchmark_tables import benchmark_run, current

if TYPE_CHECKING:
    from collections.abc import Container

    from sqlalchemy import Row

    from assay.store.rows import Cells

SERIES = {"suite": "suite", "version": "suite_version", "judge": "judge", "metric": "metric", "unit": "unit"}
"""Field of a series → column."""

FIGURES = (
    "endpoint_id", "source", "run", "score", "run_at", "tasks_total", "tasks_completed", "trials", "source_revision",
)  # fmt: skip


def run_cells(run: BenchmarkRun) -> Cells:
    """Spell a run as columns."""
    figures: Cells = {name: getattr(run, name) for name in FIGURES}
    return figures | {column: getattr(run.series, name) for name, column in SERIES.items()}


def run_of(row: Row[Any]) -> BenchmarkRun:
    """Read a run."""
    series = Series(**{name: getattr(row, column) for name, column in SERIES.items()})
    return BenchmarkRun(series=series, **{name: getattr(row, name) for name in FIGURES})


def benchmark_runs(connection: Connection, endpoints: Container[str]) -> tuple[BenchmarkRun, ...]:
    """Read the runs that hold now of endpoints that are there."""
    runs = (run_of(row) for row in connection.execute(select(benchmark_run).where(current)))
    kept = (run for run in runs if run.endpoint_id in endpoints)
    return tuple(sorted(kept, key=lambda run: (run.endpoint_id, run.series, *rank(run))))
