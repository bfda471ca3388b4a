"""The latest run of a series up to an instant counts, in any order of input."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from assay.engine.evidence.benchmarks import in_unit, is_complete, latest_scores
from assay.engine.world.measurements import UNITS, BenchmarkRun, Series

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SERIES = Series("livemcpbench", "0", "gpt-4.1", "scorer/accuracy", "fraction")
RUN = BenchmarkRun("lab/one@acme", "inspect", SERIES, 0.5, NOON, "a")


@pytest.mark.parametrize(
    ("changes", "standing"),
    [
        pytest.param({"run_at": NOON + DAY}, 0.9, id="a later run counts instead"),
        pytest.param({"run_at": NOON - DAY}, 0.5, id="an earlier run does not count"),
        pytest.param({"run_at": NOON + 3 * DAY}, 0.5, id="a future run does not count"),
        pytest.param({"run_at": NOON + 2 * DAY}, 0.9, id="a run at this instant counts"),
        pytest.param({"run": "b"}, 0.9, id="at one time the last by id"),
        pytest.param({"source": "another"}, 0.5, id="at one time the last by source"),
        pytest.param({"endpoint_id": "lab/one@other"}, 0.5, id="another endpoint's run"),
    ],
)
def test_the_latest_run_of_a_series_counts(changes: dict[str, object], standing: float) -> None:
    other = replace(RUN, score=0.9, **changes)  # type: ignore[arg-type] # any field
    for runs in ([RUN, other], [other, RUN]):
        (found,) = latest_scores(runs, NOON + 2 * DAY)[RUN.endpoint_id]
        assert found.run.score == standing


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(SERIES, suite="tau2/retail"), id="suite"),
        pytest.param(replace(SERIES, version="1"), id="version"),
        pytest.param(replace(SERIES, judge="o3"), id="judge"),
        pytest.param(replace(SERIES, metric="scorer/f1"), id="metric"),
        pytest.param(replace(SERIES, unit="percent"), id="unit"),
    ],
)
def test_runs_of_different_series_are_not_compared(other: Series) -> None:
    later = replace(RUN, series=other, score=0.1, run_at=NOON + DAY)
    found = latest_scores([RUN, later], NOON + DAY)[RUN.endpoint_id]
    assert {each.run.series: each.run.score for each in found} == {SERIES: 0.5, other: 0.1}
    assert other.name != SERIES.name


@pytest.mark.parametrize(
    ("age", "days"),
    [(timedelta(0), 0), (DAY - timedelta(microseconds=1), 0), (DAY, 1), (90.5 * DAY, 90)],
)
def test_age_is_in_whole_days(age: timedelta, days: int) -> None:
    assert latest_scores([RUN], NOON + age)[RUN.endpoint_id][0].age_days == days


def test_a_series_is_named_in_one_line() -> None:
    assert SERIES.name == "livemcpbench@0 scorer/accuracy fraction by gpt-4.1"


SERIES_OF_ANOTHER_JUDGE = replace(SERIES, judge="o3")
RUNS = st.builds(
    BenchmarkRun,
    st.sampled_from(("a", "b")),
    st.sampled_from(("x", "y")),
    st.sampled_from((SERIES, SERIES_OF_ANOTHER_JUDGE)),
    st.floats(0, 1),
    st.datetimes(
        datetime(2026, 1, 1),  # noqa: DTZ001 - the zone is given
        datetime(2026, 12, 1),  # noqa: DTZ001 - the zone is given
        timezones=st.just(UTC),
    ),
    st.sampled_from(("", "r")),
)  # fmt: skip


@given(
    st.lists(RUNS, unique_by=lambda r: (r.endpoint_id, r.series, r.run_at, r.source, r.run)),
    st.randoms(),
)
def test_the_order_of_runs_does_not_matter(runs: list[BenchmarkRun], random: object) -> None:
    shuffled = list(runs)
    random.shuffle(shuffled)  # type: ignore[attr-defined] # a random.Random
    assert latest_scores(runs, NOON) == latest_scores(shuffled, NOON)


@pytest.mark.parametrize("unit", UNITS)
def test_nan_and_infinity_are_outside_every_unit(unit: str) -> None:
    assert not any(in_unit(score, unit) for score in (math.nan, math.inf, -math.inf))


@pytest.mark.parametrize(
    ("completed", "total", "complete"),
    [(95, 100, True), (94, 100, False), (1, 1, True), (0, 0, False), (19, 20, True)],
)
def test_complete_means_95_percent_of_the_tasks(
    completed: int, total: int, *, complete: bool
) -> None:
    assert is_complete(completed, total) is complete
