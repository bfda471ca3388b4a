"""Evidence that arrives after its hour was closed counts in the next tick, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from tests.support.pool_timelines import BINDING, START, Hour, endpoint_after, steady_policy
from tests.support.traffic_counts import make_counts
from tests.support.worlds import HOUR, MODEL

from assay.engine.evidence.observations import HourCounts
from assay.engine.pool.judge import Judgment, judge
from assay.engine.pool.transition import cusum
from assay.engine.snapshot.pool_memory import (
    EMPTY_MEMORY,
    LATE_HOURS,
    NOTHING_COUNTED,
    CountedHour,
    PoolMemory,
    PoolState,
)
from assay.engine.world.catalog import Model
from assay.engine.world.clock import EPOCH
from assay.engine.world.measurements import HourOfTraffic, Observation, TrafficCounts
from assay.engine.world.traffic_table import TrafficTable
from assay.engine.world.world import World

NAME = f"{MODEL}@a"
FIRST = (START - EPOCH) // HOUR - 1  # the hour that tick 0 closes
Counted = tuple[int, int]
Known = Mapping[int, Counted]
"""Tool-call requests and errored requests of the hour that each tick closes, as known later."""


def tick(
    n: int, known: Known, memory: PoolMemory, uptime: float = 99.0, tenant: str = ""
) -> Judgment:
    """Close the n-th hour; `known` is what the counters hold by then."""
    late = []
    for hour, counts in sorted(known.items()):
        before = memory.counted.get(FIRST + hour, {}).get(NAME, NOTHING_COUNTED)
        if hour != n and FIRST + hour in memory.counted and counts != before[:2]:
            late.append(HourOfTraffic(FIRST + hour, *counts))
    total = sum(calls for calls, _ in known.values())
    bad = sum(errored for _, errored in known.values())
    traffic = make_counts(total, bad, tenant=tenant, hour=known.get(n, (0, 0)))
    return judge(world(uptime, replace(traffic, late=tuple(late))), steady_policy(),
                 START + n * HOUR, memory, closes_hour=True)  # fmt: skip


def world(uptime: float, *traffic: TrafficCounts, seen: Sequence[Observation] = ()) -> World:
    fold = next(iter(steady_policy().folds))
    endpoint = endpoint_after("a", Hour(uptime))
    return World(
        (Model(MODEL),), (endpoint,), tuple(seen), traffic={fold: TrafficTable.of(traffic)}
    )


def run(*known: Known) -> list[Judgment]:
    done: list[Judgment] = []
    for n, each in enumerate(known):
        done.append(tick(n, each, done[-1].memory if done else EMPTY_MEMORY))
    return done


def state(done: Judgment) -> PoolState:
    return done.memory.states[BINDING, NAME]


def expected_cusum(*hours: Counted) -> float:
    """Return the CUSUM after ticks that counted so much each."""
    binding, total = steady_policy().bindings[BINDING], 0.0
    assert binding.accuracy is not None
    for hour in hours:
        effect = binding.evidence.design_effect
        total = cusum(total, HourCounts(*hour), binding.memory, binding.accuracy, effect)
    return total


def test_400_bad_calls_of_500_evict_although_they_arrive_after_their_hour() -> None:
    *_, before, after = run({0: (100, 0)}, {0: (100, 0)}, {0: (100, 0), 1: (500, 400), 2: (90, 1)})
    assert (state(before).state, state(after).state) == ("member", "evicted")
    (change,) = after.changes
    assert (change.cause, change.facts["hour.calls"], change.facts["hour.errored"]) == (
        "fast", 590, 401,
    )  # fmt: skip
    assert (change.facts["late.calls"], change.facts["late.errored"]) == (500, 400)
    assert change.message.startswith(
        "401 of 590 tool-call requests of the hour, and of 500 late ones of the day, errored"
    )


@pytest.mark.parametrize(
    ("known", "counted"),
    [
        pytest.param(
            [{}, {}, {1: (60, 9)}, {1: (60, 9)}], [(0, 0), (60, 9), (0, 0)], id="once"
        ),
        pytest.param(
            [{}, {1: (40, 4)}, {1: (100, 14)}, {1: (160, 24)}],
            [(40, 4), (60, 10), (60, 10)], id="what is new of an hour",
        ),
        pytest.param(
            [{}, {}, {}, {1: (50, 7), 2: (10, 1), 3: (40, 4)}],
            [(0, 0), (0, 0), (100, 12)], id="several hours together, with the tick's own",
        ),
        pytest.param(
            [{0: (50, 1)}, {0: (900, 500)}, {0: (900, 500), 1: (40, 4)}],
            [(0, 0), (40, 4)], id="not of hours before it came in",
        ),
    ],
)  # fmt: skip
def test_each_tick_counts_what_is_new(known: list[Known], counted: list[Counted]) -> None:
    *_, last = run(*known)
    assert state(last).cusum == pytest.approx(expected_cusum(*counted))


def test_what_arrives_more_than_a_day_late_does_not_count() -> None:
    known: list[Known] = [{} for _ in range(LATE_HOURS + 2)]
    in_time = [*known[:-1], {2: (500, 400)}]
    too_late = [*known[:-1], {1: (500, 400)}]
    assert state(run(*in_time)[-1]).state == "evicted"
    after = run(*too_late)[-1]
    assert (state(after).state, state(after).cusum) == ("member", 0.0)
    assert len(after.memory.counted) == LATE_HOURS - 1


def test_hours_closed_by_an_earlier_version_do_not_count_again() -> None:
    before = run({}, {1: (100, 0)})[-1].memory
    released = PoolMemory(before.states)
    after = tick(2, {1: (100, 0), 2: (10, 0)}, released)
    assert (state(after).cusum, list(after.memory.counted)) == (0.0, [FIRST + 2])


def test_between_hours_nothing_counts() -> None:
    memory = run({}, {})[-1].memory
    between = judge(
        world(99.0, make_counts(500, 400, tenant="", hour=(500, 400))), steady_policy(),
        START + HOUR, memory, closes_hour=False,
    )  # fmt: skip
    assert between.memory.counted == memory.counted
    assert state(between) is memory.states[BINDING, NAME]


def observed(hour: int, calls: int, errored: int) -> Observation:
    end = START + hour * HOUR
    return Observation(NAME, "monitor", end - HOUR, end, 2 * calls, calls, errored)


def test_observations_that_are_imported_late_count_too_and_withdrawn_ones_do_not_count_twice() -> (
    None
):
    def judge_with(n: int, memory: PoolMemory, *seen: Observation) -> Judgment:
        of = world(99.0, seen=seen)
        return judge(of, steady_policy(), START + n * HOUR, memory, closes_hour=True)

    first = judge_with(0, EMPTY_MEMORY)
    second = judge_with(1, first.memory)
    late = judge_with(2, second.memory, observed(1, 60, 9), observed(2, 40, 0))
    assert state(late).cusum == pytest.approx(expected_cusum((100, 9)))
    assert late.memory.counted[FIRST + 1] == {NAME: CountedHour(0, 0, 60, 9)}
    withdrawn = judge_with(3, late.memory, observed(2, 40, 0))
    again = judge_with(4, withdrawn.memory, observed(1, 60, 9), observed(2, 40, 0))
    assert state(again).cusum == pytest.approx(state(late).cusum)


def test_caps_on_tenants_hold_for_late_calls() -> None:
    """One tenant's calls count by the same factor, in time or late."""
    many = {1: (20_000, 0), 2: (20_000, 3000)}
    in_time = tick(2, many, run({}, {1: (20_000, 0)})[-1].memory, tenant="t")
    memory = run({}, {1: (20_000, 0)}, {1: (20_000, 0)})[-1].memory
    late = tick(3, many, memory, tenant="t")
    (one,), (other,) = in_time.changes, late.changes
    assert one.facts["hour.calls"] == pytest.approx(other.facts["late.calls"])
    assert one.facts["hour.errored"] == pytest.approx(other.facts["late.errored"])
    assert 0 < float(str(one.facts["hour.calls"])) < 20_000
