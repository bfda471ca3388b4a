"""The importer of benchmark tables, in our form and in published ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from assay.engine.errors import BadData
from assay.engine.world.measurements import BenchmarkRun, Series
from assay.importers.benchmarks import read_benchmarks
from assay.importers.documents import BenchmarkDocument, EndpointMention

TABLE = (
    Path(__file__).resolve().parents[2].parent
    / "shared/data/provider_quality/kimi_k3_provider_benchmarks_latest.csv"
)
HEADER = (
    "model,provider,tag,source,suite,suite_version,judge,metric,unit,score,"
    "tasks_total,tasks_completed,trials,run_at,"
    "run,source_revision"
)
GOOD = (
    "lab/one,acme,acme/fp8,lab,livemcpbench,1,gpt-4.1,accuracy,fraction,0.9,"
    "95,95,1,2026-07-01T10:00:00+02:00,r1,abc"
)
PUBLISHED = "revision_date,source_commit,model,provider,benchmark,score_raw,source,licence"


def read(*rows: str, header: str = HEADER, named: str | None = None) -> BenchmarkDocument:
    return read_benchmarks("\n".join([header, *rows]).encode(), source="file", named=named)


def row(**cells: str) -> str:
    return ",".join((dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | cells).values())


def test_a_row_is_read_with_all_its_columns() -> None:
    (reported,) = read(GOOD).rows
    assert (reported.where, reported.subject) == (
        "line 2",
        EndpointMention("line 2", "lab/one", ("acme/fp8",), "acme"),
    )
    assert reported.run == BenchmarkRun(
        endpoint_id="",
        source="lab",
        series=Series("livemcpbench", "1", "gpt-4.1", "accuracy", "fraction"),
        score=0.9,
        run_at=datetime(2026, 7, 1, 8, tzinfo=UTC),
        run="r1",
        tasks_total=95,
        tasks_completed=95,
        trials=1,
        source_revision="abc",
    )


def test_a_published_table_is_read_with_its_own_column_names() -> None:
    header = PUBLISHED
    (reported,) = read(
        '2026-08-13,a03747,one,Acme AI,"BEAM (1M)",0.31,git README.md,MIT', header=header
    ).rows
    assert reported.subject == EndpointMention("line 2", "one", ("Acme AI",), "Acme AI")
    assert reported.run == BenchmarkRun(
        endpoint_id="",
        source="git README.md",
        series=Series("BEAM (1M)", "unknown", "unknown", "score", "fraction"),
        score=0.31,
        run_at=datetime(2026, 8, 13, tzinfo=UTC),
        source_revision="a03747",
    )


@pytest.mark.parametrize(
    ("named", "cell", "source"),
    [(None, "lab", "lab"), (None, "", "file"), ("me", "lab", "me"), ("me", "", "me")],
)
def test_the_source_is_the_option_then_the_column_then_the_default(
    named: str | None, cell: str, source: str
) -> None:
    assert read(row(source=cell), named=named).rows[0].run.source == source


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(row(score="TBD"), "score: 'TBD' is not a fraction from 0 to 1", id="TBD"),
        pytest.param(
            row(score="81.1"),
            "score: '81.1' is not a fraction from 0 to 1",
            id="percent among fractions",
        ),
        pytest.param(row(score="1.0000001"), "is not a fraction", id="just above"),
        pytest.param(
            row(score="81.1%"), "score: '81.1%' is not a fraction", id="with a percent sign"
        ),
        pytest.param(row(score="NaN"), "score: 'NaN' is not a fraction", id="NaN"),
        pytest.param(row(score="-0.1"), "score: '-0.1' is not a fraction", id="negative"),
        pytest.param(row(score=""), "score: '' is not a fraction", id="no score"),
        pytest.param(row(score="1" * 400), " characters) is not a fraction", id="400 digits"),
        pytest.param(
            row(score="100.5", unit="percent"),
            "is not a percent from 0 to 100",
            id="more than 100 percent",
        ),
        pytest.param(
            row(unit="points"),
            "unit: 'points' is not one of fraction, percent, number",
            id="another unit",
        ),
        pytest.param(
            row(tasks_completed="90"),
            "tasks_completed: 90 is not at least 95 % of 95",
            id="incomplete",
        ),
        pytest.param(
            row(tasks_completed="96"),
            "tasks_completed: 96 is not at most all 95",
            id="more than all tasks",
        ),
        pytest.param(
            row(tasks_completed="-1"),
            "tasks_completed: '-1' is not a whole number",
            id="negative tasks",
        ),
        pytest.param(row(trials="0"), "trials: 0 is not from 1 to 1000", id="no trials"),
        pytest.param(row(run_at="yesterday"), "run_at: 'yesterday' is not a day", id="no day"),
        pytest.param(
            row(run_at="2026-07-32"), "run_at: '2026-07-32' is not a day", id="no such day"
        ),
        pytest.param(
            row(run_at="2026-07-01T10:00:00"),
            "is not a day or an ISO time with a zone",
            id="no zone",
        ),
        pytest.param(row(suite=""), "suite: '' is not a plain suite name", id="no suite"),
        pytest.param(
            row(suite="a@b"),
            "suite: 'a@b' is not a plain suite name without @",
            id="a suite with @",
        ),
        pytest.param(
            row(suite_version="1 2"),
            "suite_version: '1 2' is not a plain version",
            id="a version of two words",
        ),
        pytest.param(
            row(metric="a b"), "metric: 'a b' is not a plain metric", id="a metric of two words"
        ),
        pytest.param(
            row(model="lab/one@x"),
            "model: 'lab/one@x' is not a model id",
            id="an endpoint id as model",
        ),
        pytest.param(row(judge="a\u202eb"), "is not a printable name", id="right to left"),
        pytest.param(GOOD, "the same row as line 2", id="the same row"),
        pytest.param(
            row(score="0.8"), "the same endpoint, source and series as line 2", id="another score"
        ),
    ],
)
def test_an_invalid_row_is_rejected_with_its_line(bad: str, reason: str) -> None:
    document = read(GOOD, bad, row(run="r2"))
    assert [reported.run.run for reported in document.rows] == ["r1", "r2"]
    assert [rejection.where for rejection in document.rejected] == ["line 3"]
    assert reason in document.rejected[0].reason


@pytest.mark.parametrize(
    "column", ["suite", "judge", "suite_version", "metric", "tag", "source", "run"]
)
def test_a_row_with_another_key_column_is_not_a_repetition(column: str) -> None:
    assert len(read(GOOD, row(**{column: "other"})).rows) == 2


@pytest.mark.parametrize(
    ("header", "message"),
    [
        pytest.param(
            "model,provider,benchmrk",
            "unknown column 'benchmrk', did you mean benchmark?",
            id="a typing error",
        ),
        pytest.param("model,suite,score", "missing column provider", id="no provider"),
        pytest.param(
            "model,provider,suite,benchmark",
            "line 1: two columns state suite",
            id="one column under two names",
        ),
    ],
)
def test_a_table_with_wrong_columns_is_rejected_as_a_whole(header: str, message: str) -> None:
    with pytest.raises(BadData, match=message):
        read("a,b,c,d"[: 2 * header.count(",") + 1], header=header)


@pytest.mark.skipif(not TABLE.exists(), reason="the shared data set is missing")
def test_the_real_table_is_read_except_its_placeholders() -> None:
    document = read_benchmarks(TABLE.read_bytes(), source="file")
    assert [(rejection.where, rejection.reason) for rejection in document.rejected] == [
        ("line 20", "score: 'TBD' is not a fraction from 0 to 1"),
        ("line 21", "score: 'TBD' is not a fraction from 0 to 1"),
    ]
    assert len(document.rows) == 30
    assert {each.run.series.suite for each in document.rows} == {
        "OCRBench",
        "MMMU Pro Vision",
        "BEAM (1M)",
        "DeepSWE",
    }
