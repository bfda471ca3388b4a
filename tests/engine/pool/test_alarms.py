"""Evictions need errors that many tenants see; those by broken tenants are undone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from tests.support.pool_timelines import BINDING, START, Hour, endpoint_after, steady_policy
from tests.support.traffic_counts import make_counts
from tests.support.worlds import HOUR, MODEL

from assay.engine.evidence.observations import CallsByTenant
from assay.engine.pool.judge import Judgment, judge
from assay.engine.pool.transition import _longer_run
from assay.engine.snapshot.pool_memory import (
    EMPTY_MEMORY,
    EVICTED,
    MEMBER,
    PoolMemory,
    PoolState,
)
from assay.engine.world.catalog import Model
from assay.engine.world.clock import EPOCH, HOURS_PER_DAY
from assay.engine.world.measurements import TrafficCounts
from assay.engine.world.traffic_table import TrafficTable
from assay.engine.world.world import World

TENANTS, BEFORE = 40, 500  # each with so many calls of each endpoint in the month before
Calls = tuple[int, int]  # tool-call requests, and errored ones
TAGS = "abcd"


def usual(errored: int = 0) -> dict[tuple[str, str], Calls]:
    """Return ten calls of each tenant at each endpoint."""
    return {(tag, f"t{n:03}"): (10, errored) for tag in TAGS for n in range(TENANTS)}


def hour_of(*parts: Mapping[tuple[str, str], Calls]) -> dict[tuple[str, str], Calls]:
    return {key: calls for part in parts for key, calls in part.items()}


def failing(tenants: Iterable[int], tags: str, calls: int) -> dict[tuple[str, str], Calls]:
    return {(tag, f"t{n:03}"): (calls, calls) for tag in tags for n in tenants}


def live(*hours: Mapping[tuple[str, str], Calls]) -> list[Judgment]:
    """Close an hour after a good month, and then these hours."""
    total = dict.fromkeys(usual(), (BEFORE, 5))
    done: list[Judgment] = []
    memory: PoolMemory = EMPTY_MEMORY
    for number, hour in enumerate([usual(), *hours]):
        for key, (calls, errored) in hour.items():
            before = total.get(key, (0, 0))
            total[key] = before[0] + calls, before[1] + errored
        traffic = [counts(number, key, total[key], hour.get(key, (0, 0))) for key in total]
        fold = next(iter(steady_policy().folds))
        endpoints = tuple(endpoint_after(tag, Hour(99.0)) for tag in TAGS)
        world = World((Model(MODEL),), endpoints, traffic={fold: TrafficTable.of(traffic)})
        as_of = START + number * HOUR
        done.append(judge(world, steady_policy(), as_of, memory, closes_hour=True))
        memory = done[-1].memory
    return done


def counts(number: int, key: tuple[str, str], total: Calls, hour: Calls) -> TrafficCounts:
    end = (START - EPOCH) // HOUR + number
    made = make_counts(*total, tag=key[0], tenant=key[1], hour=hour)
    return replace(made, first_hour=end - 30 * HOURS_PER_DAY, last_hour=end - 1)


def state(judged: Judgment, tag: str = "a") -> PoolState:
    return judged.memory.states[BINDING, f"{MODEL}@{tag}"]


def causes(done: Iterable[Judgment], tag: str = "a") -> list[str]:
    return [c.cause for each in done for c in each.changes if c.endpoint_id == f"{MODEL}@{tag}"]


def test_errors_that_all_tenants_see_evict_within_the_hour() -> None:
    done = live(usual(errored=3))
    assert causes(done) == ["evidence", "admitted", "fast"]


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(failing([100], "a", 5000), id="one tenant"),
        pytest.param(failing(range(100, 120), "a", 20), id="twenty tenants with little use"),
        pytest.param({("a", "t100"): (5000, 600)}, id="one with few errors among many calls"),
    ],
)
def test_errors_that_few_tenants_see_do_not(hostile: dict[tuple[str, str], Calls]) -> None:
    done = live(hour_of(usual(), hostile), hour_of(hostile), usual(), usual())
    assert causes(done) == ["evidence", "admitted"]


def test_an_alarm_that_few_tenants_raise_waits_for_others() -> None:
    """At night three of forty tenants call, and err."""
    night = {("a", f"t{n:03}"): (100, 40) for n in range(3)}
    quiet, *_, loud = live(night, night, hour_of(usual(errored=4)))[1:]
    assert state(quiet).state == MEMBER
    assert 0 < state(quiet).cusum <= steady_policy().bindings[BINDING].memory.cusum_limit
    assert sorted(state(quiet).run) == ["t000", "t001", "t002"]
    assert state(loud).state == EVICTED


def test_an_eviction_by_tenants_that_turn_out_to_be_broken_is_undone() -> None:
    """Half of the tenants send a schema that nothing fits, first to one provider."""
    half = range(20)
    first = hour_of(usual(), failing(half, "a", 400))
    later = hour_of(usual(), failing(half, "bc", 400))
    done = live(first, later, usual())
    assert causes(done[:2]) == ["evidence", "admitted", "fast"]
    assert causes(done)[3:] == ["retracted"]
    restored = state(done[-1])
    assert (restored.state, restored.evictions, restored.forgotten) == (MEMBER, 0, None)
    (change,) = [c for each in done for c in each.changes if c.cause == "retracted"]
    assert "eviction is undone" in change.message


def test_a_run_drops_tenants_that_called_long_ago() -> None:
    run: CallsByTenant = {"once": (10.0, 1.0)}
    kept = []
    for _ in range(14 * 24):
        run = _longer_run(run, {"hourly": (10.0, 1.0)})
        kept.append("once" in run)
    assert kept[24]
    assert not kept[-1]
    assert set(run) == {"hourly"}


def test_other_evictions_are_not_undone() -> None:
    done = live(usual(errored=4), usual())
    assert causes(done) == ["evidence", "admitted", "fast"]
    assert state(done[-1]).state == EVICTED
