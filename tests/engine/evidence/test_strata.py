"""Standardization: endpoints are compared on the same mix of requests."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from assay.engine.evidence.strata import HitCounts, Strata, mix, standardize, together

# STATISTICS.md: A is better in every stratum but looks worse, because it gets the hard prompts.
A_RATES, B_RATES = (0.99, 0.96, 0.90), (0.985, 0.952, 0.89)
A_MIX, B_MIX = (0.13, 0.26, 0.61), (0.70, 0.25, 0.05)
SIZE = 100_000


def mixed(rates: tuple[float, ...], parts: tuple[float, ...]) -> dict[int, HitCounts]:
    return {
        k: HitCounts(SIZE * part, SIZE * part * rate)
        for k, (rate, part) in enumerate(zip(rates, parts, strict=True))
    }


def pooled(*endpoints: Strata) -> Strata:
    return {
        k: together(own[k] for own in endpoints if k in own)
        for k in sorted({k for own in endpoints for k in own})
    }


def test_standardizing_resolves_simpsons_paradox() -> None:
    a, b = mixed(A_RATES, A_MIX), mixed(B_RATES, B_MIX)
    assert together(a.values()).rate() == pytest.approx(0.927, abs=0.001)
    assert together(b.values()).rate() == pytest.approx(0.972, abs=0.001)
    pool = pooled(a, b)
    assert standardize(a, mix(pool)).rate() == pytest.approx(0.9525, abs=0.001)
    assert standardize(b, mix(pool)).rate() == pytest.approx(0.945, abs=0.001)


@pytest.mark.parametrize(
    ("own", "pool", "size", "rate"),
    [
        pytest.param({0: (100, 7)}, {0: (100, 7)}, 100, 0.07, id="one endpoint: as it is"),
        pytest.param({0: (100, 7)}, {0: (900, 300)}, 100, 0.07, id="one stratum: as it is"),
        pytest.param({0: (20, 5)}, {0: (500, 0), 1: (500, 0)}, 20, 0.25,
                     id="too few requests: as it is"),
        pytest.param({0: (60, 6), 1: (40, 8)}, {0: (600, 0), 1: (400, 0)}, 100, 0.14,
                     id="the pool's mix: as it is"),
        pytest.param({0: (90, 9), 1: (90, 18)}, {0: (600, 0), 1: (400, 0)}, 173.08, 0.14,
                     id="another mix: the pool's weights, with a smaller sample"),
        pytest.param({0: (100, 10)}, {0: (500, 0), 1: (500, 100)}, 100, 0.15,
                     id="a stratum without requests borrows the pool's rate and adds no certainty"),
        pytest.param({0: (100, 10), 1: (29, 29)}, {0: (500, 0), 1: (500, 100)}, 100, 0.15,
                     id="a stratum with fewer than thirty requests borrows too"),
        pytest.param({0: (100, 10), 1: (30, 30)}, {0: (500, 0), 1: (500, 100)}, 92.31, 0.55,
                     id="thirty requests are enough"),
        pytest.param({0: (20, 2), 1: (20, 4)}, {0: (500, 50), 1: (500, 50)}, 40, 0.15,
                     id="small strata are merged by the pool's rates"),
        pytest.param({0: (20, 20), 1: (20, 20)}, {0: (500, 50), 1: (500, 50)}, 40, 1.0,
                     id="never more hits than requests"),
    ],
)  # fmt: skip
def test_rates_are_standardized_to_the_pools_mix(
    own: dict[int, tuple[float, float]],
    pool: dict[int, tuple[float, float]],
    size: float,
    rate: float,
) -> None:
    found = standardize(
        {k: HitCounts(*v) for k, v in own.items()}, mix({k: HitCounts(*v) for k, v in pool.items()})
    )
    assert found.size == pytest.approx(size, abs=0.01)
    assert found.rate() == pytest.approx(rate)


@pytest.mark.parametrize(
    ("own", "pool", "rate"),
    [
        pytest.param({0: (20, 0), 1: (20, 0)}, {0: (500, 0), 1: (500, 0), 2: (500, 150)}, 0.1,
                     id="no hits expected: the pool's rates as they are"),
        pytest.param({0: (20, 8), 1: (20, 4)}, {0: (500, 50), 1: (500, 50), 2: (500, 150)}, 0.5,
                     id="three times the hits expected: three times the pool's rates"),
    ],
)  # fmt: skip
def test_thin_strata_scale_the_pools_rates(
    own: dict[int, tuple[float, float]], pool: dict[int, tuple[float, float]], rate: float
) -> None:
    found = standardize(
        {k: HitCounts(*v) for k, v in own.items()}, mix({k: HitCounts(*v) for k, v in pool.items()})
    )
    assert found.rate() == pytest.approx(rate)


def test_smoothing_adds_hits_and_misses_alike() -> None:
    own = {0: HitCounts(20, 4), 1: HitCounts(20, 4)}
    pool = {0: HitCounts(500, 49.6), 1: HitCounts(500, 49.6)}
    pool_rate = 50.1 / 501
    ratio = 8.5 / (40 * pool_rate + 0.5)
    assert standardize(own, mix(pool, 0.5)).rate() == pytest.approx(pool_rate * ratio)
    few = standardize({0: HitCounts(10, 4)}, mix(pool, 0.5))
    assert (few.size, few.hits) == (11, 4.5)


def test_strata_with_thirty_requests_in_all_are_not_borrowed() -> None:
    pool = mix({0: HitCounts(500, 50), 1: HitCounts(500, 50), 2: HitCounts(500, 50)})
    thirty = {0: HitCounts(100, 0), 1: HitCounts(15, 15), 2: HitCounts(15, 15)}
    assert standardize(thirty, pool).rate() == pytest.approx(2 / 3)
    fewer = {0: HitCounts(100, 0), 1: HitCounts(15, 15), 2: HitCounts(14, 14)}
    assert standardize(fewer, pool).rate() == pytest.approx(0.2 / 3)


SHARES = st.builds(
    lambda size, part: HitCounts(size, size * part), st.floats(1e-3, 1e9), st.floats(0, 1)
)
STRATA = st.dictionaries(st.integers(0, 5), SHARES, min_size=1, max_size=6)


@given(STRATA, STRATA)
def test_rates_are_between_0_and_1_and_sizes_never_grow(own: Strata, others: Strata) -> None:
    pool = pooled(own, others)
    plain, smooth = standardize(own, mix(pool)), standardize(own, mix(pool, 0.5))
    assert 0 <= plain.rate() <= 1 + 1e-9
    assert 0 < smooth.rate() < 1
    assert plain.size <= together(own.values()).size * (1 + 1e-9)
