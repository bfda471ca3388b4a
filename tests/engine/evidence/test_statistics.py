"""Statistics agree with SciPy, NumPy and closed forms; undefined values raise errors."""

from __future__ import annotations

import math
import statistics as standard
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, strategies as st

from assay.engine.evidence.statistics import (
    logit,
    mad,
    median,
    probability_at_least,
    quantile,
    wilson_lower,
    wilson_upper,
)

NAN, INF = math.nan, math.inf
NUMBERS = st.floats(-1e12, 1e12)
LISTS = st.lists(NUMBERS, min_size=1, max_size=40)
SHARES = st.floats(0.001, 0.999)


@given(st.integers(1, 400), st.integers(1, 400), SHARES)
def test_beta_tail_equals_a_binomial_sum(good: int, bad: int, threshold: float) -> None:
    trials = good + bad - 1
    closed = scipy.stats.binom.cdf(good - 1, trials, threshold)
    assert probability_at_least(float(good), float(bad), threshold) == pytest.approx(
        closed, rel=1e-9, abs=1e-12
    )


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6), SHARES)
def test_beta_tail_agrees_with_scipy(good: float, bad: float, threshold: float) -> None:
    assert probability_at_least(good, bad, threshold) == pytest.approx(
        float(scipy.stats.beta.sf(threshold, good, bad)), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize(
    ("good", "bad", "threshold", "expected"),
    [
        pytest.param(1.0, 1.0, 0.25, 0.75, id="the uniform prior"),
        pytest.param(19.0, 1.0, 0.95, 1 - 0.95**19, id="the shipped prior alone"),
        pytest.param(5.0, 5.0, 0.0, 1.0, id="at least nothing"),
        pytest.param(5.0, 5.0, 1.0, 0.0, id="at least everything"),
        pytest.param(1e15, 1.0, 0.95, 1.0, id="far beyond doubt"),
        pytest.param(1.0, 1e15, 0.95, 0.0, id="far below"),
    ],
)
def test_beta_tail_of_known_cases(
    good: float, bad: float, threshold: float, expected: float
) -> None:
    assert probability_at_least(good, bad, threshold) == pytest.approx(expected, rel=1e-12)


def test_the_shipped_prior_alone_admits_no_endpoint() -> None:
    assert probability_at_least(19.0, 1.0, 0.95) < 0.95


@given(st.integers(1, 5000), st.data(), st.floats(0.51, 0.999))
def test_wilson_bounds_agree_with_scipy(
    trials: int, data: st.DataObject, confidence: float
) -> None:
    successes = data.draw(st.integers(0, trials))
    interval = scipy.stats.binomtest(successes, trials).proportion_ci(
        2 * confidence - 1, method="wilson"
    )
    assert wilson_lower(successes, trials, confidence) == pytest.approx(interval.low, abs=1e-9)
    assert wilson_upper(successes, trials, confidence) == pytest.approx(interval.high, abs=1e-9)


@given(st.floats(1e-300, 1e300), st.floats(0, 1), st.floats(0.5, 0.9999))
def test_wilson_bounds_enclose_the_share(trials: float, share: float, confidence: float) -> None:
    successes = share * trials
    low, high = (
        wilson_lower(successes, trials, confidence),
        wilson_upper(successes, trials, confidence),
    )
    assert 0 <= low <= successes / trials + 1e-9
    assert successes / trials - 1e-9 <= high <= 1


@given(LISTS)
def test_median_and_mad_of_known_cases(values: list[float]) -> None:
    assert median(values) == standard.median(values)
    assert mad(values) == pytest.approx(
        float(scipy.stats.median_abs_deviation(values)), rel=1e-9, abs=1e-3
    )


@given(LISTS, st.floats(0, 1))
def test_quantile_uses_definition_7(values: list[float], share: float) -> None:
    assert quantile(values, share) == pytest.approx(
        float(np.quantile(values, share)), rel=1e-9, abs=1e-3
    )


@given(LISTS, st.randoms(use_true_random=False))
def test_order_of_values_does_not_matter(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined] # hypothesis hands out a random.Random
    assert (median(values), mad(values), quantile(values, 0.3)) == (
        median(shuffled),
        mad(shuffled),
        quantile(shuffled, 0.3),
    )


@given(st.floats(1e-12, 1 - 1e-12))
def test_logit_agrees_with_scipy_and_is_odd(share: float) -> None:
    assert logit(share) == pytest.approx(float(scipy.special.logit(share)), rel=1e-9, abs=1e-12)
    assert logit(0.5) == 0.0


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: probability_at_least(0.0, 1.0, 0.5), id="nothing good"),
        pytest.param(lambda: probability_at_least(1.0, 0.0, 0.5), id="nothing bad"),
        pytest.param(lambda: probability_at_least(-1.0, 1.0, 0.5), id="a negative count"),
        pytest.param(lambda: probability_at_least(NAN, 1.0, 0.5), id="NaN as a count"),
        pytest.param(lambda: probability_at_least(INF, 1.0, 0.5), id="an infinite count"),
        pytest.param(lambda: probability_at_least(1.0, 1.0, 1.5), id="a threshold above one"),
        pytest.param(lambda: probability_at_least(1.0, 1.0, -0.1), id="a threshold below zero"),
        pytest.param(lambda: probability_at_least(1.0, 1.0, NAN), id="NaN as a threshold"),
        pytest.param(lambda: wilson_lower(0, 0, 0.95), id="no trials"),
        pytest.param(lambda: wilson_lower(2, 1, 0.95), id="more successes than trials"),
        pytest.param(lambda: wilson_lower(-1, 1, 0.95), id="negative successes"),
        pytest.param(lambda: wilson_upper(NAN, 1, 0.95), id="NaN successes"),
        pytest.param(lambda: wilson_upper(1, NAN, 0.95), id="NaN trials"),
        pytest.param(lambda: wilson_upper(1, INF, 0.95), id="endless trials"),
        pytest.param(lambda: wilson_upper(1, 2, 1.0), id="certainty"),
        pytest.param(lambda: wilson_upper(1, 2, 0.0), id="no confidence"),
        pytest.param(lambda: wilson_upper(1, 2, NAN), id="NaN as confidence"),
        pytest.param(lambda: median([]), id="median of nothing"),
        pytest.param(lambda: median([1.0, NAN]), id="median with NaN"),
        pytest.param(lambda: median([INF, -INF]), id="median with infinities"),
        pytest.param(lambda: mad([]), id="mad of nothing"),
        pytest.param(lambda: mad([INF]), id="mad of infinity"),
        pytest.param(lambda: quantile([], 0.5), id="quantile of nothing"),
        pytest.param(lambda: quantile([1.0], 1.1), id="a share above one"),
        pytest.param(lambda: quantile([1.0], -0.1), id="a share below zero"),
        pytest.param(lambda: quantile([1.0], NAN), id="NaN as a share"),
        pytest.param(lambda: quantile([NAN], 0.5), id="quantile of NaN"),
        pytest.param(lambda: quantile([INF, INF], 0.5), id="quantile of infinities"),
        pytest.param(lambda: logit(0.0), id="logit of none"),
        pytest.param(lambda: logit(1.0), id="logit of all"),
        pytest.param(lambda: logit(NAN), id="logit of NaN"),
    ],
)
def test_undefined_values_are_rejected(call: Callable[[], float]) -> None:
    with pytest.raises(
        ValueError, match=r"^(probability_at_least|a Wilson bound|median|mad|quantile|logit) "
    ):
        call()


@pytest.mark.slow
def test_planning_never_imports_scipy() -> None:
    code = (
        "import sys, assay.engine.decide.plan, assay.engine.snapshot.snapshot, "
        "assay.server.decider; sys.exit('scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
