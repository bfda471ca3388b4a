"""Judging gives every endpoint a verdict; missing evidence has its own reasons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tests.support.worlds import (
    AS_OF,
    HOUR,
    MEMBERS,
    MODEL,
    OTHER,
    describe_findings,
    endpoint,
    judge_world,
    make_observation,
    mixed_snapshot,
    mixed_world,
    policy,
    shipped_policy,
    world,
)

from assay.engine.policy.verdict import POOL_REASONS, Verdict
from assay.engine.pool.report import pool_report
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.catalog import Model
from assay.engine.world.measurements import IgnoreVote, Observation
from assay.engine.world.world import Preference, TenantSettings, World

DAY = 24 * HOUR


def verdicts(snapshot: Snapshot, model: str = MODEL, binding: str = "exacto") -> dict[str, Verdict]:
    return {verdict.tag: verdict for verdict in snapshot.pools[binding, model].verdicts}


def test_endpoints_with_good_evidence_are_members() -> None:
    found = verdicts(mixed_snapshot())
    assert {v.endpoint_id for v in found.values() if v.admitted} == MEMBERS
    assert {tag: [f.reason for f in v.broken] for tag, v in found.items() if not v.admitted} == {
        "weak1": ["ACCURACY", "USABILITY"],
        "weak2/fp8": ["ACCURACY"],
        "unseen": ["EVIDENCE_ABSENT", "EVIDENCE_ABSENT"],
        "good1/priority": ["EVIDENCE_ABSENT", "EVIDENCE_ABSENT"],
    }


@pytest.mark.parametrize(
    ("observations", "broken"),
    [
        pytest.param([],
                     [("tool_accuracy", "EVIDENCE_ABSENT", "absent"),
                     ("sample_size", "EVIDENCE_ABSENT", "absent")],
                     id="nothing was observed"),
        pytest.param([make_observation("a", age=-HOUR)],
                     [("tool_accuracy", "EVIDENCE_ABSENT", "absent"),
                     ("sample_size", "EVIDENCE_ABSENT", "absent")],
                     id="the only window is still open"),
        pytest.param([make_observation("a", age=91 * DAY)],
                     [("tool_accuracy", "EVIDENCE_STALE", "absent"),
                     ("sample_size", "EVIDENCE_STALE", "absent")],
                     id="all that was observed is old"),
        pytest.param([make_observation("a", calls=125, requests=150)],
                     [("sample_size", "EVIDENCE_THIN", "false")],
                     id="too few requests"),
        pytest.param([make_observation("a", errored=2, calls=100, requests=150)],
                     [("tool_accuracy", "ACCURACY", "false"),
                     ("sample_size", "EVIDENCE_THIN", "false")],
                     id="too little evidence for confidence"),
        pytest.param([make_observation("a", calls=0)],
                     [("tool_accuracy", "ACCURACY", "false"),
                     ("sample_size", "EVIDENCE_THIN", "false")],
                     id="it never called a tool"),
        pytest.param([make_observation("a", errored=300)], [("tool_accuracy", "ACCURACY", "false")],
                     id="too many bad calls"),
        pytest.param([make_observation("a", errored=10)], [], id="good enough"),
        pytest.param([make_observation("a", errored=10),
                      make_observation("a", errored=2000, age=91 * DAY)], [],
                     id="old errors are not counted"),
    ],
)  # fmt: skip
def test_each_lack_of_evidence_has_its_reason(
    observations: list[Observation], broken: list[tuple[str, str, str]]
) -> None:
    assert (
        describe_findings(
            verdicts(judge_world(world(endpoint("a"), observations=observations)))["a"].broken
        )
        == broken
    )


def test_messages_state_the_counts_and_the_requirement() -> None:
    messages = {
        f.rule: f.message for f in verdicts(judge_world(seen_by({"a": 5}, calls=100)))["a"].broken
    }
    assert messages["sample_size"].endswith("effective tool-call requests; the rule requires 60")
    assert "5.0 of 99.6 tool-call requests errored" in messages["tool_accuracy"]
    assert "95.0%" in messages["tool_accuracy"]


def seen_by(errored: dict[str, int], *, calls: int = 2000, requests: int = 3000) -> World:
    return world(
        *(endpoint(tag) for tag in errored),
        observations=[make_observation(tag, bad, calls, requests) for tag, bad in errored.items()],
    )


def crowd(strange: int, *others: int, reference: bool = False) -> World:
    """Endpoints that call tools in that share of a thousand requests, all without a bad call."""
    shares = {"strange": strange, **{f"peer{n}": share for n, share in enumerate(others)}}
    own = {"peer0"} if reference else set()
    return world(
        *(endpoint(tag) for tag in shares),
        observations=[
            make_observation(t, 0, n, 1000, reference=t in own, length=1000 * DAY)
            for t, n in shares.items()
        ],
    )


@pytest.mark.parametrize(
    ("shares", "reference", "outcome"),
    [
        pytest.param((600, 600, 610, 590, 605), False, "admitted", id="like its peers"),
        pytest.param(
            (300, 600, 610, 590, 605), False, "PROPENSITY", id="far less than four others"
        ),
        pytest.param(
            (900, 600, 610, 590, 605), False, "PROPENSITY", id="far more than four others"
        ),
        pytest.param(
            (650, 600, 600, 600, 600), False, "admitted", id="equal peers have a minimum spread"
        ),
        pytest.param((900, 600, 610, 590), False, "abstained", id="three peers are too few"),
        pytest.param((300, 600), False, "abstained", id="one peer is too few"),
        pytest.param(
            (300, 600),
            True,
            "PROPENSITY",
            id="with few peers the vendor's endpoint is the reference",
        ),
        pytest.param((595, 600), True, "admitted", id="the vendor's endpoint may be matched"),
    ],
)
def test_propensity_is_compared_with_the_peers(
    shares: tuple[int, ...], outcome: str, *, reference: bool
) -> None:
    verdict = verdicts(judge_world(crowd(*shares, reference=reference)))["strange"]
    abstained = ("propensity_in_band", "PROPENSITY", "absent") in describe_findings(
        verdict.abstained
    )
    assert abstained is (outcome == "abstained")
    reasons = {f.reason for f in verdict.broken} - {"USABILITY"}
    assert reasons == ({"PROPENSITY"} if outcome == "PROPENSITY" else set())


def ignoring(count: int, of: int) -> tuple[IgnoreVote, ...]:
    return tuple(
        IgnoreVote(f"t{n:03}", MODEL, frozenset({"a"} if n < count else {"z"})) for n in range(of)
    )


def test_tenants_that_ignore_all_rivals_move_none_of_them() -> None:
    tags = ("own", "a", "b", "c", "d")
    votes = [
        IgnoreVote(f"t{n:03}", MODEL, frozenset(tags[1:] if n < 40 else ())) for n in range(60)
    ]
    found = verdicts(judge_world(replace(seen_by(dict.fromkeys(tags, 0)), ignore_votes=(*votes,))))
    assert {tag for tag, verdict in found.items() if verdict.admitted} == set(tags)


@pytest.mark.parametrize(
    ("ignored", "tenants", "broken", "abstained"),
    [
        pytest.param(
            0, 0, [], [("ignore_rate", "IGNORED_BY_USERS", "absent")], id="no eligible tenant"
        ),
        pytest.param(
            29,
            29,
            [],
            [("ignore_rate", "IGNORED_BY_USERS", "not_asked")],
            id="too few eligible tenants",
        ),
        pytest.param(0, 30, [], [], id="no tenant ignores it"),
        pytest.param(7, 30, [], [], id="a rate within chance"),
        pytest.param(20, 30, ["IGNORED_BY_USERS"], [], id="most ignore it"),
        pytest.param(12, 31, [], [], id="twelve beside 19 that do not"),
    ],
)
def test_the_ignore_rate_counts_distinct_tenants(
    ignored: int, tenants: int, broken: list[str], abstained: list[tuple[str, str, str]]
) -> None:
    of = replace(seen_by({"a": 0}), ignore_votes=ignoring(ignored, tenants))
    verdict = verdicts(judge_world(of))["a"]
    assert [f.reason for f in verdict.broken] == broken
    assert [f for f in describe_findings(verdict.abstained) if f[0] == "ignore_rate"] == abstained


def test_rules_that_abstain_are_listed_with_their_reason() -> None:
    verdict = verdicts(judge_world(seen_by({"a": 0, "b": 0})))["a"]
    assert verdict.admitted
    assert describe_findings(verdict.abstained) == [
        ("propensity_in_band", "PROPENSITY", "absent"),
        ("usable", "USABILITY", "not_asked"),
        ("ignore_rate", "IGNORED_BY_USERS", "absent"),
    ]
    assert all(finding.message for finding in verdict.abstained)


@pytest.mark.parametrize(
    ("errored", "enters", "stays"),
    [
        pytest.param(60, True, True, id="well above both thresholds"),
        pytest.param(110, False, True, id="between the thresholds only members are admitted"),
        pytest.param(220, False, False, id="below both"),
    ],
)
def test_members_are_judged_by_the_stay_rules(errored: int, *, enters: bool, stays: bool) -> None:
    of = seen_by({"a": errored, "b": errored})
    members = {"exacto": frozenset({f"{MODEL}@a"})}
    found = verdicts(judge_world(of, members=members))
    assert (found["a"].admitted, found["b"].admitted) == (stays, enters)


def test_a_member_may_have_little_evidence_but_not_none() -> None:
    members = {"exacto": frozenset({f"{MODEL}@a", f"{MODEL}@b"})}
    of = world(endpoint("a"), endpoint("b"), observations=[make_observation("a", calls=100)])
    found = verdicts(judge_world(of, members=members))
    assert found["a"].admitted
    assert [f.reason for f in found["b"].broken] == ["EVIDENCE_ABSENT"]


def test_membership_is_per_binding() -> None:
    members = {"elsewhere": frozenset({f"{MODEL}@a"})}
    assert not verdicts(judge_world(seen_by({"a": 110}), members=members))["a"].admitted


def test_an_evaluation_error_excludes_and_reports_its_position() -> None:
    strict = """
    pool: {enter: [{name: half, expression: cohort.size / (cohort.size - 1) > 1,
                    reason: BENCHMARK, onMissing: pass}]}
    order: [{name: price, expression: endpoint.price.prompt}]
    """
    by = policy("- {name: strict, variant: strict, ruleSet: strict}", strict=strict)
    (finding,) = judge_world(world(endpoint("a")), by).pools["strict", MODEL].verdicts[0].broken
    assert (finding.reason, finding.outcome) == ("EVAL_ERROR", "error")
    assert finding.message.startswith("strict.yaml:5:")


def test_models_without_endpoints_have_an_empty_pool() -> None:
    snapshot = judge_world(world(models=[Model(MODEL)]))
    assert snapshot.pools["exacto", MODEL].verdicts == ()


def test_every_reason_is_in_the_documented_list() -> None:
    findings = [
        f
        for pool in mixed_snapshot().pools.values()
        for v in pool.verdicts
        for f in (*v.broken, *v.abstained)
    ]
    assert {finding.reason for finding in findings} <= set(POOL_REASONS)


@settings(max_examples=25)
@given(st.data())
def test_the_order_of_the_world_does_not_matter(data: st.DataObject) -> None:
    preferences = (
        Preference("t000", "pin", "good1", MODEL),
        Preference("t000", "ignore", "x", OTHER),
    )
    tenants = (TenantSettings("t001", only=("good1",)), TenantSettings("t000", zdr=True))
    of = replace(
        mixed_world(), preferences=preferences, tenants=tenants, ignore_votes=ignoring(3, 31)
    )
    fields = ("models", "endpoints", "observations", "preferences", "tenants", "ignore_votes")
    drawn: dict[str, Any] = {
        name: tuple(data.draw(st.permutations(getattr(of, name)))) for name in fields
    }
    shuffled = replace(of, **drawn)
    assert judge_world(shuffled).snapshot_id == judge_world(of).snapshot_id


def test_windows_of_unknown_endpoints_change_nothing() -> None:
    of = mixed_world()
    more = replace(
        of,
        observations=(
            *of.observations,
            make_observation("unlisted"),
            make_observation("a", model="lab/none"),
        ),
    )
    assert judge_world(more).snapshot_id == mixed_snapshot().snapshot_id


def test_evidence_becomes_stale_with_age() -> None:
    of = seen_by({"a": 0})
    later = judge_world(of, as_of=AS_OF + 91 * DAY)
    assert verdicts(judge_world(of))["a"].admitted
    assert {f.reason for f in verdicts(later)["a"].broken} == {"EVIDENCE_STALE"}


def test_the_report_of_a_pool_shows_members_others_and_facts() -> None:
    report = pool_report(mixed_snapshot(), f"{MODEL}:exacto")
    assert (report.model, report.variant, report.binding, report.rule_set) == (
        MODEL,
        "exacto",
        "exacto",
        "exacto",
    )
    assert (report.as_of, report.snapshot_id) == (AS_OF, mixed_snapshot().snapshot_id)
    assert {judged.verdict.endpoint_id for judged in report.members} == MEMBERS
    everyone = {e.endpoint_id for e in mixed_world().endpoints if e.model == MODEL}
    assert {j.verdict.endpoint_id for j in (*report.members, *report.others)} == everyone
    (good2,) = (j for j in report.members if j.verdict.tag == "good2")
    assert dict(good2.facts)["observed.errored_requests"] == 2
    (unseen,) = (j for j in report.others if j.verdict.tag == "unseen")
    assert "tools.tool_call_requests" not in dict(unseen.facts)


def test_only_bindings_with_pool_rules_have_pools() -> None:
    assert {name for name, _ in mixed_snapshot().pools} == {
        b.name for b in shipped_policy().bindings.values() if b.judged
    }
    assert "default" not in {name for name, _ in mixed_snapshot().pools}
