"""Pool memory forgets part of an evicted endpoint's evidence, decayed over time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest
from hypothesis import given, strategies as st
from tests.support.worlds import AS_OF, HOUR

from assay.engine.snapshot.pool_memory import (
    NO_COUNTS,
    DecayedCounts,
    ForgottenEvidence,
    counts_in_row,
    forget_evidence,
    forgotten_counts,
    subtract_counts,
)

ROW: Mapping[str, object] = {
    "id": "a",
    "tools.requests": 300.0,
    "tools.tool_call_requests": 200.0,
    "tools.errored_requests": 10.0,
}


def row(requests: float, calls: float, errored: float) -> Mapping[str, object]:
    return {
        "tools.requests": requests,
        "tools.tool_call_requests": calls,
        "tools.errored_requests": errored,
    }


def forgotten(
    requests: float, calls: float, errored: float, hours: float = 12.0
) -> ForgottenEvidence:
    return ForgottenEvidence(AS_OF, hours * HOUR, DecayedCounts(requests, calls, errored))


@pytest.mark.parametrize(
    ("age", "half_life", "expected"),
    [
        pytest.param(0, 12, (180.0, 120.0, 4.0), id="at once"),
        pytest.param(12, 12, (90.0, 60.0, 2.0), id="forgotten counts decay like evidence"),
        pytest.param(24, 12, (45.0, 30.0, 1.0), id="half-life by half-life"),
        pytest.param(24, 24, (180.0, 120.0, 2.0),
                     id="a longer half-life raises old calls, not errors"),
        pytest.param(12, 6, (22.5, 15.0, 1.0), id="a shorter half-life lowers old calls"),
        pytest.param(24, 168, (270.0, 180.0, 3.622),
                     id="at most the share that may be forgotten"),
    ],
)  # fmt: skip
def test_forgotten_counts_decay_like_evidence(
    age: int, half_life: int, expected: tuple[float, float, float]
) -> None:
    out = forgotten_counts(
        forgotten(180.0, 120.0, 4.0), ROW, AS_OF + age * HOUR, half_life * HOUR, 0.1
    )
    assert (out.requests, out.calls, out.errored) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("what", "of", "half_life"),
    [
        pytest.param(None, ROW, 12 * HOUR, id="nothing is forgotten"),
        pytest.param(forgotten(1.0, 1.0, 0.0), {"id": "a"}, 12 * HOUR, id="nothing is known"),
        pytest.param(forgotten(1.0, 1.0, 0.0), ROW, None, id="nothing fresh"),
    ],
)
def test_without_fresh_evidence_no_counts_are_forgotten(
    what: ForgottenEvidence | None, of: Mapping[str, object], half_life: timedelta | None
) -> None:
    assert forgotten_counts(what, of, AS_OF, half_life, 0.1) == NO_COUNTS
    assert subtract_counts(of, NO_COUNTS) is of


def test_subtracting_counts_leaves_other_facts_unchanged() -> None:
    of = {**ROW, "tools.errored_requests_lenient": 3.0}
    assert subtract_counts(of, DecayedCounts(30.0, 20.0, 4.0)) == {
        "id": "a", "tools.requests": 270.0, "tools.tool_call_requests": 180.0,
        "tools.errored_requests": 6.0, "tools.errored_requests_lenient": 0.0,
    }  # fmt: skip


def test_an_eviction_keeps_a_tenth_of_the_evidence() -> None:
    first = forget_evidence(ROW, NO_COUNTS, AS_OF, HOUR, 0.1)
    assert first == ForgottenEvidence(AS_OF, HOUR, DecayedCounts(270.0, 180.0, 9.0))
    kept = subtract_counts(ROW, first.amounts)
    assert counts_in_row(kept) == DecayedCounts(30.0, 20.0, 1.0)
    second = forget_evidence(kept, first.amounts, AS_OF, HOUR, 0.1)
    assert second
    assert second.amounts.calls == pytest.approx(198.0)


def test_without_evidence_there_is_nothing_to_forget() -> None:
    assert forget_evidence({"id": "a"}, NO_COUNTS, AS_OF, None, 0.1) is None


@pytest.mark.parametrize(("age", "faded"), [(0, False), (239, False), (240, True)])
def test_faded_evidence_is_recognized(age: int, *, faded: bool) -> None:
    assert forgotten(1e9, 1e9, 1e9).has_faded(AS_OF + age * HOUR) is faded


amounts = st.floats(0.0, 1e9)
spans = st.floats(1.0, 200.0).map(lambda hours: hours * HOUR)


@given(
    st.tuples(amounts, amounts, amounts),
    st.tuples(amounts, amounts, amounts),
    spans,
    spans,
    spans,
    st.floats(0, 1),
)
def test_remaining_counts_are_consistent(
    known: tuple[float, float, float],
    gone: tuple[float, float, float],
    then: timedelta,
    now: timedelta,
    age: timedelta,
    keep: float,
) -> None:
    of = row(*sorted(known, reverse=True))
    out = forgotten_counts(
        ForgottenEvidence(AS_OF, then, DecayedCounts(*sorted(gone, reverse=True))),
        of,
        AS_OF + age,
        now,
        keep,
    )
    before, left = counts_in_row(of), counts_in_row(subtract_counts(of, out))
    slack = 1e-6 * before.requests
    assert 0.0 <= left.errored <= left.calls + slack
    assert left.calls <= left.requests + slack
    assert left.calls >= keep * before.calls - slack
    assert left.calls <= before.calls
