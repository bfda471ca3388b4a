"""Benchmark tables: a score of one endpoint in one suite a row, in our form or in that of published provider tables.

    model,provider,tag,suite,suite_version,judge,metric,unit,score,tasks_total,tasks_completed,trials,run_at,run,…

Published tables call some of these otherwise (`NAMES`). The unit is `fraction` unless stated. The provider may be a
slug or the name that a catalog gives it; `tag` says more exactly which of its endpoints. A row without `run` is the
source's one figure of its series: a later one revises it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.engine.errors import BadData
from assay.engine.world.measurements import UNKNOWN, BenchmarkRun, Series
from assay.importers import cells, scores
from assay.importers.cells import Form, InvalidItemError
from assay.importers.documents import BenchmarkDocument, EndpointMention, Rejection, ReportedRun
from assay.importers.table import CsvRow, read_table

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = {
    "benchmark": "suite",
    "score_raw": "score",
    "revision_date": "run_at",
    "source_commit": "source_revision",
}
REQUIRED = ("model", "provider")
OPTIONAL = (
    "tag", "source", "suite", "suite_version", "judge", "metric", "unit", "score", "tasks_total", "tasks_completed",
    "trials", "run_at", "run", "source_revision", "licence", *NAMES,
)  # fmt: skip
MODEL = Form(cells.MODEL.pattern, 200, "a model id such as author/slug, or its slug")
Key = tuple[str, tuple[str, ...], str, Series, str]


def read_benchmarks(data: bytes, *, source: str, named: str | None = None) -> BenchmarkDocument:
    """Read a table; `named` is who says so, for all rows, `source` where neither that nor the row tells."""
    table = read_table(data, required=REQUIRED, optional=OPTIONAL)
    rows: list[ReportedRun] = []
    refused = list(table.rejected)
    seen: dict[Key, str] = {}
    for row in table.rows:
        try:
            reported = _reported(_renamed(row), source, named)
        except InvalidItemError as error:
            refused.append(Rejection(row.where, str(error)))
            continue
        first = seen.setdefault(_key(reported), row.where)
        if first == row.where:
            rows.append(reported)
        else:
            refused.append(Rejection(row.where, f"the same endpoint, source and series as {first}"))
    refused.sort(key=lambda refusal: int(refusal.where.removeprefix("line ")))
    return BenchmarkDocument(table.digest, tuple(rows), tuple(refused))


def _renamed(row: CsvRow) -> CsvRow:
    """Call every column as our form does."""
    cells_: dict[str, str] = {}
    for column, cell in row.cells.items():
        name = NAMES.get(column, column)
        if name in cells_:
            raise BadData(f"line 1: two columns say {name}")
        cells_[name] = cell
    return CsvRow(row.line, cells_)


def _key(reported: ReportedRun) -> Key:
    run = reported.run
    return reported.subject.model or "", reported.subject.pins, run.source, run.series, run.run


def _reported(row: CsvRow, source: str, named: str | None) -> ReportedRun:
    model = row.need("model", _model)
    provider = row.need("provider", cells.title)
    tag = row.read("tag", _of(cells.TAG))
    series = Series(
        suite=row.need("suite", _of(scores.SUITE)),
        version=row.read("suite_version", _of(scores.VERSION)) or UNKNOWN,
        judge=row.read("judge", cells.title) or UNKNOWN,
        metric=row.read("metric", _of(scores.METRIC)) or "score",
        unit=row.read("unit", scores.unit) or "fraction",
    )
    run = BenchmarkRun(
        endpoint_id="",
        source=named or row.read("source", cells.title) or source,
        series=series,
        score=row.need("score", lambda field, text: scores.score(field, text, series.unit)),
        run_at=row.need("run_at", scores.day),
        run=row.read("run", _of(cells.TENANT)) or "",
        tasks_total=row.read("tasks_total", cells.whole),
        tasks_completed=row.read("tasks_completed", cells.whole),
        trials=row.read(
            "trials", lambda field, text: scores.trials(field, cells.whole(field, text))
        ),
        source_revision=row.read("source_revision", cells.title),
    )
    if run.tasks_completed is not None and run.tasks_total is not None:
        scores.completed("tasks_completed", run.tasks_completed, run.tasks_total)
    subject = EndpointMention(row.where, model, (provider,) if tag is None else (tag,), provider)
    return ReportedRun(row.where, subject, run)


def _model(field: str, text: str) -> str:
    """Read a model's name, which published tables write without its author."""
    cells.named(field, text if "/" in text else f"any/{text}", MODEL)
    return text


def _of(form: Form) -> Callable[[str, str], str]:
    return lambda field, text: cells.named(field, text, form)
