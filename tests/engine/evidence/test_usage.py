"""Tenants count by their share of use; few that err far more than others are left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from tests.support.traffic_counts import NOW, SPEC, blend_counts, make_counts

from assay.engine.evidence.observations import FoldedCounts
from assay.engine.evidence.usage import (
    TenantUse,
    add_up,
    bound,
    convincing_counts,
    largest_share,
    pool_usage,
)
from assay.engine.world.measurements import TrafficCounts

MONTH = 30 * 24


def counts(tag: str, tenants: range, calls: int, errored: float) -> list[TrafficCounts]:
    """Return counts of some tenants over a month, each with the same share of bad calls."""
    made = (make_counts(calls, calls * errored, tag=tag, tenant=f"t{n:03}") for n in tenants)
    return [replace(each, first_hour=NOW - MONTH) for each in made]


def accuracy(found: FoldedCounts) -> float:
    return 1 - found.discounted.errored_requests / found.discounted.tool_call_requests


# --- shares of use --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "days", "amounts", "whole"),
    [
        pytest.param([10, 10], 21, [10, 10], 20, id="an old pool"),
        pytest.param([10, 10], 3, [10, 10], 140, id="a young one, as if it were three weeks old"),
        pytest.param([10, 0, 10], 21, [10, 0, 10], 20, id="a tenant without use"),
        pytest.param([90, 10, 10, 10], 21, [30, 10, 10, 10], 60, id="none has more than its cap"),
    ],
)
def test_the_use_of_a_pool(
    used: list[float], days: float, amounts: list[float], whole: float
) -> None:
    found = pool_usage(np.array(used, float), days, SPEC)
    assert found.amounts.tolist() == pytest.approx(amounts)
    assert found.whole == pytest.approx(whole)


@pytest.mark.parametrize(
    ("tenants", "share"), [(1, 1.0), (2, 1.0), (4, 0.5), (6, 1 / 3), (30, 0.1), (1000, 0.01)]
)
def test_the_largest_share_of_one_tenant(tenants: int, share: float) -> None:
    assert largest_share(tenants) == pytest.approx(share)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), min_size=1, max_size=40))
def test_no_tenant_has_more_than_its_share_of_an_endpoint(pairs: list[tuple[int, int]]) -> None:
    amounts, use = np.array(pairs, float).T
    found = bound(amounts, np.zeros(len(pairs), np.intp), use, 1, np.inf)
    total = float(found.sum())
    active = float(use[amounts > 0].sum())
    largest = largest_share(max(int((amounts > 0).sum()), 1))
    for amount, cut, own in zip(amounts, found, use / max(active, 1.0), strict=True):
        assert cut <= amount
        assert cut <= min(2 * own, max(own, largest)) * total * (1 + 1e-6) + 1e-3


def test_sums_are_added_in_order() -> None:
    values = [1e16, 1.0, -1e16]
    assert add_up(np.zeros(3, np.intp), values, 1).tolist() == [0.0]


# --- outliers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        pytest.param(1, 0.99, id="one"),
        pytest.param(3, 0.99, id="a few with little use"),
        pytest.param(8, 0.81, id="many: then the endpoint is at fault"),
    ],
)
def test_a_few_tenants_that_err_far_more_are_left_out(failing: int, expected: float) -> None:
    found = blend_counts(
        *counts("a", range(40 - failing), 400, 0.01),
        *counts("a", range(40 - failing, 40), 400, 1.0),
        *counts("b", range(40), 400, 0.01),
    )
    assert accuracy(found["a"]) == pytest.approx(expected, abs=0.02)
    assert accuracy(found["b"]) == pytest.approx(0.99, abs=0.002)


def test_a_fault_that_all_tenants_see_is_never_left_out() -> None:
    found = blend_counts(*counts("a", range(40), 400, 0.10), *counts("b", range(40), 400, 0.01))
    assert accuracy(found["a"]) == pytest.approx(0.90, abs=0.005)


def test_among_fewer_than_five_tenants_nobody_is_left_out() -> None:
    found = blend_counts(*counts("a", range(3), 400, 0.0), *counts("a", range(3, 4), 400, 1.0))
    assert accuracy(found["a"]) == pytest.approx(0.75, abs=0.01)


def test_praise_does_not_make_outliers_of_honest_tenants() -> None:
    honest = counts("a", range(40), 400, 0.07)
    praise = counts("a", range(100, 101), 1_000_000, 0.0)
    found = blend_counts(*honest, *praise)["a"]
    assert accuracy(found) == pytest.approx(0.93, abs=0.01)


# --- tenants that are broken themselves -----------------------------------------------------------


def test_tenants_that_fail_at_three_providers_are_set_aside() -> None:
    honest = [each for tag in "abcd" for each in counts(tag, range(40), 100, 0.01)]
    broken = [each for tag in "abc" for each in counts(tag, range(40, 60), 100, 1.0)]
    found = blend_counts(*honest, *broken)
    assert all(accuracy(found[tag]) == pytest.approx(0.99, abs=0.002) for tag in "abcd")
    use = found["a"].use
    assert use is not None
    assert use.aside == {f"t{n:03}" for n in range(40, 60)}


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param(("a", "b"), id="at two providers"),
        pytest.param(("a", "a/one", "a/two"), id="at three endpoints of one provider"),
    ],
)
def test_tenants_that_fail_at_fewer_providers_are_not(tags: tuple[str, ...]) -> None:
    known = (*tags, "c", "d", "e", "f")
    honest = [each for tag in known for each in counts(tag, range(40), 100, 0.01)]
    failing = [each for tag in tags for each in counts(tag, range(40, 60), 100, 1.0)]
    fine = [each for tag in "cdef" for each in counts(tag, range(40, 60), 100, 0.01)]
    use = blend_counts(*honest, *failing, *fine)["a"].use
    assert use is not None
    assert not use.aside


def test_a_difficult_tenant_is_not_set_aside() -> None:
    honest = [each for tag in "abcd" for each in counts(tag, range(40), 100, 0.01)]
    difficult = [each for tag in "abcd" for each in counts(tag, range(40, 41), 400, 0.12)]
    use = blend_counts(*honest, *difficult)["a"].use
    assert use is not None
    assert not use.aside


# --- alarms ---------------------------------------------------------------------------------------


def pool(tenants: int) -> TenantUse:
    amounts = {f"t{n:03}": 100.0 for n in range(tenants)}
    return TenantUse(amounts, 100.0 * tenants, frozenset({"t000"}))


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        pytest.param({f"t{n:03}": (10, 1) for n in range(1, 40)}, (390, 39), id="all tenants err"),
        pytest.param({f"t{n:03}": (10, 0) for n in range(40)}, (390, 0), id="without broken ones"),
        pytest.param({"t001": (900, 900), **{f"t{n:03}": (10, 0) for n in range(2, 40)}},
                     (380, 0), id="without a single one that fails"),
        pytest.param({"t001": (900, 900), "t002": (9, 0)}, (0, 0), id="too few callers to say"),
        pytest.param({"": (100, 20)}, (100, 20), id="a source vouches for them"),
    ],
)  # fmt: skip
def test_what_counts_for_an_alarm(
    run: dict[str, tuple[float, float]], expected: tuple[float, float]
) -> None:
    assert convincing_counts(run, pool(40), SPEC) == pytest.approx(expected)


def test_among_fewer_than_five_tenants_all_count_for_an_alarm() -> None:
    assert convincing_counts({"t001": (90, 30)}, pool(3), SPEC) == pytest.approx((90, 30))
