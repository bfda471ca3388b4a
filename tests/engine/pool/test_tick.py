"""Pools with memory, tested with histories of endpoints: one letter is one hour."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.pool_timelines import (
    BINDING,
    START,
    changes,
    hours_since_start,
    run_ticks,
    states,
    steady_policy,
    world_after,
)
from tests.support.worlds import (
    HOUR,
    MEMBERS,
    MODEL,
    describe_findings,
    judge_world,
    mixed_snapshot,
    mixed_world,
    shipped_policy,
)

from assay.engine.policy.verdict import Verdict
from assay.engine.pool.judge import Judgment, judge, rejudge
from assay.engine.pool.report import pool_report
from assay.engine.pool.transition import hold_after, ordinal
from assay.engine.snapshot.pool_memory import EMPTY_MEMORY, PoolMemory, PoolState
from assay.engine.snapshot.snapshot import Snapshot, restore_snapshot
from assay.engine.world.measurements import Observation
from assay.engine.world.world import World

# Hours: g good, m good enough to stay, b bad, x many bad calls at once, c a few too many, w both,
# n/0 good/bad and nothing observed, - not in the catalog.
# States: . unknown, p probation, M member, E evicted.
# An eviction holds for 3 h, then 6 h, then 8 h at most.


@pytest.mark.parametrize(
    ("life", "expected"),
    [
        pytest.param("000", "...", id="an unobserved endpoint is not stored"),
        pytest.param("0b0", ".pp", id="an observed endpoint is on probation"),
        pytest.param("ggg", "MMM", id="admission needs no dwell time"),
        pytest.param("bmg", "ppM", id="the stay rules do not admit a new endpoint"),
        pytest.param("nnn", "MMM", id="rules without evidence admit at once"),
        pytest.param("gmm", "MMM", id="a member stays by the stay rules"),
        pytest.param("gbm", "MMM", id="one bad hour does not evict"),
        pytest.param("gbmbm", "MMMMM", id="two bad hours that are not consecutive do not evict"),
        pytest.param("gbb", "MME", id="two consecutive bad hours evict"),
        pytest.param("gbbggggg", "MMEEEMMM", id="it is readmitted after three hours"),
        pytest.param("gbbbbbb", "MMEEEpp", id="a bad endpoint is on probation after its hold"),
        pytest.param("gbbgggbbgggggggg", "MMEEEMMEEEEEEMMM", id="the second hold is twice as long"),
        pytest.param(
            "gbbgggbbggggggbbgggggggggg",
            "MMEEEMMEEEEEEMMEEEEEEEEMMM",
            id="the third hold has the maximum length",
        ),
        pytest.param("gx", "ME", id="many bad calls evict at once"),
        pytest.param("gxggg", "MEEEM", id="a fast eviction holds as long as a slow one"),
        pytest.param("gcc", "MME", id="smaller excesses accumulate"),
        pytest.param("gcgcg", "MMMMM", id="good hours reduce the sum"),
        pytest.param("gcnc", "MMME", id="hours without calls change nothing"),
        pytest.param("xxx", "MEE", id="the hour of admission does not count"),
        pytest.param("gw", "ME", id="a fast eviction precedes a slow one"),
        pytest.param(
            "g-g", "M.M", id="the state of an endpoint that leaves the catalog is dropped"
        ),
        pytest.param("gbb-ggg", "MMEEEMM", id="leaving the catalog does not shorten a hold"),
        pytest.param("gbb---g", "MMEEE.M", id="after the hold, an absent endpoint is forgotten"),
        pytest.param("gb-b", "MM.p", id="leaving the catalog resets failures"),
    ],
)
def test_the_history_of_one_endpoint(life: str, expected: str) -> None:
    done = run_ticks({"a": life})
    assert states(done, "a") == expected


@pytest.mark.parametrize(
    ("lives", "minimum", "memory", "expected"),
    [
        pytest.param({"a": "gbbb", "b": "gbbb", "c": "gbbb"}, 0, "",
                     {"a": "MMEE", "b": "MMME", "c": "MMMM"},
                     id="one slow eviction per hour, ties by id"),
        pytest.param({"a": "gbb", "b": "gbb", "c": "gbb"}, 0, "slowEvictions: 2",
                     {"a": "MME", "b": "MME", "c": "MMM"},
                     id="as many slow evictions as configured"),
        pytest.param({"a": "gbbb", "b": "cbbb"}, 0, "", {"a": "MMME", "b": "MMEE"},
                     id="the least accurate member is evicted first"),
        pytest.param({"a": "gbbgg", "b": "gbbgg"}, 0, "", {"a": "MMEEE", "b": "MMMMM"},
                     id="an endpoint may recover before its slow eviction"),
        pytest.param({"a": "gxx", "b": "gxx"}, 0, "", {"a": "MEE", "b": "MEE"},
                     id="fast evictions have no limit"),
        pytest.param({"a": "gbbb", "b": "gbbb"}, 1, "", {"a": "MMEE", "b": "MMMM"},
                     id="the minimum stays"),
        pytest.param({"a": "gbbb", "b": "gggg"}, 2, "", {"a": "MMMM", "b": "MMMM"},
                     id="the minimum keeps a single bad member"),
        pytest.param({"a": "gx", "b": "gg"}, 2, "", {"a": "MM", "b": "MM"},
                     id="the minimum keeps a member with an alarm"),
        pytest.param({"a": "gbb", "b": "bbg"}, 1, "", {"a": "MME", "b": "ppM"},
                     id="an admission allows an eviction in the same hour"),
        pytest.param({"a": "gxbb", "b": "gbbb"}, 1, "", {"a": "MEEE", "b": "MMMM"},
                     id="an evicted member does not count for the minimum"),
        pytest.param({"a": "gbb", "b": "gbb"}, 5, "", {"a": "MMM", "b": "MMM"},
                     id="a minimum above their number"),
        pytest.param({"a": "gb", "b": "gg"}, 0, "slowFailures: 1", {"a": "ME", "b": "MM"},
                     id="one failure"),
        pytest.param({"a": "gbbb", "b": "gg"}, 0, "slowFailures: 3", {"a": "MMME", "b": "MM"},
                     id="three failures"),
        pytest.param({"a": "gcc"}, 0, "cusumLimit: 4.0", {"a": "MEE"}, id="a lower limit"),
        pytest.param({"a": "gcc"}, 0, "cusumCap: 100.0", {"a": "MMM"},
                     id="a higher cap per hour"),
    ],
)  # fmt: skip
def test_the_history_of_a_pool(
    lives: dict[str, str], minimum: int, memory: str, expected: dict[str, str]
) -> None:
    done = run_ticks(lives, steady_policy(minimum, memory))
    assert {tag: states(done, tag) for tag in lives} == {
        tag: life.ljust(len(done), life[-1]) for tag, life in expected.items()
    }


@pytest.mark.parametrize(
    ("life", "between", "expected"),
    [
        pytest.param(
            "gbbb", " ~~ ", "MMMM", id="judging between hours does not count as a failure"
        ),
        pytest.param(
            "gb~b".replace("~", "m"),
            "  ~ ",
            "MMMM",
            id="judging between hours does not reset failures",
        ),
        pytest.param("gxx", " ~ ", "MME", id="judging between hours does not add to the sum"),
        pytest.param("ng", "~~", "MM", id="a new endpoint is admitted between hours"),
        pytest.param("bgg", "~~ ", "ppM", id="a known endpoint waits for the hour"),
        pytest.param(
            "gbbgggg", "     ~ ", "MMEEEEM", id="an endpoint after its hold waits for the hour"
        ),
        pytest.param("g-g", "~~~", "M.M", id="an endpoint that leaves the catalog is removed"),
    ],
)
def test_the_history_of_one_endpoint_between_hours(life: str, between: str, expected: str) -> None:
    assert states(run_ticks({"a": life}, between=between), "a") == expected


def verdicts(done: Judgment) -> dict[str, Verdict]:
    return {v.tag: v for v in done.snapshot.pools[BINDING, MODEL].verdicts}


def test_exactly_the_members_are_admitted() -> None:
    for done in run_ticks(
        {"a": "gbbggggg", "b": "bbbgggxg", "c": "gmmm-000", "d": "00000ggb"}, between="  ~  ~~ "
    ):
        members = {s.endpoint_id for s in done.memory.states.values() if s.state == "member"}
        assert {v.endpoint_id for v in verdicts(done).values() if v.admitted} == members


def test_a_member_lists_its_broken_rules_without_being_excluded() -> None:
    _, failing, _ = run_ticks({"a": "gbg"})
    verdict = verdicts(failing)["a"]
    assert verdict.admitted
    assert describe_findings(verdict.abstained) == [("up", "BENCHMARK", "false")]


def test_an_evicted_endpoint_lists_its_hold_and_broken_rules() -> None:
    done = run_ticks({"a": "gbbbbb"})
    until = f"held out until {START + 5 * HOUR:%Y-%m-%d %H:%M} UTC after its 1st eviction"
    for held_hour in done[2:5]:
        broken = verdicts(held_hour)["a"].broken
        assert describe_findings(broken) == [
            ("hold", "HELD", "false"),
            ("up", "BENCHMARK", "false"),
        ]
        assert [f.message for f in broken] == [until, "below high"]
    assert describe_findings(verdicts(done[5])["a"].broken) == [("up", "BENCHMARK", "false")]


def test_a_held_endpoint_that_meets_the_rules_lists_only_its_hold() -> None:
    assert describe_findings(verdicts(run_ticks({"a": "gbbg"})[3])["a"].broken) == [
        ("hold", "HELD", "false")
    ]
    (waiting,) = verdicts(run_ticks({"a": "bg"}, between=" ~")[1])["a"].broken
    assert (waiting.reason, waiting.message) == ("HELD", "it may come in once the hour is closed")


def test_a_member_kept_by_the_minimum_has_that_reason() -> None:
    kept = verdicts(run_ticks({"a": "gbb", "b": "ggg"}, steady_policy(2))[2])["a"]
    assert kept.admitted
    assert describe_findings(kept.abstained) == [
        ("minimum", "HELD_BY_MINIMUM", "false"),
        ("up", "BENCHMARK", "false"),
    ]
    assert "keeps at least 2 members" in kept.abstained[0].message


def test_every_change_has_a_cause_and_a_message() -> None:
    found = changes(run_ticks({"a": "bgbbgggx-"}))
    assert [(hours_since_start(c.at), c.before, c.after, c.cause) for c in found] == [
        (0, "unknown", "probation", "evidence"),
        (1, "probation", "member", "admitted"),
        (3, "member", "evicted", "slow"),
        (6, "evicted", "probation", "hold_over"),
        (6, "probation", "member", "admitted"),
        (7, "member", "evicted", "fast"),
    ]
    slow, fast = found[2], found[5]
    assert (
        slow.message
        == "failed at 2 closed hours in a row: below low; held out until 2025-09-23 18:00 UTC"
    )
    assert describe_findings(slow.reasons) == [("up", "BENCHMARK", "false")]
    assert slow.facts["endpoint.uptime_percent"] == 50.0
    assert slow.facts["memory.slow_failures"] == 2
    assert fast.message.startswith("400 of 1000 tool-call requests of the hour errored")
    assert describe_findings(fast.reasons) == [("cusum", "ACCURACY", "false")]
    assert (
        fast.facts["hour.calls"],
        fast.facts["hour.errored"],
        fast.facts["memory.evictions"],
    ) == (1000, 400, 1)
    assert (found[3].message, found[4].message) == (
        "the hold after its 1st eviction is over",
        "every enter rule holds",
    )


def test_leaving_the_catalog_is_a_change() -> None:
    (*_, change) = changes(run_ticks({"a": "g-"}))
    assert (change.before, change.after, change.cause, change.message) == (
        "member", "unknown", "departed", "it left the catalog",
    )  # fmt: skip


def test_a_missed_hour_resets_consecutive_failures() -> None:
    lives = {"a": "gbbb"}
    first, second, *_ = run_ticks(lives)
    late = judge(
        world_after(lives, 3), steady_policy(), START + 3 * HOUR, second.memory, closes_hour=True
    )
    assert states([first, second, late], "a") == "MMM"


def test_unchanged_states_are_reused() -> None:
    first, second = run_ticks({"a": "gg", "b": "bb"})
    assert all(second.memory.states[key] is state for key, state in first.memory.states.items())
    assert second.changes == ()


def test_states_of_unknown_pools_are_kept() -> None:
    elsewhere = PoolState("elsewhere", MODEL, f"{MODEL}@gone", "member", START)
    (done,) = run_ticks({"a": "g"}, memory=PoolMemory({elsewhere.key: elsewhere}))
    assert done.memory.states[elsewhere.key] is elsewhere


# -- under the shipped policy ----------------------------------------------------------------------


def test_the_first_tick_admits_as_judging_without_memory_does() -> None:
    done = judge(
        mixed_world(), shipped_policy(), mixed_snapshot().as_of, EMPTY_MEMORY, closes_hour=True
    )
    assert {
        s.endpoint_id
        for s in done.memory.states.values()
        if s.state == "member" and s.model == MODEL
    } == MEMBERS
    for key, pool in mixed_snapshot().pools.items():
        assert done.snapshot.pools[key].verdicts == pool.verdicts
        keys = [endpoint.keys for endpoint in done.snapshot.pools[key].endpoints]
        assert keys == [endpoint.keys for endpoint in pool.endpoints]


def test_a_snapshot_with_memory_is_restored_unchanged() -> None:
    for done in run_ticks({"a": "gbbggg", "b": "bbbggg", "c": "0"}):
        restored = restore_snapshot(done.snapshot.manifest, done.snapshot.parts, steady_policy())
        assert (restored.snapshot_id, restored.pools) == (
            done.snapshot.snapshot_id,
            done.snapshot.pools,
        )


def test_a_snapshot_without_memory_has_no_standings() -> None:
    assert all(b"standings" not in data for data in mixed_snapshot().parts.values())
    assert all(not pool.has_memory for pool in mixed_snapshot().pools.values())


def test_a_report_has_states_and_their_start() -> None:
    report = pool_report(
        run_ticks({"a": "ggg", "b": "bbg", "c": "000"}, between="  ~")[2].snapshot,
        f"{MODEL}:{BINDING}",
    )
    found = {j.verdict.tag: (j.state, j.since) for j in (*report.members, *report.others)}
    assert found == {"a": ("member", START), "b": ("probation", START), "c": ("unknown", None)}
    (without, *_) = pool_report(
        judge_world(world_after({"a": "g"}, 0), steady_policy()), f"{MODEL}:{BINDING}"
    ).members
    assert (without.state, without.since) == (None, None)


def test_rejudging_by_the_same_policy_changes_nothing() -> None:
    for done in run_ticks(
        {"a": "gbbggg", "b": "bbbggg", "c": "gbgbbb", "d": "g-gmgg"},
        steady_policy(1),
        between="     ~",
    ):
        restored = rejudge(done.snapshot, steady_policy(1), [MODEL])
        assert restored.pools == done.snapshot.pools


def test_rejudging_uses_the_other_policys_stay_rules_and_keeps_holds() -> None:
    snapshot = run_ticks({"a": "gmm", "b": "gbb", "c": "ggg"})[2].snapshot
    strict = steady_policy(low=95.0)
    found = {
        v.tag: [f.reason for f in v.broken]
        for v in rejudge(snapshot, strict, [MODEL]).pools[BINDING, MODEL].verdicts
    }
    assert found == {"a": ["BENCHMARK"], "b": ["HELD", "BENCHMARK"], "c": []}


def closing(world: World, hour: int, memory: PoolMemory) -> Judgment:
    """Close the hour that ends so many hours after the mixed snapshot, by the shipped policy."""
    as_of = mixed_snapshot().as_of + hour * HOUR
    return judge(world, shipped_policy(), as_of, memory, closes_hour=True)


def world_with_errors() -> World:
    """The mixed world, in which good1 has an hour of many errors."""
    of = mixed_world()
    return replace(of, observations=(*of.observations, after(1, errored=50, calls=150)))


def test_rejudging_does_not_count_forgotten_evidence() -> None:
    of = world_with_errors()
    evicted = closing(of, 1, closing(of, 0, EMPTY_MEMORY).memory)
    over = closing(of, 25, evicted.memory)
    assert not verdict_in(over.snapshot, "good1").admitted
    again = rejudge(over.snapshot, shipped_policy(), over.snapshot.models)
    assert again.pools == over.snapshot.pools


def test_evidence_stays_forgotten_on_probation() -> None:
    of, key = world_with_errors(), ("exacto", f"{MODEL}@good1")
    evicted = closing(of, 1, closing(of, 0, EMPTY_MEMORY).memory)
    over = closing(of, 25, evicted.memory)
    later = closing(of, 26, over.memory)
    assert [done.memory.states[key].state for done in (over, later)] == ["probation"] * 2


def test_readmission_requires_new_evidence() -> None:
    of, at = world_with_errors(), mixed_snapshot().as_of
    key = ("exacto", f"{MODEL}@good1")
    evicted = closing(of, 1, closing(of, 0, EMPTY_MEMORY).memory)
    assert (evicted.memory.states[key].state, evicted.changes[0].cause) == ("evicted", "fast")
    over = closing(of, 25, evicted.memory)
    assert verdict_in(over.snapshot, "good1").broken[0].reason == "ACCURACY"
    assert verdict_in(judge_world(of, as_of=at + 25 * HOUR), "good1").admitted
    renewed = replace(of, observations=(*of.observations, after(26, errored=5, calls=1000)))
    assert closing(renewed, 26, over.memory).memory.states[key].state == "member"


def after(hour: int, *, errored: int, calls: int) -> Observation:
    """What was observed of good1 in the hour that ended so many hours later."""
    end = mixed_snapshot().as_of + hour * HOUR
    return Observation(f"{MODEL}@good1", "monitor", end - HOUR, end, calls * 3 // 2, calls, errored)


def verdict_in(snapshot: Snapshot, tag: str) -> Verdict:
    return next(v for v in snapshot.pools["exacto", MODEL].verdicts if v.tag == tag)


# -- holds and words -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evictions", "hours"), [(1, 24), (2, 48), (3, 96), (4, 168), (5, 168), (10**6, 168)]
)  # fmt: skip
def test_holds_grow_up_to_a_week(evictions: int, hours: int) -> None:
    assert hold_after(shipped_policy().bindings["exacto"].memory, evictions) == hours * HOUR


@pytest.mark.parametrize(
    ("number", "word"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"),
     (21, "21st"), (102, "102nd"), (111, "111th")],
)  # fmt: skip
def test_ordinals_have_the_english_suffix(number: int, word: str) -> None:
    assert ordinal(number) == word
