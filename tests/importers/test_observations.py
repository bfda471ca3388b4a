"""The importer of observation tables: each row is read, or rejected with its line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

import assay
from assay.engine.errors import BadData
from assay.engine.world.measurements import Observation
from assay.importers.documents import ObservationDocument
from assay.importers.observations import read_observations

DEMO = Path(str(assay.__file__)).parent / "demo" / "data" / "observations"
HEADER = (
    "model,provider,tag,source,observed_from,observed_to,"
    "requests,tool_call_requests,errored_requests,reference"
)
GOOD = "lab/one,acme,acme/fp8,probe,2025-09-22T00:00:00Z,2025-09-23T00:00:00Z,100,50,2,true"


def read(*rows: str) -> ObservationDocument:
    return read_observations("\n".join([HEADER, *rows]).encode())


def row(**cells: str) -> str:
    return ",".join((dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | cells).values())


def test_every_row_of_the_demo_counts_is_accepted() -> None:
    document = read_observations((DEMO / "kimi-k2-0905_2025-09-22.csv").read_bytes())
    assert (len(document.rows), document.rejected) == (11, ())
    assert [row.tag for row in document.rows if row.observation.reference] == ["moonshotai"]
    atlas = document.rows[-1].observation
    assert (atlas.requests, atlas.tool_call_requests, atlas.errored_requests) == (2000, 94, 4)


def test_a_row_is_read_with_its_names_and_counts() -> None:
    (observed,) = read(GOOD).rows
    assert (observed.where, observed.model, observed.provider, observed.tag) == (
        "line 2",
        "lab/one",
        "acme",
        "acme/fp8",
    )
    window = (datetime(2025, 9, 22, tzinfo=UTC), datetime(2025, 9, 23, tzinfo=UTC))
    assert observed.observation == Observation(
        "lab/one@acme/fp8", "probe", *window, 100, 50, 2, reference=True
    )


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(
            row(errored_requests="51"),
            "errored_requests: 51 is not at most",
            id="more errors than calls",
        ),
        pytest.param(
            row(tool_call_requests="101"),
            "is not at most requests, 100",
            id="more calls than requests",
        ),
        pytest.param(
            row(errored_requests="2%"), "errored_requests: '2%' is not a whole number", id="percent"
        ),
        pytest.param(
            row(errored_requests="0.02"), "errored_requests: '0.02' is not a whole", id="a fraction"
        ),
        pytest.param(
            row(errored_requests="-1"),
            "errored_requests: '-1' is not a whole number",
            id="negative",
        ),
        pytest.param(
            row(errored_requests=""), "errored_requests: '' is not a whole number", id="not counted"
        ),
        pytest.param(
            row(requests="9007199254740993"),
            "requests: '9007199254740993' is not",
            id="beyond 2^53",
        ),
        pytest.param(
            row(requests="1" * 400), " characters) is not a whole number", id="400 digits"
        ),
        pytest.param(
            row(observed_to="2025-09-22T00:00:00Z"),
            "is not later than observed_from",
            id="an empty window",
        ),
        pytest.param(
            row(observed_from="2025-09-22T00:00:00"), "is not an ISO time with a zone", id="no zone"
        ),
        pytest.param(
            row(observed_from="yesterday"), "observed_from: 'yesterday' is not", id="no time"
        ),
        pytest.param(
            row(observed_from="0001-01-01T00:00:00+09:00"),
            "is not an ISO time",
            id="before the year 1",
        ),
        pytest.param(
            row(reference="yes"), "reference: 'yes' is not one of true, false", id="not a boolean"
        ),
        pytest.param(row(source=""), "source: '' is not a plain name", id="no source"),
        pytest.param(
            row(model="lab/one@x"),
            "model: 'lab/one@x' is not a model id",
            id="an endpoint id as model",
        ),
        pytest.param(GOOD, "the same row as line 2", id="the same row"),
        pytest.param(
            row(requests="101"),
            "the same endpoint, source and window as line 2",
            id="the same window",
        ),
        pytest.param(
            row(observed_from="2025-09-22T02:00:00+02:00"),
            "window as line 2",
            id="the same window in another zone",
        ),
    ],
)
def test_an_invalid_row_is_rejected_with_its_line(bad: str, reason: str) -> None:
    document = read(GOOD, bad, row(tag="acme", reference=""))
    assert [observed.tag for observed in document.rows] == ["acme/fp8", "acme"]
    assert [rejection.where for rejection in document.rejected] == ["line 3"]
    assert reason in document.rejected[0].reason


def test_another_source_or_window_is_another_observation() -> None:
    other = [row(source="traffic"), row(observed_to="2025-09-24T00:00:00Z"), row(model="lab/two")]
    assert len(read(GOOD, *other).rows) == 4


def test_a_table_with_an_unknown_column_is_rejected_as_a_whole() -> None:
    with pytest.raises(BadData, match="unknown column 'accuracy'"):
        read_observations(b"model,provider,tag,accuracy\n")
