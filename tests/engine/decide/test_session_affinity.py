"""A conversation that names its previous endpoint keeps it; a session without one moves rarely."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tests.support.worlds import (
    MODEL,
    OTHER,
    endpoint,
    endpoint_ids,
    judge_world,
    make_moment,
    make_observation,
    make_request,
    mixed_snapshot,
    plan_for,
    throughput,
    world,
)

from assay.engine.decide.ordering import seed_for
from assay.engine.decide.plan import plan
from assay.engine.snapshot.snapshot import Snapshot

OFFERS = tuple(f"p{n}" for n in range(8))
PRESENT = st.sets(st.sampled_from(OFFERS), min_size=1).map(frozenset)
SUFFIXES = ("", ":nitro", ":floor")


@cache
def offering(tags: frozenset[str]) -> Snapshot:
    """Return a snapshot with these equal endpoints, which differ in price and speed only."""
    offers = [
        endpoint(tag, price=float(tag[1]) + 1.0, **throughput(float(tag[1]) + 1.0))
        for tag in sorted(tags)
    ]
    return judge_world(world(*offers))


@settings(max_examples=60)
@given(
    PRESENT,
    st.lists(PRESENT, min_size=1, max_size=6),
    st.sampled_from(SUFFIXES),
    st.sampled_from([{}, {"tools": 2}, {"sort": "price"}, {"sort": "latency"}]),
    st.text(min_size=1, max_size=8),
)
def test_a_conversation_keeps_its_endpoint_whatever_joins_or_leaves(
    first: frozenset[str],
    changes: list[frozenset[str]],
    suffix: str,
    more: dict[str, Any],
    session: str,
) -> None:
    def served(tags: frozenset[str], turn: int, previous: str) -> str:
        seed = seed_for(b"", "acme", MODEL, session if turn % 2 else "", f"decision-{turn}")
        answer = plan_for(
            offering(tags),
            MODEL + suffix,
            at=make_moment(seed),
            previous_endpoint_id=previous,
            **more,
        )
        return endpoint_ids(answer)[0]

    kept = served(first, 0, "")
    for turn, present in enumerate(changes, 1):
        assert served(present | {kept.partition("@")[2]}, turn, kept) == kept


def test_without_a_previous_endpoint_only_sessions_that_the_newcomer_wins_move() -> None:
    def first(tags: tuple[str, ...], session: str) -> str:
        snapshot = judge_world(world(*(endpoint(tag) for tag in tags)))
        seed = seed_for(b"", "", MODEL, session, "")
        return endpoint_ids(plan_for(snapshot, at=make_moment(seed)))[0]

    sessions = [f"session-{n}" for n in range(300)]
    two, three = ("a", "b"), ("a", "b", "c")
    before = {session: first(two, session) for session in sessions}
    after = {session: first(three, session) for session in sessions}
    moved = [session for session in sessions if before[session] != after[session]]
    assert {after[session] for session in moved} == {f"{MODEL}@c"}
    assert 70 <= len(moved) <= 130  # a third of 300


@pytest.mark.parametrize(
    ("previous", "more", "expected"),
    [
        pytest.param("", {}, "", id="none was named"),
        pytest.param(f"{MODEL}@good3", {}, "kept", id="the first attempt"),
        pytest.param(f"{MODEL}@good3", {"order": ("good1",)}, "outranked", id="behind an order"),
        pytest.param(
            f"{MODEL}@good3", {"health": {f"{MODEL}@good3": "failing"}}, "demoted", id="failing"
        ),
        pytest.param(f"{MODEL}@good3", {"ignore": ("good3",)}, "excluded", id="ignored"),
        pytest.param(f"{MODEL}@good3", {"allow_fallbacks": False}, "kept", id="without fallbacks"),
        pytest.param(
            f"{MODEL}@good3",
            {"allow_fallbacks": False, "health": {f"{MODEL}@good3": "failing"}},
            "excluded",
            id="without fallbacks while failing",
        ),
        pytest.param(f"{MODEL}@gone", {}, "unknown", id="not an endpoint any more"),
        pytest.param(f"{OTHER}@good1", {}, "unknown", id="an endpoint of another model"),
        pytest.param(
            f"{MODEL}@weak1", {"tools": 2}, "outranked", id="evidently worse at calling tools"
        ),
        pytest.param(f"{MODEL}@good4", {"tools": 2}, "kept", id="one of the good ones"),
    ],
)
def test_the_plan_says_what_became_of_the_previous_endpoint(
    previous: str, more: dict[str, Any], expected: str
) -> None:
    health = more.get("health", {})
    wanted = {name: value for name, value in more.items() if name != "health"}
    asked = make_request(previous_endpoint_id=previous, **wanted)
    answer = plan(asked, mixed_snapshot(), make_moment(health=health))
    assert answer.affinity == expected


def test_a_failing_endpoint_that_has_no_rival_is_kept() -> None:
    only = judge_world(world(endpoint("a")))
    health = {f"{MODEL}@a": "failing"}
    answer = plan_for(only, at=make_moment(health=health), previous_endpoint_id=f"{MODEL}@a")
    assert answer.affinity == "kept"


def test_a_conversation_leaves_an_endpoint_that_turned_bad_at_tools() -> None:
    offers = [endpoint("good"), endpoint("bad", price=0.1)]

    def first(errored: int) -> str:
        seen = [make_observation("good"), make_observation("bad", errored=errored)]
        snapshot = judge_world(world(*offers, observations=seen))
        previous = f"{MODEL}@bad"
        return endpoint_ids(plan_for(snapshot, tools=1, previous_endpoint_id=previous))[0]

    assert first(errored=0) == f"{MODEL}@bad"
    assert first(errored=600) == f"{MODEL}@good"
