"""Fast evictions: the log-likelihood ratio of one hour for twice the allowed error rate."""

from __future__ import annotations

from math import log

import pytest
from hypothesis import example, given, strategies as st

from assay.engine.evidence.observations import HourCounts
from assay.engine.policy.rule_set import MemorySpec
from assay.engine.pool.transition import cusum

SPEC = MemorySpec()
BAD, GOOD = log(2), log(0.90 / 0.95)  # what one bad and one good call say at an accuracy of 0.95


@pytest.mark.parametrize(
    ("before", "calls", "errored", "effect", "expected"),
    [
        pytest.param(1.5, 0, 0, 1.0, 1.5, id="an hour without calls says nothing"),
        pytest.param(0.0, 100, 0, 1.0, 0.0, id="a sum is never below nothing"),
        pytest.param(7.0, 100, 0, 1.0, 7.0 + 100 * GOOD, id="good calls take off"),
        pytest.param(0.0, 100, 20, 1.0, 20 * BAD + 80 * GOOD, id="bad calls add"),
        pytest.param(0.0, 220, 44, 2.2, 20 * BAD + 80 * GOOD, id="clustered calls say less"),
        pytest.param(0.0, 800, 160, 1.0, 160 * BAD + 640 * GOOD, id="up to the cap"),
        pytest.param(
            0.0,
            800_000,
            160_000,
            1.0,
            160 * BAD + 640 * GOOD,
            id="a giant says no more than the cap",
        ),
        pytest.param(
            1.0, 100, 10, 1.0, 1.0 + 10 * BAD + 90 * GOOD, id="at twice the errors allowed it rises"
        ),
        pytest.param(
            2.0, 100, 5, 1.0, 2.0 + 5 * BAD + 95 * GOOD, id="at the errors allowed it falls"
        ),
    ],
)
def test_one_hour(
    before: float, calls: float, errored: float, effect: float, expected: float
) -> None:
    assert cusum(before, HourCounts(calls, errored), SPEC, 0.95, effect) == pytest.approx(
        expected, abs=1e-12
    )


@pytest.mark.parametrize(
    ("share", "hours"),
    [
        pytest.param(0.10, 1, id="0.90"),
        pytest.param(0.08, 2, id="0.92"),
        pytest.param(0.05, None, id="0.95"),
    ],
)
def test_hours_that_a_large_endpoint_of_an_accuracy_stays(share: float, hours: int | None) -> None:
    total, passed = 0.0, 0
    while total < SPEC.cusum_limit and passed < 100:
        total = cusum(total, HourCounts(2083.0, 2083.0 * share), SPEC, 0.95, 2.2)
        passed += 1
    assert (passed if total >= SPEC.cusum_limit else None) == hours


@example(before=0.0, calls=5e-324, bad=0.5, accuracy=0.95, effect=10.0)
@given(
    st.floats(0, 1e3),
    st.floats(0, 1e9),
    st.floats(0, 1),
    st.floats(0.5001, 0.999),
    st.floats(1, 10),
)
def test_an_hour_says_no_more_than_its_cap(
    before: float, calls: float, bad: float, accuracy: float, effect: float
) -> None:
    after = cusum(before, HourCounts(calls, bad * calls), SPEC, accuracy, effect)
    assert 0.0 <= after <= before + SPEC.cusum_cap * BAD * 1.000001
