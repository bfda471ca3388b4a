"""A plan has ordered attempts and a verdict for every endpoint, and it is deterministic."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
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
    endpoint_ids,
    judge_world,
    make_moment,
    make_observation,
    make_request,
    mixed_snapshot,
    mixed_world,
    plan_for,
    policy,
    reasons,
    shipped_policy,
    tags,
    throughput,
    verdict_of,
    world,
)

from assay.engine.decide.ordering import seed_for
from assay.engine.decide.plan import Plan, plan
from assay.engine.errors import PolicyBehind, UnknownModel, UnknownVariant
from assay.engine.policy.policy import compile_policy
from assay.engine.policy.verdict import REQUEST_REASONS
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.catalog import Model, Percentiles, PriceOverride, Prices
from assay.engine.world.request import QUANTIZATIONS, SORTS, MaxPrice, ProviderPreferences
from assay.engine.world.world import Preference, TenantSettings
from assay.rule_files.read import read_policy

ROOT = Path(__file__).resolve().parents[3]

# --- requests, at random --------------------------------------------------------------------------

NAMES = sorted(
    {name for e in mixed_world().endpoints for name in (e.provider, e.tag)} | {"unlisted"}
)
LISTS = st.lists(st.sampled_from(NAMES), max_size=4).map(tuple)
LIMITS = st.one_of(st.none(), st.sampled_from([0.0, 0.1, 1.0, 2.5, 100.0]))
POINTS = st.builds(Percentiles, p50=LIMITS, p90=LIMITS)
WISHES = st.builds(
    ProviderPreferences,
    order=LISTS,
    only=st.one_of(st.just(()), LISTS),
    ignore=LISTS,
    allow_fallbacks=st.booleans(),
    require_parameters=st.booleans(),
    data_collection=st.sampled_from(["allow", "deny"]),
    zdr=st.booleans(),
    quantizations=st.lists(st.sampled_from(QUANTIZATIONS), max_size=3).map(tuple),
    sort=st.one_of(st.none(), st.sampled_from(SORTS)),
    partition=st.sampled_from(["model", "none"]),
    max_price=st.builds(MaxPrice, prompt=LIMITS, completion=LIMITS, request=LIMITS),
    preferred_min_throughput=POINTS,
    preferred_max_latency=POINTS,
)
SUFFIXES = st.lists(st.sampled_from(["nitro", "floor", "exacto"]), max_size=3).map(
    lambda found: "".join(map(":{}".format, found))
)
MORE = st.fixed_dictionaries(
    {
        "provider": WISHES,
        "tools": st.integers(0, 2),
        "service_tier": st.sampled_from([None, "auto", "default", "flex", "priority"]),
        "max_tokens": st.sampled_from([None, 0, 10**6]),
        "parameters": st.sampled_from([(), ("tools",), ("seed",)]),
    }
)
SEEDS = st.binary(min_size=16, max_size=16)
ILL = st.dictionaries(
    st.sampled_from([e.endpoint_id for e in mixed_world().endpoints]),
    st.just("failing"),
    max_size=3,
)


@settings(max_examples=200)
@given(SUFFIXES, SUFFIXES, MORE, SEEDS, ILL)
def test_no_request_field_admits_a_non_member(
    before: str, after: str, more: dict[str, Any], seed: bytes, ill: dict[str, str]
) -> None:
    answer = plan_for(
        mixed_snapshot(), f"{MODEL}{before}:exacto{after}", at=make_moment(seed, health=ill), **more
    )
    assert set(endpoint_ids(answer)) <= MEMBERS


@settings(max_examples=200)
@given(SUFFIXES, SUFFIXES, MORE, SEEDS, ILL)
def test_every_endpoint_is_attempted_or_excluded_with_a_reason(
    first: str, second: str, more: dict[str, Any], seed: bytes, ill: dict[str, str]
) -> None:
    answer = plan_for(
        mixed_snapshot(), MODEL + first, OTHER + second, at=make_moment(seed, health=ill), **more
    )
    everyone = sorted(e.endpoint_id for e in mixed_world().endpoints)
    assert sorted(v.endpoint_id for v in answer.verdicts) == everyone
    assert sorted([*endpoint_ids(answer), *(v.endpoint_id for v in answer.excluded)]) == everyone
    assert [a.rank for a in answer.attempts] == list(range(1, len(answer.attempts) + 1))
    assert (answer.availability == "") is bool(answer.attempts)
    assert all(
        finding.reason and finding.message and finding.rule
        for v in answer.excluded
        for finding in v.broken
    )


@cache
def tenants() -> Snapshot:
    """The mixed world with tenants that may use less than all of it."""
    settings_of = (
        TenantSettings("narrow", only=("good1", "good2", "weak1"), ignore=("good2",)),
        TenantSettings("careful", zdr=True),
    )
    preferences = (
        Preference("narrow", "ignore", "weak1", OTHER),
        Preference("picky", "ignore", "good3"),
    )
    return judge_world(replace(mixed_world(), tenants=settings_of, preferences=preferences))


ALLOWED = {
    "narrow": {f"{MODEL}@good1", f"{MODEL}@weak1", f"{OTHER}@good1"},
    "careful": {f"{MODEL}@unseen", f"{OTHER}@weak1"},
    "picky": {e.endpoint_id for e in mixed_world().endpoints if e.provider != "good3"},
}


@settings(max_examples=200)
@given(st.sampled_from(sorted(ALLOWED)), SUFFIXES, MORE, SEEDS)
def test_a_request_never_widens_its_tenants_limits(
    tenant: str, suffixes: str, more: dict[str, Any], seed: bytes
) -> None:
    answer = plan_for(
        tenants(), MODEL + suffixes, OTHER, tenant=tenant, at=make_moment(seed), **more
    )
    assert set(endpoint_ids(answer)) <= ALLOWED[tenant]


def test_a_tenant_gets_every_endpoint_that_it_may_use() -> None:
    for tenant, allowed in ALLOWED.items():
        answer = plan_for(tenants(), MODEL, OTHER, tenant=tenant)
        assert set(endpoint_ids(answer)) == allowed - {f"{MODEL}@good1/priority"}


@settings(max_examples=100)
@given(
    SEEDS,
    st.sampled_from(["", ":exacto", ":nitro", ":floor"]),
    st.integers(0, 1),
    st.sampled_from(NAMES),
)
def test_ignoring_an_endpoint_never_reorders_the_others(
    seed: bytes, suffix: str, tools: int, ignored: str
) -> None:
    at = make_moment(seed)
    whole = plan_for(mixed_snapshot(), MODEL + suffix, at=at, tools=tools)
    rest = plan_for(mixed_snapshot(), MODEL + suffix, at=at, tools=tools, ignore=(ignored,))
    assert endpoint_ids(rest) == [i for i in endpoint_ids(whole) if i in endpoint_ids(rest)]


@settings(max_examples=100)
@given(MORE, SEEDS, SUFFIXES)
def test_the_same_request_snapshot_and_moment_give_the_same_bytes(
    more: dict[str, Any], seed: bytes, suffixes: str
) -> None:
    first, second = (
        plan_for(mixed_snapshot(), MODEL + suffixes, at=make_moment(seed), **more).canonical()
        for _ in range(2)
    )
    assert first == second


CHILD = """
from tests.support.worlds import MODEL, OTHER, judge_world, make_moment, make_request, mixed_world
from assay.engine.decide.plan import plan
snapshot = judge_world(mixed_world())
for request in (
    make_request(tools=2),
    make_request(f"{MODEL}:exacto", OTHER, partition="none"),
    make_request(OTHER, MODEL, only=("good1",)),
):
    print(plan(request, snapshot, make_moment()).canonical().hex())
