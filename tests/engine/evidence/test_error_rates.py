"""The rate of errors as a product of pool, stratum, tenant and endpoint."""

from __future__ import annotations

import numpy as np
import pytest

from assay.engine.evidence.error_rates import Cells, fit, standardize

Row = tuple[int, int, int, float, float]  # endpoint, tenant, stratum, calls, errored


def cells(*rows: Row, is_typical: tuple[bool, ...] | None = None) -> Cells:
    endpoint, tenant, stratum = (np.array([row[n] for row in rows]) for n in range(3))
    calls, errored = (np.array([float(row[n]) for row in rows]) for n in (3, 4))
    typical = np.array(is_typical or (True,) * len(rows))
    sizes = [int(each.max()) + 1 for each in (endpoint, tenant, stratum)]
    kinds = np.arange(sizes[2])
    return Cells(
        endpoint, tenant, stratum, calls, errored, typical, sizes[0], sizes[1], sizes[2], kinds
    )


def accuracies(of: Cells) -> list[float]:
    found = standardize(of, fit(of))
    return [1 - bad / size for bad, size in zip(found.errored, found.size, strict=True)]


def test_one_tenant_and_one_kind_of_request_keep_their_plain_counts() -> None:
    found = standardize(of := cells((0, 0, 0, 500, 14), (1, 0, 0, 300, 0)), fit(of))
    assert found.size.tolist() == [500, 300]
    assert found.errored.tolist() == [14, 0]


def test_nothing_errs_where_no_call_does() -> None:
    of = cells((0, 0, 0, 500, 0), (1, 1, 1, 300, 0))
    found = standardize(of, fit(of))
    assert found.errored.tolist() == [0, 0]
    assert all(0 < size <= calls for size, calls in zip(found.size, (500, 300), strict=True))


def test_an_endpoint_with_difficult_tenants_is_not_rejected_for_them() -> None:
    """Both endpoints make the same errors of the same tenant; one has mostly the difficult one."""
    of = cells(
        (0, 0, 0, 9000, 90), (0, 1, 0, 1000, 100), (1, 0, 0, 1000, 10), (1, 1, 0, 9000, 900)
    )  # fmt: skip
    easy, difficult = accuracies(of)
    assert easy == pytest.approx(difficult, abs=0.002)
    assert easy == pytest.approx(0.945, abs=0.002)


def test_an_endpoint_is_not_admitted_on_the_credit_of_its_peers() -> None:
    """It errs in 15 % of its calls, all of one kind that its peers serve with 2 % errors."""
    peers = [(n, 0, k, 5000.0, 100.0) for n in (1, 2, 3) for k in (0, 1)]
    of = cells((0, 0, 0, 500, 75), *peers)
    assert accuracies(of)[0] == pytest.approx(0.85, abs=0.01)
    assert standardize(of, fit(of)).size[0] < 300  # it says little of the other kind


def test_nothing_is_gained_by_refusing_hard_requests() -> None:
    """All err in 1 % of easy and 8 % of hard requests; the last serves easy ones alone."""
    both = [(n, 0, k, 5000.0, 5000 * rate) for n in range(3) for k, rate in ((0, 0.01), (1, 0.08))]
    of = cells(*both, (3, 0, 0, 10_000, 100))
    *others, refusing = accuracies(of)
    assert refusing <= min(others) + 0.001


def test_the_thirtieth_call_of_a_kind_changes_little() -> None:
    pool = [(1, 0, k, 5000.0, 100.0) for k in (0, 1)]
    sizes = []
    for calls in (29, 30, 31):
        of = cells((0, 0, 0, 5000, 100), (0, 0, 1, calls, 1), *pool)
        sizes.append(float(standardize(of, fit(of)).size[0]))
    assert max(sizes) - min(sizes) < 0.05 * sizes[0]


def test_an_untypical_cell_says_nothing_of_its_tenant() -> None:
    rows = [(n, t, 0, 1000.0, 10.0) for n in range(3) for t in range(5)]
    rows[0] = (0, 0, 0, 1000.0, 900.0)
    typical = tuple(n > 0 for n in range(15))
    of = cells(*rows, is_typical=typical)
    assert accuracies(of)[0] == pytest.approx(1 - 940 / 5000, abs=0.01)
    assert accuracies(of)[1:] == pytest.approx([0.99, 0.99], abs=0.002)


@pytest.mark.parametrize("seed", range(4))
def test_differences_of_tenants_hardly_move_an_accuracy_with_pinned_routing(seed: int) -> None:
    draw = np.random.default_rng(seed)
    true = np.array([0.995, 0.99, 0.98, 0.97, 0.95, 0.90])
    factor = np.exp(draw.normal(0, 1.0, 100))
    calls = draw.poisson(600 * draw.dirichlet(np.full(6, 0.5), 100))
    factor /= (factor * calls.sum(axis=1)).sum() / calls.sum()
    errored = draw.binomial(calls, np.clip((1 - true) * factor[:, None], 0, 1))
    rows = [
        (n, t, 0, float(calls[t, n]), float(errored[t, n]))
        for n in range(6)
        for t in range(100)
        if calls[t, n]
    ]
    plain = 1 - errored.sum(axis=0) / calls.sum(axis=0)
    ours = np.array(accuracies(cells(*rows))) - true
    assert np.sqrt(np.mean(ours**2)) < 0.7 * np.sqrt(np.mean((plain - true) ** 2)) + 0.002
