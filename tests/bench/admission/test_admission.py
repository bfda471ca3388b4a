"""The admission bench discounts like the store, and few hostile tenants move no pool."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import Engine, Table, insert
from tests.bench.admission.attacks import ATTACKS, attempt, cost, ground, planned, usual_mix
from tests.bench.admission.faults import FaultWorld, TierWorld, TrickWorld, admitted, delay, tier_3
from tests.bench.admission.honest import HonestWorld, week
from tests.bench.admission.ledger import Ledger
from tests.bench.admission.manipulation import Attack, manipulation
from tests.bench.admission.pools import FIRST, HOUR, SOURCE, START, Counted, endpoints
from tests.bench.admission.profiles import profile
from tests.bench.admission.traffic import Ints, traffic

from assay.engine.world.clock import HOURS_PER_DAY
from assay.engine.world.measurements import TrafficCounts
from assay.store.evidence_tables import evidence_counter, evidence_day
from assay.store.traffic import load_traffic

HOURS = 11 * HOURS_PER_DAY + 7


def test_the_bench_discounts_counts_like_the_store(store: Engine) -> None:
    names = [e.endpoint_id for e in endpoints(5, 1)]
    seen = traffic(np.full(5, 0.95), np.array([0.5, 1e3, 7e3, 5e4, 1e6]), 1)
    counted, spec = Counted.nothing(5, HOURS), profile("exacto").bound.evidence
    for hour in range(HOURS):
        counted.add(*seen.hour(np.array([1.0, hour > 30, 1.0, 1.0, hour < 200])))
    write(store, evidence_counter, "hour", names, counted, 1)
    write(store, evidence_day, "day", names, counted, HOURS_PER_DAY)
    with store.connect() as connection:
        (loaded,) = load_traffic(connection, {spec.key: spec}, START + HOURS * HOUR).values()
    ours = counted.tallies(names, spec, counted.steps(spec))
    stored = tuple(t for t in loaded.rows() if t.observed.tool_call_requests)
    assert [without_hours(t) for t in ours] == [without_hours(t) for t in stored]
    assert len({t.half_life for t in ours}) > 2


def without_hours(tally: TrafficCounts) -> TrafficCounts:
    """Drop the first and last hour, which the store knows only by the day."""
    return replace(tally, first_hour=0, last_hour=0)


def write(
    store: Engine, table: Table, span: str, names: list[str], counted: Counted, length: int
) -> None:
    rows = [
        {
            "endpoint_id": name,
            "source": SOURCE,
            "tenant": "",
            "stratum": 0,
            span: FIRST // length + n,
            "requests": 2 * int(calls),
            "tool_call_requests": int(calls),
            "errored_requests": int(errored),
            "auto_requests": 2 * int(calls),
            "auto_tool_call_requests": int(calls),
        }
        for name, *both in zip(names, counted.calls, counted.errored, strict=True)
        for n, (calls, errored) in enumerate(
            zip(*(by_span(each, length) for each in both), strict=True)
        )
        if calls
    ]
    with store.begin() as connection:
        connection.execute(insert(table), rows)


def by_span(counts: Ints, length: int) -> list[int]:
    return [int(counts[n : n + length].sum()) for n in range(0, len(counts), length)]


@pytest.mark.parametrize("attack", [Attack(1, 10**7), Attack(20, 10**5)], ids=["one", "twenty"])
def test_few_hostile_tenants_change_no_pool(attack: Attack) -> None:
    quiet, found = manipulation(profile("exacto"), [Attack(0, 0), attack], 3)
    assert not found.admitted
    assert not found.evicted
    assert found.read - quiet.read < 0.015  # twenty make 14 times the calls of all others here


@pytest.mark.parametrize("attack", [Attack(400, 10**4)], ids=["as many as are honest"])
def test_many_hostile_tenants_change_a_pool(attack: Attack) -> None:
    (found,) = manipulation(profile("exacto"), [attack], 3)
    assert found.admitted
    assert found.evicted


def test_a_ledger_with_one_tenant_has_the_discounted_counts_of_the_store() -> None:
    seen = traffic(np.full(2, 0.95), np.array([900.0, 7e3]), 1)
    counted, spec = Counted.nothing(2, HOURS), profile("exacto").bound.evidence
    ledger = Ledger([(0, "", 0), (1, "", 0)], np.zeros((0, 6, 2)))
    for _ in range(HOURS):
        calls, errored = seen.hour(np.ones(2))
        counted.add(calls, errored)
        ledger.add_hour(np.stack([2 * calls, calls, errored, 2 * calls, calls, 2 * calls]), {})
    names = [e.endpoint_id for e in endpoints(2, 1)]
    ours = ledger.tallies(dict(enumerate(names)), spec)
    theirs = counted.tallies(names, spec, counted.steps(spec))
    assert [without_hours(t) for t in ours] == [without_hours(t) for t in theirs]


def test_an_attack_without_requests_changes_nothing() -> None:
    world = ground(usual_mix(5), 1)
    for name in ("victim-hour", "heavy-tags"):
        assert attempt(world, ATTACKS[name], 1, 0) == world.by_day.members, name


def test_the_cost_of_an_attack_counts_every_request_of_every_hostile_tenant() -> None:
    world = ground(usual_mix(5), 1)
    for name in ("victim-hour", "victim-spread", "praise-93", "thin-tags"):
        _, plan = planned(world, ATTACKS[name], 3, 24)
        assert cost(plan) == 24, name


def test_accurate_endpoints_stay_in_the_pool_and_inaccurate_ones_stay_out() -> None:
    found = week(HonestWorld("unnamed", 3), days=1)
    assert found.inside[:3].tolist() == [1.0, 1.0, 1.0]
    assert not found.inside[-1]


def test_a_member_that_turns_bad_leaves_the_pool() -> None:
    assert delay(FaultWorld(".985 to .90", 1, 3)) < np.inf


def test_a_provider_without_a_trick_and_an_accuracy_below_the_threshold_is_not_admitted() -> None:
    assert not admitted(TrickWorld(".86 without a trick", 5, 1))


def test_equal_endpoints_with_many_requests_are_never_in_tier_3() -> None:
    assert tier_3(TierWorld(1000.0, 1), days=1) == 0.0
