"""An endpoint lacks a capability if recent refusals of more than one tenant say so."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from assay.engine.evidence.refusals import RefusalCounts, learn_refusals

TODAY = 20_000
SEED = "parameters.seed"


def seen(tenant: str, refused: int, *, answered: int = 0, age: int = 0) -> RefusalCounts:
    return RefusalCounts("lab/one@a", SEED, tenant, TODAY - age, refused, answered)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param([seen("a", 1)], False, id="one refusal"),
        pytest.param([seen("a", 1_000_000)], False, id="a million by one tenant"),
        pytest.param([seen("a", 1), seen("b", 1)], True, id="one each by two tenants"),
        pytest.param([seen("a", 9), seen("b", 0, answered=1)], False, id="the other was answered"),
        pytest.param(
            [seen("a", 1), seen("b", 1), seen("c", 0, answered=1)], False, id="a third was answered"
        ),
        pytest.param(
            [seen("a", 1), seen("b", 1), seen("c", 0, answered=5, age=1)],
            True,
            id="answered before the refusals",
        ),
        pytest.param(
            [seen("a", 1, age=1), seen("b", 1, age=1), seen("c", 0, answered=5)],
            False,
            id="answered after the refusals",
        ),
        pytest.param([seen("a", 1, age=7), seen("b", 1, age=7)], True, id="a half-life ago"),
        pytest.param([seen("a", 1, age=8), seen("b", 1, age=8)], False, id="more than that"),
        pytest.param([seen("a", 99, age=21), seen("b", 99, age=21)], True, id="many, weeks ago"),
        pytest.param([seen("a", 99, age=22), seen("b", 99, age=22)], False, id="and a day"),
    ],
)
def test_refusals_of_several_tenants(counts: list[RefusalCounts], *, expected: bool) -> None:
    found = learn_refusals(counts, TODAY, has_one_tenant=False)
    assert found == ({"lab/one@a": (SEED,)} if expected else {})


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param([seen("", 2)], False, id="two"),
        pytest.param([seen("", 3)], True, id="three"),
        pytest.param([seen("", 1, age=1), seen("", 2)], True, id="on two days"),
        pytest.param([seen("", 3, age=5)], False, id="three, too long ago"),
        pytest.param([seen("", 99, age=7)], True, id="many, a week ago"),
        pytest.param([seen("", 99, age=8)], False, id="and a day"),
        pytest.param([seen("", 3, answered=1)], False, id="answered on the same day"),
    ],
)
def test_refusals_of_the_only_tenant(counts: list[RefusalCounts], *, expected: bool) -> None:
    found = learn_refusals(counts, TODAY, has_one_tenant=True)
    assert found == ({"lab/one@a": (SEED,)} if expected else {})


HOSTILE = st.builds(
    lambda refused, age: seen("hostile", refused, age=age),
    st.integers(0, 10**9),
    st.integers(0, 60),
)


@given(st.lists(HOSTILE))
def test_one_tenant_among_several_never_marks_an_endpoint(counts: list[RefusalCounts]) -> None:
    assert learn_refusals(counts, TODAY, has_one_tenant=False) == {}
