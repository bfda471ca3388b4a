"""Scorecards: what an endpoint outside a pool lacks, and what would admit it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, strategies as st
from tests.support.worlds import (
    AS_OF,
    HOUR,
    MODEL,
    endpoint,
    make_observation,
    shipped_policy,
    world,
)

from assay.engine.pool.judge import judge
from assay.engine.pool.report import pool_report
from assay.engine.pool.scorecard import MOST_REQUESTS, Scorecard, fewest, scorecards
from assay.engine.snapshot.pool_memory import PoolMemory, PoolState
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.measurements import Observation

POOL = f"{MODEL}:exacto"


def cards(snapshot: Snapshot) -> dict[str, Scorecard]:
    return {c.endpoint.verdict.tag: c for c in scorecards(snapshot, pool_report(snapshot, POOL))}


def judged_with(*observations: Observation) -> dict[str, Scorecard]:
    tags = ("good", "other", "new")
    return cards(
        judge(
            world(*(endpoint(t) for t in tags), observations=observations), shipped_policy(), AS_OF
        ).snapshot
    )


def with_more(seen: Observation, calls: int) -> Observation:
    return Observation(
        seen.endpoint_id, seen.source, seen.observed_from, seen.observed_to, seen.requests + calls,
        seen.tool_call_requests + calls, seen.errored_requests,
    )  # fmt: skip


def test_members_have_no_scorecard() -> None:
    assert set(judged_with(make_observation("good"))) == {"other", "new"}


def test_a_scorecard_lists_the_broken_rule_with_its_values() -> None:
    card = judged_with(make_observation("good"), make_observation("new", errored=200, calls=2000))[
        "new"
    ]
    [broken] = card.broken
    assert (broken.rule, broken.reason) == ("tool_accuracy", "ACCURACY")
    seen = dict(broken.seen)
    assert seen["params.accuracy_enter"] == 0.95
    assert isinstance(seen["endpoint.tools.errored_requests"], float)


def test_accuracy_has_an_interval_over_effective_requests() -> None:
    share = judged_with(make_observation("new", errored=110, calls=2200, age=timedelta(0)))[
        "new"
    ].accuracy
    assert share is not None
    assert share.requests == pytest.approx(1000)
    assert share.value == pytest.approx(0.95)
    assert 0.93 < share.low < 0.95 < share.high < 0.97


def test_an_unobserved_endpoint_needs_as_much_as_a_newcomer() -> None:
    card = judged_with(make_observation("good"))["new"]
    assert card.accuracy is None
    assert [f.reason for f in card.broken] == ["EVIDENCE_ABSENT"] * 2
    assert card.hours is None
    needed = card.clean_requests
    assert needed is not None
    assert "new" not in judged_with(
        make_observation("good"), make_observation("new", 0, needed, needed, age=timedelta(0))
    )
    assert "new" in judged_with(
        make_observation("good"),
        make_observation("new", 0, needed - 1, needed - 1, age=timedelta(0)),
    )


@given(st.integers(0, 150), st.integers(200, 1500))
def test_the_stated_number_of_clean_requests_is_the_least_that_admits(
    errored: int, calls: int
) -> None:
    seen = make_observation("new", errored, calls, calls, age=timedelta(0))
    card = judged_with(seen).get("new")
    if card is None or not card.clean_requests:
        return
    assert "new" not in judged_with(with_more(seen, card.clean_requests))
    assert "new" in judged_with(with_more(seen, card.clean_requests - 1))


def test_the_hours_needed_follow_from_the_request_rate() -> None:
    seen = make_observation(
        "new", errored=10, calls=100, requests=200, age=timedelta(0), length=10 * HOUR
    )
    card = judged_with(seen)["new"]
    assert card.clean_requests is not None
    assert card.hours == pytest.approx(card.clean_requests / 10)


def test_no_number_is_stated_when_another_rule_is_broken() -> None:
    five = [make_observation(tag) for tag in ("a", "b", "c", "d", "e")]
    seldom = make_observation("new", calls=2000, requests=200_000)
    tags = ("a", "b", "c", "d", "e", "new")
    snapshot = judge(
        world(*(endpoint(t) for t in tags), observations=[*five, seldom]), shipped_policy(), AS_OF
    ).snapshot
    card = cards(snapshot)["new"]
    assert [f.reason for f in card.broken] == ["PROPENSITY", "USABILITY"]
    assert card.clean_requests is None


def test_an_evicted_endpoint_has_the_end_of_its_hold() -> None:
    until = AS_OF + 12 * HOUR
    state = PoolState(
        "exacto", MODEL, f"{MODEL}@new", "evicted", AS_OF - HOUR, evictions=1, held_until=until
    )
    known = world(
        endpoint("good"),
        endpoint("new"),
        observations=[make_observation("good"), make_observation("new")],
    )
    done = judge(known, shipped_policy(), AS_OF, PoolMemory({state.key: state}), closes_hour=True)
    card = cards(done.snapshot)["new"]
    assert card.held_until == until
    assert card.endpoint.state == "evicted"
    assert card.clean_requests == 0


@given(st.one_of(st.none(), st.integers(0, MOST_REQUESTS)))
def test_the_search_finds_the_least_number(least: int | None) -> None:
    assert fewest(lambda n: least is not None and n >= least) == least
