"""A rule set extends another: everything is inherited by name, order keys as written."""

from __future__ import annotations

from datetime import timedelta
from textwrap import dedent

import pytest
from tests.support.worlds import (
    describe_findings,
    endpoint,
    judge_world,
    plan_for,
    policy,
    policy_faults,
    policy_files,
    reasons,
    tags,
    world,
)

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.policy.inheritance import EffectiveRuleSet, inherit_rule_sets
from assay.engine.policy.rule_set import MemorySpec
from assay.rule_files.read import read_policy

BASE = """
    evidence: {maxAge: 10d}
    memory: {hold: 2h, accuracy: level}
    params: {low: 1.0, high: 2.0, level: 0.9}
    cohortVariables: [{name: crowd, expression: cohort.size}]
    variables:
      - {name: cheap, expression: endpoint.price.prompt < params.low}
      - {name: small, expression: cohort.size < 2}
    pool:
      enter:
        - {name: seen, expression: endpoint.tools.tool_call_requests > 0.0, reason: EVIDENCE_THIN}
      stay:
        - {name: kept, expression: endpoint.tools.tool_call_requests > 0.0, reason: EVIDENCE_THIN}
      minimum: 3
    request:
      - {name: first, expression: "endpoint.price.prompt >= 0.0", reason: max_price}
      - {name: second, expression: "!endpoint.demoted", reason: health}
      - {name: third, expression: "endpoint.tag != ''", reason: policy}
    order:
      - {name: price, expression: endpoint.price.prompt}
      - {name: speed, expression: endpoint.throughput.p50_tps, direction: descending}
"""


def effective(child: str, base: str = BASE) -> EffectiveRuleSet:
    files = policy_files("", {"base": base, "child": "extends: base\n" + child})
    found, wrong = inherit_rule_sets(read_policy(files)[0])
    assert wrong == []
    return found["child"]


def test_omitted_parts_are_inherited() -> None:
    parent = effective("")
    own = parent.rule_set
    assert own.params == {"low": 1.0, "high": 2.0, "level": 0.9}
    assert [v.name for v in own.cohort_variables] == ["crowd"]
    assert [v.name for v in own.variables] == ["cheap", "small"]
    assert [r.name for r in own.enter or ()] == ["seen"]
    assert [r.name for r in own.stay or ()] == ["kept"]
    assert [r.name for r in own.request] == ["first", "second", "third"]
    assert [k.name for k in own.order or ()] == ["price", "speed"]
    assert parent.evidence == EvidenceSpec(max_age=timedelta(days=10))
    assert parent.memory == MemorySpec(hold=timedelta(hours=2), accuracy="level")
    assert own.minimum == 3
    assert not parent.owns_order
    assert parent.overridden == frozenset()
    assert {r.origin for r in (*own.request, *(own.enter or ()))} == {"base"}


def test_params_are_inherited_by_name() -> None:
    assert effective("params: {high: 3.0, more: 4.0}").rule_set.params == {
        "low": 1.0, "high": 3.0, "more": 4.0, "level": 0.9,
    }  # fmt: skip


def test_variables_are_replaced_in_place_and_new_ones_follow() -> None:
    own = effective(
        "variables: [{name: late, expression: 1}, {name: cheap, expression: 2}]"
    ).rule_set
    assert [(v.name, v.expression.text) for v in own.variables] == [
        ("cheap", "2"), ("small", "cohort.size < 2"), ("late", "1"),
    ]  # fmt: skip


def test_request_rules_are_replaced_in_place_and_new_ones_follow() -> None:
    child = effective(
        "request: [{name: late, expression: 'true', reason: tools}, {name: second, expression: "
        "'true', reason: health}]"
    )
    assert [(r.name, r.origin) for r in child.rule_set.request] == [
        ("first", "base"), ("second", "child"), ("third", "base"), ("late", "child"),
    ]  # fmt: skip
    assert child.overridden == {"second"}


def test_pool_blocks_are_replaced_as_a_whole() -> None:
    child = effective(
        "pool: {enter: [{name: other, expression: 'true', reason: ACCURACY}]}"
    ).rule_set
    assert [r.name for r in child.enter or ()] == ["other"]
    assert [r.name for r in child.stay or ()] == ["kept"]


def test_evidence_is_replaced_as_a_whole() -> None:
    assert effective("evidence: {designEffect: 3.0}").evidence == EvidenceSpec(design_effect=3.0)


def test_memory_is_replaced_as_a_whole() -> None:
    assert effective("memory: {backoff: 3}").memory == MemorySpec(backoff=3.0)


@pytest.mark.parametrize(
    ("child", "minimum"), [("pool: {minimum: 0}", 0), ("pool: {minimum: 5}", 5), ("", 3)]
)
def test_a_minimum_is_inherited_unless_written(child: str, minimum: int) -> None:
    assert effective(child).rule_set.minimum == minimum


def test_memory_settings_are_checked_under_every_binding() -> None:
    bindings = "- {name: low, variant: low, ruleSet: base, params: {level: 0.5}}"
    assert policy_faults(bindings, base=BASE) == [
        (
            "bindings.yaml:5:62: 2 × (1 − level) must lie between 0 and 1: "
            "the share of errors to look for, found 0.5"
        )
    ]


def test_order_keys_are_inherited_by_name_alone() -> None:
    child = effective("order: [{name: speed}, {name: price}, {name: own, expression: cohort.size}]")
    assert [
        (k.name, k.direction, k.expression.text if k.expression else None)
        for k in child.rule_set.order or ()
    ] == [
        ("speed", "descending", "endpoint.throughput.p50_tps"),
        ("price", "ascending", "endpoint.price.prompt"),
        ("own", "ascending", "cohort.size"),
    ]
    assert child.owns_order


