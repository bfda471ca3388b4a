"""Ended windows are folded into evidence, discounted by age and compared with peers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, strategies as st
from tests.support.worlds import AS_OF, HOUR, MODEL, make_observation

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.evidence.observations import (
    EndpointEvidence,
    FoldedCounts,
    fold_observations,
    half_life_of,
)
from assay.engine.world.measurements import Counts, Observation

SPEC = EvidenceSpec()
MOMENT = timedelta(microseconds=1)


def folded(*observations: Observation, spec: EvidenceSpec = SPEC) -> EndpointEvidence:
    (evidence,) = fold_observations(observations, spec, AS_OF).values()
    return evidence


def known(*observations: Observation, spec: EvidenceSpec = SPEC) -> FoldedCounts:
    found = folded(*observations, spec=spec).folded
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("age", "counts", "stale"),
    [
        pytest.param(-MOMENT, False, False, id="still open"),
        pytest.param(timedelta(0), True, False, id="ended at this instant"),
        pytest.param(HOUR, True, False, id="ended before"),
        pytest.param(SPEC.max_age, True, False, id="as old as the limit"),
        pytest.param(SPEC.max_age + MOMENT, False, True, id="older than the limit"),
    ],
)
def test_a_window_counts_once_it_has_ended_until_it_is_too_old(
    age: timedelta, *, counts: bool, stale: bool
) -> None:
    evidence = fold_observations([make_observation("a", age=age)], SPEC, AS_OF).get(f"{MODEL}@a")
    assert (evidence is not None and evidence.folded is not None) is counts
    assert (evidence is not None and evidence.stale) is stale


def test_age_runs_from_the_end_of_the_window() -> None:
    long = make_observation("a", age=HOUR, length=SPEC.max_age + HOUR)
    assert known(long).observed == Counts(3000, 2000, 0)


def test_fresh_windows_outlive_stale_ones() -> None:
    stale = make_observation("a", errored=2000, age=SPEC.max_age + HOUR)
    evidence = folded(stale, make_observation("a", errored=1))
    assert not evidence.stale
    assert evidence.folded is not None
    assert evidence.folded.observed.errored_requests == 1


def test_every_endpoint_is_folded_separately() -> None:
    evidence = fold_observations(
        [
            make_observation("a", errored=1),
            make_observation("b", errored=2),
            make_observation("b", errored=4),
        ],
        SPEC,
        AS_OF,
    )
    assert {
        name: e.folded.observed.errored_requests
        for name, e in evidence.items()
        if e.folded is not None
    } == {
        f"{MODEL}@a": 1,
        f"{MODEL}@b": 6,
    }


def test_folding_keeps_sources_times_and_counts() -> None:
    early = make_observation(
        "a", source="lab", age=30 * HOUR, length=2 * HOUR, requests=10, calls=5
    )
    late = make_observation(
        "a", source="gateway", age=HOUR, length=HOUR, requests=100, calls=50, errored=3
    )
    found = known(late, early)
    assert found.sources == ("gateway", "lab")
    assert (found.observed_from, found.observed_to) == (early.observed_from, late.observed_to)
    assert found.observed == Counts(110, 55, 3)


@pytest.mark.parametrize(
    ("calls", "length", "hours"),
    [
        # target / (calls / design effect / hours of observation)
        pytest.param(2200, 50 * HOUR, 100.0, id="by the effective rate"),
        pytest.param(
            10**9, HOUR, 12.0, id="a busy endpoint forgets no faster than the lower bound"
        ),
        pytest.param(
            1, 1000 * HOUR, 168.0, id="a quiet endpoint forgets no slower than the upper bound"
        ),
        pytest.param(0, HOUR, 168.0, id="a window without calls has no rate either"),
        pytest.param(5, timedelta(0), 168.0, id="a window without length has no rate"),
    ],
)
def test_half_life_follows_the_effective_rate_within_bounds(
    calls: int, length: timedelta, hours: float
) -> None:
    assert half_life_of(
        [make_observation("a", calls=calls, length=length)], SPEC
    ) / HOUR == pytest.approx(hours)


@pytest.mark.parametrize("halvings", [0, 1, 2, 5])
def test_counts_halve_with_every_half_life(halvings: int) -> None:
    spec = replace(SPEC, half_life_min=10 * HOUR, half_life_max=10 * HOUR)
    found = known(
        make_observation("a", errored=40, calls=800, requests=1600, age=10 * HOUR * halvings),
        spec=spec,
    )
    assert found.discounted == Counts(1600 / 2**halvings, 800 / 2**halvings, 40 / 2**halvings)
    assert found.observed == Counts(1600, 800, 40)


def test_each_window_is_discounted_by_its_own_age() -> None:
    spec = replace(SPEC, half_life_min=HOUR, half_life_max=HOUR)
    found = known(
        make_observation("a", calls=8, age=HOUR),
        make_observation("a", calls=16, age=3 * HOUR),
        spec=spec,
    )
    assert found.discounted.tool_call_requests == 8 / 2 + 16 / 8


WINDOWS = st.lists(
    st.builds(
        make_observation,
        st.sampled_from("ab"),
        errored=st.integers(0, 9),
        calls=st.integers(9, 99),
        requests=st.integers(99, 999),
        source=st.sampled_from(["lab", "gateway"]),
        age=st.integers(-2, 2300).map(lambda hours: hours * HOUR),
        length=st.integers(1, 48).map(lambda hours: hours * HOUR),
        reference=st.booleans(),
    ),
    max_size=8,
)


@given(WINDOWS, st.data())
def test_order_of_windows_does_not_matter(windows: list[Observation], data: st.DataObject) -> None:
    assert fold_observations(data.draw(st.permutations(windows)), SPEC, AS_OF) == fold_observations(
        windows, SPEC, AS_OF
    )


@given(st.permutations([3, 10**15 + 1, 7 * 10**14 + 3]))
def test_order_of_windows_over_the_same_time_does_not_matter(calls: list[int]) -> None:
    windows = [make_observation("a", calls=n, requests=n, age=37 * HOUR) for n in calls]
    assert fold_observations(windows, SPEC, AS_OF) == fold_observations(
        sorted(windows, key=lambda o: o.requests), SPEC, AS_OF
    )


@given(WINDOWS)
def test_discounted_counts_are_at_most_the_observed_ones(windows: list[Observation]) -> None:
    for evidence in fold_observations(windows, SPEC, AS_OF).values():
        if evidence.folded is not None:
            seen, discounted = evidence.folded.observed, evidence.folded.discounted
            assert 0 <= discounted.tool_call_requests <= seen.tool_call_requests
            assert (
                discounted.errored_requests
                <= discounted.tool_call_requests
                <= discounted.requests
                <= seen.requests
            )


@pytest.mark.parametrize(
    ("requests", "main"),
    [
        pytest.param({"lab": 100, "gateway": 99}, "lab", id="the source with the most requests"),
        pytest.param(
            {"lab": 99, "gateway": 100}, "gateway", id="the larger source, in any position"
        ),
        pytest.param({"lab": 100, "gateway": 100}, "lab", id="ties are broken by name"),
    ],
)
def test_propensity_uses_the_source_with_the_most_requests(
    requests: dict[str, int], main: str
) -> None:
    found = known(
        *(make_observation("a", source=s, requests=n, calls=n // 2) for s, n in requests.items())
    )
    assert found.main_source == main
    assert found.by_source[found.main_source] == Counts(requests[main], requests[main] // 2, 0)
