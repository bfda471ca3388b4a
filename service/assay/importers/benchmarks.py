"""Benchmark tables: a row holds one score of one endpoint, in our form or in published tables' own.

    model,provider,tag,suite,suite_version,judge,metric,unit,score,tasks_total,tasks_completed,
    trials,run_at,run,source,source_revision

Published tables use other names for some of these columns (`_NAMES`). The default unit is
`fraction`. The provider may be a slug or the name that a catalog gives it; `tag` selects one of its
endpoints. A row without `run` is the source's only figure of its series: a later one revises it.
"""

from __future__ import annotations

from collections.abc import Hashable

from assay.engine.errors import BadData
from assay.engine.world.measurements import UNKNOWN, BenchmarkRun, Series
from assay.importers import cells, scores
from assay.importers.cells import Form
from assay.importers.documents import BenchmarkDocument, EndpointMention, ReportedRun
from assay.importers.table import CsvRow, read_table

_NAMES = {
    "benchmark": "suite",
    "score_raw": "score",
    "revision_date": "run_at",
    "source_commit": "source_revision",
}
_REQUIRED = ("model", "provider")
_OPTIONAL = (
    "tag", "source", "suite", "suite_version", "judge", "metric", "unit", "score", "tasks_total",
    "tasks_completed", "trials", "run_at", "run", "source_revision", "licence", *_NAMES,
)  # fmt: skip
_MODEL = Form(cells.MODEL.pattern, 200, "a model id such as author/slug, or its slug")


def read_benchmarks(data: bytes, *, source: str, named: str | None = None) -> BenchmarkDocument:
    """Read a table.

    `named` is the source of all rows. Without it, rows without a source get `source`.
    """

    def read_row(row: CsvRow) -> ReportedRun:
        return _read_row(_rename_columns(row), source, named)

    found = read_table(
        data,
        read_row,
        required=_REQUIRED,
        optional=_OPTIONAL,
        key_of=_key_of,
        repeated="the same endpoint, source and series",
    )
    return BenchmarkDocument(*found)


def _rename_columns(row: CsvRow) -> CsvRow:
    """Give every column its name in our form."""
    renamed: dict[str, str] = {}
    for column, cell in row.cells.items():
        name = _NAMES.get(column, column)
        if name in renamed:
            raise BadData(f"line 1: two columns state {name}")
        renamed[name] = cell
    return CsvRow(row.line, renamed)


def _key_of(reported: ReportedRun) -> Hashable:
    run = reported.run
    return reported.subject.model or "", reported.subject.pins, run.source, run.series, run.run


def _read_row(row: CsvRow, source: str, named: str | None) -> ReportedRun:
    model = row.need("model", _read_model)
    provider = row.need("provider", cells.title)
    tag = row.read("tag", cells.TAG)
    series = Series(
        suite=row.need("suite", scores.SUITE),
        version=row.read("suite_version", scores.VERSION) or UNKNOWN,
        judge=row.read("judge", cells.title) or UNKNOWN,
        metric=row.read("metric", scores.METRIC) or "score",
        unit=row.read("unit", scores.unit) or "fraction",
    )
    run = BenchmarkRun(
        endpoint_id="",
        source=named or row.read("source", cells.title) or source,
        series=series,
        score=row.need("score", lambda field, text: scores.score(field, text, series.unit)),
        run_at=row.need("run_at", scores.day),
        run=row.read("run", cells.TENANT) or "",
        tasks_total=row.read("tasks_total", cells.whole),
        tasks_completed=row.read("tasks_completed", cells.whole),
        trials=row.read(
            "trials", lambda field, text: scores.trials(field, cells.whole(field, text))
        ),
        source_revision=row.read("source_revision", cells.title),
    )
    if run.tasks_completed is not None and run.tasks_total is not None:
        scores.completed("tasks_completed", run.tasks_completed, run.tasks_total)
    pins = (provider,) if tag is None else (tag,)
    return ReportedRun(row.where, EndpointMention(row.where, model, pins, provider), run)


def _read_model(field: str, text: str) -> str:
    """Read a model's name; published tables omit its author."""
    _MODEL(field, text if "/" in text else f"any/{text}")
    return text
