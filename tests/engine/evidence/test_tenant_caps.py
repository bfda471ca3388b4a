"""Caps and shares of tenants, trimmed means over tenants, and the clustering of their errors."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from assay.engine.evidence.tenant_caps import (
    FIFTHS,
    THIRDS,
    Clustering,
    ExcessErrors,
    Trim,
    clustering,
    design_effect,
    factors,
    groups,
    largest_share,
    trimmed,
)

PRIOR = 2.2


@pytest.mark.parametrize(
    ("counts", "cap", "capped"),
    [
        pytest.param({"a": 100}, 1100, {"a": 100}, id="below the cap"),
        pytest.param({"a": 1100}, 1100, {"a": 1100}, id="at the cap"),
        pytest.param({"a": 10**7, "b": 10}, 1100, {"a": 1100, "b": 10},
                     id="above the cap"),
        pytest.param({f"{n}": 10 for n in range(28)} | {"a": 1000}, 1100, {"a": 1000},
                     id="29 have no shares"),
        pytest.param({f"{n}": 10 for n in range(29)} | {"a": 1000}, 1100, {"a": 290 / 9},
                     id="30 have: a tenth, 290 by the others are nine"),
        pytest.param({f"{n}": 10 for n in range(99)} | {"a": 1000}, 1100, {"a": 990 * 3 / 97},
                     id="100 have: 3 %"),
        pytest.param({f"{n}": 10 for n in range(999)} | {"a": 1000}, 1100, {"a": 9990 / 99},
                     id="1000 have: 1 %"),
        pytest.param({f"{n}": 10 for n in range(400)}, 1100, {"7": 10},
                     id="equal tenants are below their share"),
        pytest.param({f"{n}": 5000 for n in range(400)}, 1100, {"7": 1100},
                     id="equal tenants are limited by the cap alone"),
    ],
)  # fmt: skip
def test_counts_above_the_cap_are_scaled_down(
    counts: dict[str, float], cap: float, capped: dict[str, float]
) -> None:
    found = factors(counts, cap)
    assert {tenant: found[tenant] * counts[tenant] for tenant in capped} == pytest.approx(capped)


@pytest.mark.parametrize(
    ("tenants", "share"), [(30, 0.1), (100, 0.03), (300, 0.01), (400, 0.01), (10_000, 0.01)]
)
def test_shares_of_a_tenant_are_limited(tenants: int, share: float) -> None:
    assert largest_share(tenants) == pytest.approx(share)


@given(
    st.dictionaries(st.text(max_size=3), st.floats(1e-3, 1e9), min_size=1, max_size=80),
    st.floats(1, 1e6),
)
def test_no_tenant_has_more_than_the_cap_or_the_share(counts: dict[str, float], cap: float) -> None:
    found = factors(counts, cap)
    capped = {tenant: found[tenant] * counts[tenant] for tenant in counts}
    assert all(0 < f <= 1 for f in found.values())
    assert all(n <= cap * (1 + 1e-9) for n in capped.values())
    if len(counts) >= 30:
        assert max(capped.values()) <= largest_share(len(counts)) * sum(capped.values()) * (
            1 + 1e-9
        )


def excess(tenant: str, calls: float, bad: float, usual: float = 0.1) -> ExcessErrors:
    return ExcessErrors(tenant, calls, bad - calls * usual, calls * usual * (1 - usual))


def test_small_tenants_are_ranked_together() -> None:
    small = [excess(f"{n:02}", 7, 1) for n in range(10)]
    found = groups([*small, excess("big", 500, 3), excess("last", 19, 19)])
    assert Counter(round(each.calls) for each in found) == {21: 3, 500: 1, 26: 1}


def test_twenty_calls_are_enough_to_rank() -> None:
    assert groups([excess("a", 20, 1)]) == [excess("a", 20, 1)]
    between = groups([excess("a", 10, 1), excess("b", 20, 1), excess("c", 10, 1)])
    assert [each.calls for each in between] == [20, 20]
    (joined,) = groups([excess("a", 10, 1), excess("b", 10, 2)])
    assert (joined.tenant, joined.calls) == ("b", 20)
    assert (joined.excess, joined.variance) == pytest.approx((1.0, 1.8))


def test_the_skew_of_rare_errors_is_at_most_their_variance() -> None:
    rare = [ExcessErrors(f"{n:02}", 100, 0.0, 0.05) for n in range(30)]
    assert trimmed(rare, FIFTHS) == pytest.approx(0.0005)
    common = [ExcessErrors(f"{n:02}", 100, 0.0, 9.0) for n in range(30)]
    assert trimmed(common, FIFTHS) == pytest.approx(0.00125)


def compared(found: list[ExcessErrors], factor: dict[str, float]) -> tuple[float, float]:
    result = clustering(found, factor, PRIOR)
    assert result is not None
    return result.effect, result.weight


def test_clustering_is_weighted_by_comparisons() -> None:
    found = [
        ExcessErrors(name, 100, odd, 1.0) for name, odd in (("a", 1.0), ("b", -2.0), ("c", 1.0))
    ]
    whole = dict.fromkeys("abc", 1.0)
    assert compared(found, whole) == pytest.approx((6 / 3 * 3 / 2, 2))
    rare = [ExcessErrors(each.tenant, 100, each.excess, 0.5) for each in found]
    assert compared(rare, whole) == pytest.approx((6 / 1.5 * 3 / 2, 1.5))


def test_a_tenants_weight_is_limited_to_three_standard_deviations() -> None:
    found = [ExcessErrors("a", 100, 0.0, 1.0), ExcessErrors("b", 100, 50.0, 1.0)]
    clipped = compared(found, {"a": 1.0, "b": 1.0})
    assert clipped == pytest.approx((9 * PRIOR / 2 * 2, 1))
    scaled = compared(found, {"a": 1.0, "b": 0.1})
    assert scaled == pytest.approx((9 * PRIOR * 0.1 / 1.1 * 2, 1))


def test_two_tenants_can_be_compared() -> None:
    found = [ExcessErrors("a", 100, 1.0, 1.0), ExcessErrors("b", 100, -1.0, 1.0)]
    assert compared(found, {"a": 1.0, "b": 1.0}) == pytest.approx((2.0, 1))


@pytest.mark.parametrize(
    ("tenants", "trim", "is_known"),
    [
        pytest.param(29, FIFTHS, False, id="29 are too few for a fifth"),
        pytest.param(30, FIFTHS, True, id="30 are not"),
        pytest.param(8, THIRDS, False, id="8 are too few for a third"),
        pytest.param(9, THIRDS, True, id="9 are not"),
    ],
)
def test_a_trimmed_mean_needs_enough_tenants(tenants: int, trim: Trim, *, is_known: bool) -> None:
    assert (
        trimmed([excess(f"{n}", 100, 10) for n in range(tenants)], trim) is not None
    ) is is_known


@pytest.mark.parametrize("bad", [0, 500])
def test_the_fifth_of_tenants_with_outliers_is_trimmed(bad: float) -> None:
    usual = [excess(f"{n:03}", 500, 50) for n in range(80)]
    odd = [excess(f"x{n}", 500, bad) for n in range(20)]
    assert trimmed([*usual, *odd], FIFTHS) == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("share", [0.05, 0.07, 0.10, 0.2])
@pytest.mark.parametrize("trim", [FIFTHS, THIRDS])
def test_a_trimmed_mean_of_rare_errors_is_close_to_the_mean(share: float, trim: Trim) -> None:
    rng = random.Random(5)
    bad = [sum(rng.random() < share for _ in range(5)) for _ in range(40_000)]
    found = trimmed([excess(f"{n:05}", 5, b, share) for n, b in enumerate(bad)], trim)
    assert found == pytest.approx(sum(bad) / 5 / len(bad) - share, abs=0.004)


def clustered(
    tenants: int, calls: int, share: float, correlation: float, seed: int = 3
) -> Clustering | None:
    """Tenants whose own shares vary so that calls of one are correlated by so much."""
    rng, likeness = random.Random(seed), 1 / correlation - 1 if correlation else 0.0
    found = []
    for n in range(tenants):
        own = rng.betavariate(share * likeness, (1 - share) * likeness) if likeness else share
        found.append(excess(f"{n}", calls, sum(rng.random() < own for _ in range(calls)), share))
    return clustering(found, {e.tenant: 1.0 for e in found}, PRIOR)


@pytest.mark.parametrize(
    ("calls", "correlation"), [(50, 0.0), (50, 0.01), (50, 0.05), (100, 0.03), (1, 0.0)]
)
def test_clustering_follows_the_correlation_within_tenants(calls: int, correlation: float) -> None:
    found = clustered(2000, calls, 0.1, correlation)
    assert found is not None
    assert found.effect == pytest.approx(1 + (calls - 1) * correlation, rel=0.15)


@pytest.mark.parametrize(
    ("found", "effect"),
    [
        pytest.param([], PRIOR, id="without evidence: the prior"),
        pytest.param([Clustering(1.0, 30)], 1.6, id="as much evidence as the prior: the mean"),
        pytest.param([Clustering(1.0, 1e9)], 1.0, id="much evidence: the observed value"),
        pytest.param([Clustering(0.3, 1e9)], 1.0, id="never below one"),
        pytest.param([Clustering(99.0, 1e9)], 8.8, id="never above four times the prior"),
        pytest.param([Clustering(1.5, 1e6), Clustering(1.6, 1e6), Clustering(99.0, 1.5e6)], 1.6,
                     id="one outlier has little effect"),
    ],
)  # fmt: skip
def test_the_design_effect_is_shrunk_to_the_prior_and_bounded(
    found: list[Clustering], effect: float
) -> None:
    assert design_effect(found, PRIOR) == pytest.approx(effect, abs=0.001)


@pytest.mark.parametrize(
    "excesses",
    [
        pytest.param([], id="no tenants"),
        pytest.param([excess("a", 100, 10)], id="one tenant"),
        pytest.param([excess("a", 9, 0, 0.0), excess("b", 9, 0, 0.0)], id="no errors"),
    ],
)
def test_clustering_needs_two_tenants_and_errors(excesses: list[ExcessErrors]) -> None:
    assert clustering(excesses, {"a": 1.0, "b": 1.0}, PRIOR) is None
