"""The table of benchmark runs: every revision of every run; the current one is not superseded."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    Row,
    Table,
    Text,
    select,
)

from assay.engine.evidence.benchmarks import run_order
from assay.engine.world.measurements import BenchmarkRun, Series
from assay.store.rows import Cells
from assay.store.tables import metadata
from assay.store.types import NAME, UtcTime

IDENTITY = ("endpoint_id", "source", "suite", "suite_version", "judge", "metric", "run")
"""The columns that identify a run across files; its unit may be corrected like any other figure."""

benchmark_run = Table(
    "benchmark_run",
    metadata,
    Column("endpoint_id", NAME, primary_key=True),
    Column("source", NAME, primary_key=True),
    Column("suite", NAME, primary_key=True),
    Column("suite_version", NAME, primary_key=True),
    Column("judge", NAME, primary_key=True),
    Column("metric", NAME, primary_key=True),
    Column("run", NAME, primary_key=True),  # empty if the source keeps one figure
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("unit", NAME, nullable=False),
    Column("score", Double, nullable=False),
    Column("run_at", UtcTime, nullable=False),
    Column("tasks_total", BigInteger),
    Column("tasks_completed", BigInteger),
    Column("trials", Integer),
    Column("source_revision", Text),
    Column("imported_at", UtcTime, nullable=False),
    Column("superseded_at", UtcTime),
    CheckConstraint(
        "unit = 'fraction' AND score BETWEEN 0 AND 1 "
        "OR unit = 'percent' AND score BETWEEN 0 AND 100 "
        "OR unit = 'number' AND score BETWEEN -1e12 AND 1e12",
        name="score",
    ),
    CheckConstraint("0 <= tasks_completed AND tasks_completed <= tasks_total", name="tasks"),
)
current = benchmark_run.c.superseded_at.is_(None)
Index(
    "uq_benchmark_run_current",
    *(benchmark_run.c[name] for name in IDENTITY),
    unique=True,
    sqlite_where=current,
    postgresql_where=current,
)

_SERIES = {
    "suite": "suite",
    "version": "suite_version",
    "judge": "judge",
    "metric": "metric",
    "unit": "unit",
}
"""Field of a series → column."""

_FIGURES = (
    "endpoint_id", "source", "run", "score", "run_at", "tasks_total", "tasks_completed", "trials",
    "source_revision",
)  # fmt: skip


def run_cells(run: BenchmarkRun) -> Cells:
    """Return a run as columns."""
    figures: Cells = {name: getattr(run, name) for name in _FIGURES}
    return figures | {column: getattr(run.series, name) for name, column in _SERIES.items()}


def run_of(row: Row[Any]) -> BenchmarkRun:
    """Read a run from its row."""
    series = Series(**{name: getattr(row, column) for name, column in _SERIES.items()})
    return BenchmarkRun(series=series, **{name: getattr(row, name) for name in _FIGURES})


def benchmark_runs(connection: Connection, endpoints: Container[str]) -> tuple[BenchmarkRun, ...]:
    """Read the current runs of these endpoints."""
    runs = [run_of(row) for row in connection.execute(select(benchmark_run).where(current))]
    known = [run for run in runs if run.endpoint_id in endpoints]
    known.sort(key=lambda run: (run.endpoint_id, run.series, *run_order(run)))
    return tuple(known)