"""


@pytest.mark.slow
def test_two_processes_give_the_same_bytes() -> None:
    path = os.pathsep.join((str(ROOT / "service"), str(ROOT)))
    runs = [
        subprocess.run(
            [sys.executable, "-c", CHILD],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    here = [
        plan(request, mixed_snapshot(), make_moment()).canonical().hex()
        for request in (
            make_request(tools=2),
            make_request(f"{MODEL}:exacto", OTHER, partition="none"),
            make_request(OTHER, MODEL, only=("good1",)),
        )
    ]
    assert runs[0].split() == runs[1].split() == here


# --- answers --------------------------------------------------------------------------------------


def test_an_unknown_model_is_an_error_wherever_it_is_named() -> None:
    with pytest.raises(UnknownModel, match="'lab/none'"):
        plan_for(mixed_snapshot(), MODEL, "lab/none")


def test_an_unknown_variant_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnknownVariant, match="'turbo', known are exacto, floor, nitro"):
        plan_for(mixed_snapshot(), f"{MODEL}:turbo")


def test_a_policy_older_than_the_requested_revision_is_rejected() -> None:
    source = shipped_policy().source
    seventh = judge_world(mixed_world(), compile_policy(*read_policy(source.files), source, 7))
    assert plan_for(seventh, min_policy_revision=7).policy_revision == 7
    with pytest.raises(PolicyBehind) as caught:
        plan_for(seventh, min_policy_revision=8)
    assert (caught.value.wanted, caught.value.current) == (8, 7)


@pytest.mark.parametrize(
    ("more", "availability"),
    [
        pytest.param({"model": "lab/empty"}, "no_endpoints", id="a model without endpoints"),
        pytest.param(
            {"model": "lab/empty:exacto"},
            "no_endpoints",
            id="the pool of a model without endpoints",
        ),
        pytest.param({"only": ("unlisted",)}, "constraint_filtered", id="no endpoint left"),
        pytest.param({"model": "lab/unseen:exacto"}, "constraint_filtered", id="none in the pool"),
        pytest.param({}, "", id="some left"),
    ],
)
def test_a_plan_without_attempts_states_its_availability(
    more: dict[str, Any], availability: str
) -> None:
    snapshot = judge_world(
        world(endpoint("a"), endpoint("b", "lab/unseen"), models=[Model("lab/empty")])
    )
    answer = plan_for(snapshot, **more)
    assert answer.availability == availability
    assert bool(answer.attempts) is (availability == "")
    assert len(answer.excluded) == len(answer.verdicts) - len(answer.attempts)


def test_without_evidence_exacto_excludes_all_with_reasons() -> None:
    answer = plan_for(judge_world(world(endpoint("a"), endpoint("b"))), f"{MODEL}:exacto")
    assert answer.attempts == ()
    assert reasons(answer) == {"a": ["EVIDENCE_ABSENT"] * 2, "b": ["EVIDENCE_ABSENT"] * 2}


def test_propensity_abstains_for_two_endpoints() -> None:
    two = world(
        endpoint("a"),
        endpoint("b"),
        observations=[make_observation("a"), make_observation("b", calls=2000, requests=90_000)],
    )
    answer = plan_for(judge_world(two), f"{MODEL}:exacto")
    assert sorted(tags(answer)) == ["a", "b"]
    for tag in ("a", "b"):
        assert ("propensity_in_band", "PROPENSITY", "absent") in describe_findings(
            verdict_of(answer, tag).abstained
        )


def test_reasons_of_pool_and_request_rules_are_combined() -> None:
    answer = plan_for(
        mixed_snapshot(), f"{MODEL}:exacto", only=("weak2",), quantizations=("fp8",), zdr=True
    )
    assert reasons(answer)["weak2/fp8"] == ["ACCURACY", "data_policy:zdr"]
    assert reasons(answer)["good1"] == ["only", "data_policy:zdr", "quantization"]


def test_an_attempt_names_its_endpoint_and_rule_set() -> None:
    answer = plan_for(mixed_snapshot(), f"{MODEL}:exacto:floor")
    first = answer.attempts[0]
    assert (first.rank, first.model, first.endpoint_id) == (1, MODEL, f"{MODEL}@good1")
    assert (first.provider, first.tag, first.rule_set) == ("good1", "good1", "exacto+floor")


def test_without_fallbacks_there_is_one_attempt() -> None:
    answer = plan_for(mixed_snapshot(), f"{MODEL}:floor", OTHER, allow_fallbacks=False)
    assert tags(answer) == ["unseen"]
    findings = [f for v in answer.excluded for f in v.broken if f.rule == "allow_fallbacks"]
    assert {f.message for f in findings} == {
        f"fallbacks are not allowed and {MODEL}@unseen comes first"
    }
    assert len(answer.excluded) == len(answer.verdicts) - 1


def test_a_failing_endpoint_is_demoted_for_one_request_only() -> None:
    ill = make_moment(health={f"{MODEL}@good1": "failing"})
    assert tags(plan_for(mixed_snapshot(), f"{MODEL}:exacto:floor"))[0] == "good1"
    assert tags(plan_for(mixed_snapshot(), f"{MODEL}:exacto:floor", at=ill))[-1] == "good1"
    assert tags(plan_for(mixed_snapshot(), f"{MODEL}:exacto", at=ill))[-1] == "good1"


@pytest.mark.parametrize(
    ("now", "prompt_tokens", "expected"),
    [
        pytest.param(AS_OF, None, ["timed", "steady"], id="the base price"),
        pytest.param(AS_OF, 1000, ["timed", "steady"], id="up to the length"),
        pytest.param(AS_OF, 1001, ["steady", "timed"], id="a dearer price for a long prompt"),
        pytest.param(AS_OF + 10 * HOUR, None, ["steady", "timed"], id="a dearer price by night"),
        pytest.param(AS_OF + 18 * HOUR, None, ["timed", "steady"], id="until the night is over"),
    ],
)
def test_prices_depend_on_the_hour_and_prompt_length(
    now: Any, prompt_tokens: int | None, expected: list[str]
) -> None:
    overrides = (
        PriceOverride(Prices(prompt=9.0), min_prompt_tokens=1000),
        PriceOverride(Prices(prompt=9.0), utc_start=22 * 60, utc_end=6 * 60),
    )
    snapshot = judge_world(
        world(endpoint("timed", price=1.0, overrides=overrides), endpoint("steady", price=2.0))
    )
    assert (
        tags(
            plan_for(
                snapshot, f"{MODEL}:floor", at=make_moment(now=now), prompt_tokens=prompt_tokens
            )
        )
        == expected
    )


def test_the_blended_price_is_three_quarters_prompt() -> None:
    one = endpoint("one", prices=Prices(prompt=1.0, completion=5.0))  # 2.0
    other = endpoint("other", prices=Prices(prompt=2.0, completion=1.5))  # 1.875
    assert tags(plan_for(judge_world(world(one, other)), f"{MODEL}:floor")) == ["other", "one"]


def test_endpoints_without_a_price_come_last() -> None:
    snapshot = judge_world(
        world(
            endpoint("unknown", price=None),
            endpoint("dear", price=1000.0),
            endpoint("free", price=0.0),
        )
    )
    for n in range(50):
        assert tags(plan_for(snapshot, at=make_moment(n.to_bytes(16, "big")))) == [
            "free",
            "dear",
            "unknown",
        ]


def test_a_session_keeps_its_first_attempt_while_it_is_admitted() -> None:
    def first(session: str, decision: str, **more: Any) -> str:
        seed = seed_for(b"", "acme", MODEL, session, decision)
        return tags(
            plan_for(
                mixed_snapshot(),
                at=make_moment(seed),
                only=tuple(f"good{n}" for n in range(1, 6)),
                **more,
            )
        )[0]

    for n in range(20):
        kept = first(f"session-{n}", "one")
        assert kept == first(f"session-{n}", "two")
        others = tuple(f"good{n}" for n in range(1, 6) if f"good{n}" != kept)[:2]
        assert kept == first(f"session-{n}", "three", ignore=others)
        assert kept != first(f"session-{n}", "four", ignore=(kept,))


def test_pinned_members_come_first() -> None:
    pinned = replace(
        mixed_world(),
        preferences=(Preference("acme", "pin", "good5"), Preference("acme", "pin", "weak1")),
    )
    answer = plan_for(judge_world(pinned), f"{MODEL}:exacto", tenant="acme")
    assert tags(answer)[0] == "good5"
    assert set(endpoint_ids(answer)) <= MEMBERS


def test_models_are_partitioned_or_sorted_together() -> None:
    assert [
        a.model for a in plan_for(mixed_snapshot(), f"{OTHER}:floor", f"{MODEL}:floor").attempts
    ] == [OTHER] * 2 + [MODEL] * 8
    merged = plan_for(mixed_snapshot(), f"{OTHER}:floor", f"{MODEL}:floor", partition="none")
    assert tags(merged)[:3] == ["unseen", "weak1", "weak2/fp8"]
    assert {a.model for a in merged.attempts[4:6]} == {MODEL, OTHER}


def test_a_key_that_applies_to_one_model_sorts_all_models() -> None:
    tiers = [
        endpoint("acme/priority", price=5.0, **throughput(1.0)),
        endpoint("acme", price=1.0, **throughput(9.0)),
    ]
    plain = [
        endpoint("other", OTHER, price=0.1, **throughput(7.0)),
        endpoint("third", OTHER, price=0.2, **throughput(5.0)),
    ]
    snapshot = judge_world(world(*tiers, *plain))
    for models in ([MODEL, OTHER], [OTHER, MODEL]):
        merged = plan_for(
            snapshot, *(f"{m}:nitro" for m in models), partition="none", service_tier="priority"
        )
        assert tags(merged) == ["acme/priority", "acme", "other", "third"]


def test_an_endpoint_of_a_repeated_model_keeps_its_better_rank() -> None:
    answer = plan_for(mixed_snapshot(), f"{MODEL}:exacto", MODEL)
    assert len(set(endpoint_ids(answer))) == len(answer.attempts) == 8
    assert set(endpoint_ids(answer)[:5]) == MEMBERS


def test_preferred_speed_demotes_across_models() -> None:
    wish = Percentiles(p50=400.0)
    answer = plan_for(
        mixed_snapshot(), f"{OTHER}:floor", f"{MODEL}:floor", preferred_min_throughput=wish
    )
    assert (answer.attempts[0].model, answer.attempts[0].tag) == (MODEL, "weak1")
    assert len(answer.attempts) == 10


def test_reasons_of_request_rules_are_in_the_documented_list() -> None:
    assert {
        r.reason
        for rules in shipped_policy().rule_sets.values()
        for r in (c.rule for c in rules.request)
    } <= set(REQUEST_REASONS)


def test_a_request_rule_that_abstains_is_listed() -> None:
    lenient = """
    request:
      - name: quick
        expression: endpoint.latency.p50_s < 1.0
        reason: policy
        onMissing: pass
    order: [{name: price, expression: endpoint.price.prompt}]
    """
    by = policy("- {name: lenient, variant: lenient, ruleSet: lenient}", lenient=lenient)
    answer: Plan = plan_for(judge_world(world(endpoint("a")), by), f"{MODEL}:lenient")
    assert tags(answer) == ["a"]
    assert describe_findings(verdict_of(answer, "a").abstained) == [("quick", "policy", "absent")]
