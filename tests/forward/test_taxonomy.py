"""The failure table: every status has a row, and forward/README.md shows the table as it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from assay.forward import taxonomy
from assay.forward.taxonomy import (
    TABLE,
    FailureKind,
    NextStep,
    error_in_answer,
    kind_of_status,
    parse_retry_after,
)
from assay.v1 import evidence_pb2 as pb

PAGE = Path(taxonomy.__file__).with_name("README.md")


def row(failure: FailureKind) -> str:
    result = pb.Result.Name(failure.result).removeprefix("RESULT_").lower()
    marks = ["yes" if mark else "" for mark in (failure.demotes, failure.retries_alone)]
    cells = (
        f"`{failure.name}`",
        failure.when,
        f"`{result}`",
        failure.next_step,
        failure.status,
        *marks,
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def test_the_readme_shows_the_table() -> None:
    lines = PAGE.read_text().splitlines()
    assert [line for line in lines if line.startswith("| `") and line.count("|") == 8] == [
        row(f) for f in TABLE
    ]


def test_names_are_unique_and_only_ends_of_streams_stop_the_attempts() -> None:
    assert len({failure.name for failure in TABLE}) == len(TABLE)
    assert {f.name for f in TABLE if f.next_step is NextStep.STOP} == {"cut", "silent", "cancelled"}


def test_every_status_has_a_row() -> None:
    rows = {status: kind_of_status(status).name for status in range(100, 600)}
    by_hundred = {1: "malformed", 2: "empty", 3: "redirect", 4: "rejected", 5: "server_error"}
    callers = dict.fromkeys((400, 422), "caller_error")
    sizes = dict.fromkeys((413, 414, 431), "too_large")
    assert rows == {
        **{status: by_hundred[status // 100] for status in rows},
        **callers,
        **sizes,
        415: "refused",
        403: "forbidden",
        429: "rate_limited",
    }


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        (399, "error_event", 200),
        (400, "caller_error", 400),
        ("400", "caller_error", 400),
        (401, "rejected", 401),
        (403, "forbidden", 403),
        (429, "rate_limited", 429),
        (500, "server_error", 500),
        (599, "server_error", 599),
        (600, "error_event", 200),
        (-429, "error_event", 200),
        ("overloaded", "error_event", 200),
        (None, "error_event", 200),
        (4290000000, "error_event", 200),
    ],
)
def test_an_error_in_an_answer_counts_as_the_status_of_its_code(
    code: object, kind: str, status: int
) -> None:
    error = error_in_answer({"code": code, "message": "why"})
    assert (error.kind.name, error.status, error.message) == (kind, status, "why")


def test_an_error_in_an_answer_may_be_a_text_or_have_no_message() -> None:
    assert (error_in_answer("overloaded").kind.name, error_in_answer({"message": 7}).message) == (
        "error_event",
        "",
    )


def test_an_error_of_the_callers_own_demotes_no_endpoint() -> None:
    without_demotion = {"refused", "too_large", "forbidden", "caller_error", "cancelled"}
    assert {each.name for each in TABLE if not each.demotes} == without_demotion


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
        ("1_0", None),
        ("٣", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


def test_retry_after_as_a_date() -> None:
    seconds = parse_retry_after(
        format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    )
    assert seconds is not None
    assert 55 < seconds <= 60
