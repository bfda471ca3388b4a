"""Every closed hour is due once, in order."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.support.curated_pool import FIRST, HOUR, START

from assay.curator.curator import SETTLING, end_of_hour, hours_due

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("done", "after", "hours"),
    [
        pytest.param(None, 30 * MINUTE, [0], id="the first ever is the last closed hour alone"),
        pytest.param(0, 59 * MINUTE, [], id="none twice"),
        pytest.param(0, HOUR + MINUTE, [1], id="the next one"),
        pytest.param(0, HOUR, [], id="not at the full hour, while outcomes are in transit"),
        pytest.param(0, HOUR + SETTLING, [1], id="soon after the hour"),
        pytest.param(-3, 30 * MINUTE, [-2, -1, 0], id="missed ones in order"),
        pytest.param(5, 30 * MINUTE, [], id="none after the clock is set back"),
        pytest.param(None, timedelta(0), [-1], id="the first ever, at the stroke of the next"),
    ],
)
def test_hours_due_follow_the_last_closed_tick(
    done: int | None, after: timedelta, hours: list[int]
) -> None:
    given = None if done is None else FIRST + done
    assert [hour - FIRST for hour in hours_due(given, START + after)] == hours


def test_an_hour_is_named_by_its_end() -> None:
    assert end_of_hour(FIRST) == START