def test_a_key_with_an_expression_replaces_the_inherited_one() -> None:
    (key,) = (
        effective("order: [{name: speed, expression: endpoint.latency.p50_s}]").rule_set.order or ()
    )
    assert (key.direction, key.expression and key.expression.text) == (
        "ascending",
        "endpoint.latency.p50_s",
    )


def test_a_key_without_an_inherited_one_is_a_fault() -> None:
    assert policy_faults(
        base=BASE, child="extends: base\norder: [{name: price}, {name: prise}, {name: spead}]"
    ) == [
        "child.yaml:6:26: order key prise has no expression, and no inherited key has its name",
        "child.yaml:6:41: order key spead has no expression, and no inherited key has its name",
    ]


def test_inheritance_is_transitive() -> None:
    files = policy_files(
        "",
        {
            "a": "params: {x: 1, y: 1}",
            "c": "extends: b\nparams: {x: 3}",
            "b": "extends: a\nparams: {y: 2}",
        },
    )
    assert inherit_rule_sets(read_policy(files)[0])[0]["c"].rule_set.params == {"x": 3, "y": 2}


SHADOW = """
    mode: shadow
    pool: {enter: [{name: never, expression: 'false', reason: ACCURACY}]}
    request:
      - {name: second, expression: 'false', reason: health}
      - {name: late, expression: 'false', reason: tools}
    order: [{name: speed}]
"""


def test_a_shadow_rule_set_decides_as_its_parent_does() -> None:
    child = effective(dedent(SHADOW))
    own = child.rule_set
    assert [(r.name, r.action) for r in own.enter or ()] == [
        ("seen", "exclude"),
        ("never", "shadow"),
    ]
    assert [(r.name, r.action) for r in own.request] == [
        ("first", "exclude"), ("second", "exclude"), ("third", "exclude"),
        ("second", "shadow"), ("late", "shadow"),
    ]  # fmt: skip
    assert [k.name for k in own.order or ()] == ["price", "speed"]
    assert not child.owns_order
    assert child.overridden == frozenset()


RULED = """
    request: [{name: dear, expression: endpoint.price.prompt < 5.0, reason: max_price}]
    order: [{name: price, expression: endpoint.price.prompt}]
"""
WATCHING = """
    extends: ruled
    mode: shadow
    request:
      - {name: dear, expression: endpoint.price.prompt < 1.0, reason: max_price}
    order: [{name: most, expression: endpoint.price.prompt, direction: descending}]
"""
OFFERS = world(
    endpoint("dear", price=9.0), endpoint("cheap", price=0.5), endpoint("fair", price=2.0)
)


@pytest.mark.parametrize(
    "bindings",
    [
        pytest.param("- {name: v, variant: trial, ruleSet: watching}", id="alone"),
        pytest.param(
            "- {name: w, variant: trial, ruleSet: mine}\n"
            "- {name: v, when: 'true', ruleSet: watching}",
            id="together with its parent",
        ),
    ],
)
def test_shadow_results_are_in_the_decision_but_not_in_the_plan(bindings: str) -> None:
    answer = plan_for(
        judge_world(
            OFFERS, policy(bindings, ruled=RULED, mine="extends: ruled", watching=WATCHING)
        ),
        "lab/one:trial",
    )
    assert tags(answer) == ["cheap", "fair"]
    assert reasons(answer) == {"dear": ["max_price"]}
    assert {v.tag: describe_findings(v.shadow) for v in answer.verdicts} == {
        "cheap": [],
        "dear": [("dear", "max_price", "false")],
        "fair": [("dear", "max_price", "false")],
    }


def test_a_shadow_rule_excludes_no_endpoint() -> None:
    ruled = RULED.replace("reason: max_price}", "reason: max_price, action: shadow}")
    answer = plan_for(
        judge_world(OFFERS, policy("- {name: v, variant: trial, ruleSet: ruled}", ruled=ruled)),
        "lab/one:trial",
    )
    assert tags(answer) == ["cheap", "fair", "dear"]
    assert {v.tag: describe_findings(v.shadow) for v in answer.verdicts if v.shadow} == {
        "dear": [("dear", "max_price", "false")]
    }


def test_the_default_binding_may_not_be_a_shadow() -> None:
    assert policy_faults(
        default="mode: shadow\norder: [{name: price, expression: endpoint.price.prompt}]"
    ) == ["bindings.yaml:5:5: the default binding may not use the shadow rule set default"]


@pytest.mark.parametrize(
    ("block", "named"),
    [
        pytest.param("params: {limit: 1.0}", "params.limit", id="a parameter"),
        pytest.param(
            "variables: [{name: cheap, expression: 'true'}]", "variables.cheap", id="a variable"
        ),
        pytest.param("evidence: {maxAge: 1d}", "evidence", id="how evidence is folded"),
        pytest.param("memory: {hold: 1h}", "memory", id="how pools remember"),
        pytest.param("pool: {minimum: 1}", "pool.minimum", id="how many stay"),
    ],
)
def test_a_shadow_rule_set_may_not_change_what_it_inherits(block: str, named: str) -> None:
    base = """
        params: {limit: 2.0}
        variables: [{name: cheap, expression: endpoint.price.prompt < params.limit}]
        request: [{name: cheap, expression: variables.cheap, reason: max_price}]
    """
    files = policy_files(
        "", {"base": dedent(base), "watch": f"extends: base\nmode: shadow\n{block}"}
    )
    _, found = inherit_rule_sets(read_policy(files)[0])
    assert [f.message for f in found] == [
        f"a shadow rule set may not change what it inherits from base: {named}"
    ]
