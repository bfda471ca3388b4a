"""Properties of pools with memory, under random histories of endpoints."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings, strategies as st
from tests.support.pool_timelines import (
    BINDING,
    LETTERS,
    START,
    changes,
    is_continuous,
    run_ticks,
    steady_policy,
    world_after,
)
from tests.support.worlds import HOUR, MODEL

from assay.engine.pool.judge import Judgment, judge
from assay.engine.pool.transition import hold_after
from assay.engine.snapshot.pool_memory import (
    CAUSES,
    EMPTY_MEMORY,
    MEMBER,
    PoolChange,
    PoolMemory,
    PoolState,
)
from assay.engine.world.world import World

EDGES = {
    ("unknown", "probation"), ("probation", "member"), ("member", "evicted"),
    ("evicted", "probation"), ("probation", "unknown"), ("member", "unknown"),
    ("evicted", "unknown"),
}  # fmt: skip
LENGTH = 14
OFTEN = "ggmbbxwcn0-"
lives = st.fixed_dictionaries(
    {tag: st.text(OFTEN, min_size=LENGTH, max_size=LENGTH) for tag in "abcd"}
)
between = st.text("  ~", min_size=LENGTH, max_size=LENGTH)
lasting = settings(max_examples=40)


def states_of(done: Judgment) -> list[PoolState]:
    return list(done.memory.states.values())


def by_endpoint(found: Iterable[PoolChange]) -> dict[str, list[PoolChange]]:
    own: defaultdict[str, list[PoolChange]] = defaultdict(list)
    for change in found:
        own[change.endpoint_id].append(change)
    return own


@lasting
@given(lives, between, st.integers(0, 5))
def test_every_change_is_a_transition_of_the_diagram(
    lived: dict[str, str], pauses: str, minimum: int
) -> None:
    for own in by_endpoint(
        changes(run_ticks(lived, steady_policy(minimum), between=pauses))
    ).values():
        assert own[0].before == "unknown"
        assert is_continuous(own)
        assert {(c.before, c.after) for c in own} <= EDGES
        assert all(c.cause == "departed" or CAUSES[c.cause] == (c.before, c.after) for c in own)
        assert all(c.message for c in own)
        assert all(bool(c.reasons) is (c.after == "evicted") for c in own)


@lasting
@given(lives, between)
def test_the_memory_equals_the_sum_of_its_changes(lived: dict[str, str], pauses: str) -> None:
    known: dict[str, str] = {}
    for done in run_ticks(lived, between=pauses):
        known |= {c.endpoint_id: c.after for c in done.changes}
        assert {s.endpoint_id: s.state for s in states_of(done)} == {
            endpoint_id: state for endpoint_id, state in known.items() if state != "unknown"
        }
        assert all(key == state.key for key, state in done.memory.states.items())


@lasting
@given(lives, between, st.integers(0, 5))
def test_a_model_has_at_most_one_slow_eviction_per_hour(
    lived: dict[str, str], pauses: str, minimum: int
) -> None:
    for done in run_ticks(lived, steady_policy(minimum), between=pauses):
        assert Counter(c.cause for c in done.changes)["slow"] <= 1


@lasting
@given(lives, between, st.integers(0, 5))
def test_slow_evictions_keep_the_minimum(lived: dict[str, str], pauses: str, minimum: int) -> None:
    for done in run_ticks(lived, steady_policy(minimum), between=pauses):
        if any(c.cause == "slow" for c in done.changes):
            assert sum(s.state == MEMBER for s in states_of(done)) >= minimum


@lasting
@given(lives, between)
def test_no_endpoint_is_readmitted_during_its_hold(lived: dict[str, str], pauses: str) -> None:
    spec = steady_policy().bindings[BINDING].memory
    for own in by_endpoint(changes(run_ticks(lived, between=pauses))).values():
        evictions = 0
        for change, after in pairwise(own):
            evictions += change.after == "evicted"
            if change.after == "evicted":
                assert after.at >= change.at + hold_after(spec, evictions)
            if after.cause == "departed":
                evictions = 0


@lasting
@given(lives, between, st.integers(0, 5))
def test_exactly_the_members_are_admitted(lived: dict[str, str], pauses: str, minimum: int) -> None:
    for done in run_ticks(lived, steady_policy(minimum), between=pauses):
        pool = done.snapshot.pools[BINDING, MODEL]
        members = {s.endpoint_id for s in states_of(done) if s.state == MEMBER}
        assert {v.endpoint_id for v in pool.verdicts if v.admitted} == members
        states = {e.verdict.endpoint_id: e.standing.state for e in pool.endpoints if e.standing}
        assert len(states) == len(pool.endpoints)
        assert {endpoint_id for endpoint_id, state in states.items() if state == MEMBER} == members


@lasting
@given(lives, st.text(OFTEN, min_size=4, max_size=4), st.integers(1, LENGTH - 1))
def test_between_hours_only_new_endpoints_change_state(
    lived: dict[str, str], letters: str, hour: int
) -> None:
    before = run_ticks({tag: life[:hour] for tag, life in lived.items()})[-1].memory
    now = {
        tag: life[:hour] + letter
        for (tag, life), letter in zip(lived.items(), letters, strict=True)
    }
    world = world_after(now, hour)
    done = judge(world, steady_policy(), START + hour * HOUR, before, closes_hour=False)
    assert not any(c.after == "evicted" for c in done.changes)
    present = {e.endpoint_id for e in world.endpoints}
    for key, state in before.states.items():
        if state.endpoint_id in present:
            assert done.memory.states[key] is state


@lasting
@given(lives, st.data(), st.integers(0, 2))
def test_the_order_of_endpoints_does_not_matter(
    lived: dict[str, str], data: st.DataObject, minimum: int
) -> None:
    memory, other = EMPTY_MEMORY, EMPTY_MEMORY
    for n in range(LENGTH):
        world = world_after(lived, n)
        shuffled = replace(
            world,
            endpoints=tuple(data.draw(st.permutations(world.endpoints))),
            observations=tuple(reversed(world.observations)),
        )
        done, shuffled_done = closed(world, n, minimum, memory), closed(shuffled, n, minimum, other)
        assert (done.snapshot.snapshot_id, done.memory, done.changes) == (
            shuffled_done.snapshot.snapshot_id, shuffled_done.memory, shuffled_done.changes,
        )  # fmt: skip
        memory, other = (
            done.memory,
            PoolMemory(
                dict(reversed(list(shuffled_done.memory.states.items()))),
                shuffled_done.memory.counted,
            ),
        )


def closed(world: World, n: int, minimum: int, memory: PoolMemory) -> Judgment:
    return judge(world, steady_policy(minimum), START + n * HOUR, memory, closes_hour=True)


def test_every_letter_is_covered() -> None:
    assert set(OFTEN) == set(LETTERS)
