"""Fast evictions: the log-likelihood ratio of one hour for twice the allowed error rate."""

from __future__ import annotations

from math import log

import pytest
from hypothesis import example, given, strategies as st

from assay.engine.evidence.observations import HourCounts
from assay.engine.policy.rule_set import MemorySpec
from assay.engine.pool.transition import cusum

SPEC = MemorySpec()
BAD, GOOD = log(2), log(0.90 / 0.95)  # the log-likelihood ratios of one call at an accuracy of 0.95


@pytest.mark.parametrize(
    ("before", "calls", "errored", "effect", "expected"),
    [
        pytest.param(1.5, 0, 0, 1.0, 1.5, id="an hour without calls adds no evidence"),
        pytest.param(0.0, 100, 0, 1.0, 0.0, id="a sum is never negative"),
        pytest.param(7.0, 100, 0, 1.0, 7.0 + 100 * GOOD, id="good calls decrease the sum"),
        pytest.param(0.0, 100, 20, 1.0, 20 * BAD + 80 * GOOD, id="errors increase the sum"),
        pytest.param(0.0, 220, 44, 2.2, 20 * BAD + 80 * GOOD, id="clustered calls are discounted"),
        pytest.param(0.0, 800, 160, 1.0, 160 * BAD + 640 * GOOD, id="up to the cap"),
        pytest.param(
            0.0,
            800_000,
            160_000,
            1.0,
            160 * BAD + 640 * GOOD,
            id="the evidence of a large endpoint is capped",
        ),
        pytest.param(
            1.0, 100, 10, 1.0, 1.0 + 10 * BAD + 90 * GOOD, id="at twice the errors allowed it rises"
        ),
        pytest.param(
            2.0, 100, 5, 1.0, 2.0 + 5 * BAD + 95 * GOOD, id="at the errors allowed it falls"
        ),
    ],
)
def test_the_log_likelihood_ratio_of_one_hour(
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
def test_a_large_endpoint_is_evicted_within_hours(share: float, hours: int | None) -> None:
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
def test_the_evidence_of_one_hour_is_capped(
    before: float, calls: float, bad: float, accuracy: float, effect: float
) -> None:
    after = cusum(before, HourCounts(calls, bad * calls), SPEC, accuracy, effect)
    assert 0.0 <= after <= before + SPEC.cusum_cap * BAD * 1.000001
