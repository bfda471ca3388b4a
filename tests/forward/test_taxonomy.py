"""The table of failures: every status has a row, and the page that explains it shows the table as it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from assay.forward import taxonomy
from assay.forward.taxonomy import TABLE, FailureKind, NextStep, by_status, retry_after
from assay.v1 import evidence_pb2 as pb

PAGE = Path(taxonomy.__file__).with_name("README.md")


def row(failure: FailureKind) -> str:
    result = pb.Result.Name(failure.result).removeprefix("RESULT_").lower()
    marks = ["yes" if mark else "" for mark in (failure.demotes, failure.again)]
    cells = (f"`{failure.name}`", failure.when, f"`{result}`", failure.then, failure.status, *marks)
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def test_the_page_shows_the_table() -> None:
    lines = PAGE.read_text().splitlines()
    assert [line for line in lines if line.startswith("| `") and line.count("|") == 8] == [
        row(f) for f in TABLE
    ]


def test_names_are_unique_and_everything_but_an_end_goes_on() -> None:
    assert len({failure.name for failure in TABLE}) == len(TABLE)
    assert {f.name for f in TABLE if f.then is NextStep.STOP} == {"cut", "silent", "cancelled"}


def test_every_status_has_a_row() -> None:
    rows = {status: by_status(status).name for status in range(100, 600)}
    by_hundred = {1: "malformed", 2: "empty", 3: "redirect", 4: "rejected", 5: "server_error"}
    callers = dict.fromkeys((400, 413, 414, 415, 422, 431), "caller_error")
    assert rows == {
        **{status: by_hundred[status // 100] for status in rows}, **callers, 403: "forbidden", 429: "rate_limited",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("1e9", 86400.0),
        ("nan", None),
        ("soon", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_retry_after_as_a_date() -> None:
    seconds = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True))
    assert seconds is not None
    assert 55 < seconds <= 60
