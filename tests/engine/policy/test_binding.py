"""The bindings that apply to a request, the one that orders, and their combined rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.worlds import (
    MODEL,
    endpoint,
    judge_world,
    make_request,
    plan_for,
    policy,
    reasons,
    shared_facts,
    tags,
    throughput,
    world,
)

from assay.engine.errors import InvalidField, UnknownVariant
from assay.engine.policy.binding import PolicyRoute
from assay.engine.policy.policy import Policy
from assay.engine.world.request import ProviderPreferences

RULE_SETS = {
    "strict": (
        "extends: default\npool: {enter: [{name: no, expression: 'false', reason: ACCURACY}]}"
    ),
    "cheap": "extends: default\norder: [{name: price}]",
    "quick": (
        "extends: default\n"
        "order: [{name: t, expression: endpoint.throughput.p50_tps, direction: descending}]"
    ),
    "plain": "extends: default",
}
BINDINGS = """
- {name: strict, variant: strict, ruleSet: strict}
- {name: cheap, variant: cheap, ruleSet: cheap}
- {name: quick, variant: quick, ruleSet: quick}
- {name: quick-acme, variant: quick, tenants: [acme, zeta], ruleSet: cheap}
- {name: hidden, variant: hidden, tenants: [acme], ruleSet: strict}
- {name: by-price, sort: price, ruleSet: cheap}
- {name: by-price-acme, sort: price, tenants: [acme], ruleSet: quick}
- {name: by-speed, sort: throughput, ruleSet: quick}
- {name: tools, when: request.tools > 0, ruleSet: plain}
- {name: many-tools, when: request.tools > 5, ruleSet: quick}
- {name: more-tools, when: request.tools > 6, ruleSet: cheap}
- {name: acme-tools, when: request.tools > 0, tenants: [acme], ruleSet: plain}
- {name: broken, when: request.max_tokens > 5, ruleSet: plain}
"""


@pytest.fixture(scope="module")
def bound() -> Policy:
    return policy(BINDINGS, **RULE_SETS)


def routed(bound: Policy, variants: str, **more: Any) -> PolicyRoute:
    request = make_request(**more)
    names = variants.split(":") if variants else []
    return bound.routes.route(names, request.provider.sort, request.tenant, shared_facts(request))


@pytest.mark.parametrize(
    ("variants", "more", "taking_part", "ordering"),
    [
        pytest.param("", {}, ["default"], "default", id="nothing applies: the default"),
        pytest.param("strict", {}, ["strict"], "strict",
                     id="a variant without an order inherits one"),
        pytest.param("cheap", {}, ["cheap"], "cheap", id="a variant with an order"),
        pytest.param("cheap:quick", {}, ["cheap", "quick"], "quick",
                     id="the last variant with an order of its own"),
        pytest.param("quick:cheap", {}, ["cheap", "quick"], "cheap", id="the other way round"),
        pytest.param("quick:strict", {}, ["strict", "quick"], "quick",
                     id="a variant without an order last"),
        pytest.param("strict:quick", {}, ["strict", "quick"], "quick",
                     id="a variant without an order first"),
        pytest.param("quick:cheap:quick", {}, ["cheap", "quick"], "cheap",
                     id="a variant twice counts once"),
        pytest.param("quick", {"tenant": "acme"}, ["quick-acme"], "quick-acme",
                     id="the tenant's own binding"),
        pytest.param("quick", {"tenant": "zeta"}, ["quick-acme"], "quick-acme",
                     id="of each of its tenants"),
        pytest.param("quick", {"tenant": "else"}, ["quick"], "quick", id="no other tenant"),
        pytest.param("hidden", {"tenant": "acme"}, ["hidden"], "hidden",
                     id="a variant for one tenant alone"),
        pytest.param("", {"sort": "price"}, ["by-price"], "by-price", id="a sort"),
        pytest.param("", {"sort": "price", "tenant": "acme"}, ["by-price-acme"], "by-price-acme",
                     id="a tenant's sort"),
        pytest.param("quick", {"sort": "price"}, ["quick", "by-price"], "by-price",
                     id="a sort beats a suffix"),
        pytest.param("strict", {"sort": "throughput"}, ["strict", "by-speed"], "by-speed",
                     id="a pool applies under a sort"),
        pytest.param("", {"tools": 1}, ["tools"], "tools", id="a guard that holds"),
        pytest.param("", {"tools": 6}, ["tools", "many-tools"], "many-tools",
                     id="all guards that hold, the first one orders"),
        pytest.param("", {"tools": 7}, ["tools", "many-tools", "more-tools"], "many-tools",
                     id="the first guard in the file orders"),
        pytest.param("strict", {"tools": 7}, ["strict", "tools", "many-tools", "more-tools"],
                     "many-tools",
                     id="guards apply with a variant without an order"),
        pytest.param("quick", {"tools": 7}, ["quick"], "quick",
                     id="a variant with an order disables guards"),
        pytest.param("", {"tools": 7, "sort": "price"}, ["by-price"], "by-price",
                     id="a sort disables guards"),
        pytest.param("", {"tools": 1, "tenant": "acme"}, ["tools", "acme-tools"], "acme-tools",
                     id="a tenant's guard"),
        pytest.param("", {"max_tokens": 6}, ["broken"], "broken",
                     id="a guard over a known fact"),
    ],
)  # fmt: skip
def test_a_request_is_routed_to_its_bindings(
    bound: Policy, variants: str, more: dict[str, Any], taking_part: list[str], ordering: str
) -> None:
    route = routed(bound, variants, **more)
    assert [b.name for b in route.bindings] == taking_part
    assert route.order.name == ordering
    assert route.rule_set == "+".join(dict.fromkeys(b.rules.name for b in route.bindings))


def test_a_sort_without_a_binding_is_rejected_by_name(bound: Policy) -> None:
    with pytest.raises(
        InvalidField,
        match=r"provider\.sort: 'latency' is not bound by this policy, which knows price",
    ):
        routed(bound, "", sort="latency")


def test_a_provider_order_overrides_a_sort(bound: Policy) -> None:
    snapshot = judge_world(
        world(endpoint("dear", price=9.0), endpoint("cheap"), endpoint("fair", price=5.0)), bound
    )
    both = plan_for(snapshot, MODEL, order=("fair",), sort="latency")
    assert tags(both) == tags(plan_for(snapshot, MODEL, order=("fair",)))


def test_a_guard_over_an_absent_fact_does_not_hold(bound: Policy) -> None:
    assert [b.name for b in routed(bound, "").bindings] == ["default"]


def test_routes_are_cached(bound: Policy) -> None:
    assert routed(bound, "cheap:quick") is routed(bound, "cheap:quick", tenant="else")


def test_a_variant_of_other_tenants_is_unknown(bound: Policy) -> None:
    snapshot = judge_world(world(endpoint("a")), bound)
    assert reasons(plan_for(snapshot, "lab/one:hidden", tenant="acme")) == {"a": ["ACCURACY"]}
    for tenant in ("", "zeta"):
        with pytest.raises(UnknownVariant) as caught:
            plan_for(snapshot, "lab/one:hidden", tenant=tenant)
        assert caught.value.known == ("cheap", "quick", "strict")


LIMITED = """
params: {limit: 2.0}
request: [{name: limit, expression: endpoint.price.prompt <= params.limit, reason: max_price}]
order: [{name: price, expression: endpoint.price.prompt}]
"""
OFFERS = world(
    endpoint("a", price=1.0, **throughput(10)),
    endpoint("b", price=2.0, **throughput(30)),
    endpoint("c", price=4.0, **throughput(20)),
)


@pytest.mark.parametrize(
    ("variants", "expected"),
    [
        pytest.param("base", ["a", "b"], id="as the rule set says"),
        pytest.param("low", ["a"], id="lower"),
        pytest.param("high", ["a", "b", "c"], id="higher"),
        pytest.param("low:high", ["a"], id="rules of all hold"),
        pytest.param("high:low", ["a"], id="in any order"),
    ],
)
def test_each_binding_has_its_own_parameters(variants: str, expected: list[str]) -> None:
    bindings = """
    - {name: base, variant: base, ruleSet: limited}
    - {name: low, variant: low, ruleSet: limited, params: {limit: 1.0}}
    - {name: high, variant: high, ruleSet: limited, params: {limit: 9.0}}
    """
    assert (
        tags(
            plan_for(judge_world(OFFERS, policy(bindings, limited=LIMITED)), f"lab/one:{variants}")
        )
        == expected
    )


def test_bindings_with_different_parameters_have_separate_pools() -> None:
    pool = """
    extends: default
    params: {floor: 15.0}
    pool:
      enter:
        - name: t
          expression: endpoint.throughput.p50_tps > params.floor
          reason: BENCHMARK
    """
    bindings = """
    - {name: quick, variant: quick, ruleSet: pool}
    - {name: quick-acme, variant: quick, tenants: [acme], ruleSet: pool, params: {floor: 25.0}}
    """
    snapshot = judge_world(OFFERS, policy(bindings, pool=pool))
    assert tags(plan_for(snapshot, "lab/one:quick")) == ["b", "c"]
    assert tags(plan_for(snapshot, "lab/one:quick", tenant="acme")) == ["b"]


TWO_POOLS = """
    - {name: exacto, variant: exacto, ruleSet: exacto}
    - {name: strict, variant: strict, ruleSet: strict}
"""
POOL = """
    extends: default
    pool: {{enter: [{{name: {name}, expression: "{expression}", reason: BENCHMARK}}]}}
"""
POOLS = {
    "exacto": POOL.format(name="quick", expression="endpoint.throughput.p50_tps > 15.0"),
    "strict": POOL.format(name="known", expression="endpoint.tag in ['a', 'b']"),
}


@pytest.mark.parametrize("variants", ["exacto:strict", "strict:exacto"])
def test_an_endpoint_must_be_a_member_of_every_pool(variants: str) -> None:
    slow_and_unknown = endpoint("d", price=8.0, **throughput(5))
    snapshot = judge_world(
        replace(OFFERS, endpoints=(*OFFERS.endpoints, slow_and_unknown)), policy(TWO_POOLS, **POOLS)
    )
    answer = plan_for(snapshot, f"lab/one:{variants}")
    assert tags(answer) == ["b"]
    broken = {verdict.tag: [f.rule for f in verdict.broken] for verdict in answer.excluded}
    assert broken == {"a": ["quick"], "c": ["known"], "d": ["quick", "known"]}


ONE = "- {name: one, variant: one, ruleSet: one}\n- {name: two, variant: two, ruleSet: two}\n"


@pytest.mark.parametrize("variants", ["one:two", "two:one"])
def test_an_inherited_rule_is_evaluated_once(variants: str) -> None:
    rule_sets = {"limited": LIMITED, "one": "extends: limited", "two": "extends: limited"}
    answer = plan_for(judge_world(OFFERS, policy(ONE, **rule_sets)), f"lab/one:{variants}")
    assert reasons(answer) == {"c": ["max_price"]}


@pytest.mark.parametrize("variants", ["one:two", "two:one"])
def test_an_overridden_rule_replaces_the_inherited_one(variants: str) -> None:
    rewritten = (
        "request: [{name: limit, expression: endpoint.price.prompt <= 1.0, reason: max_price}]"
    )
    rule_sets = {
        "limited": LIMITED,
        "one": "extends: limited",
        "two": f"extends: limited\n{rewritten}",
    }
    answer = plan_for(judge_world(OFFERS, policy(ONE, **rule_sets)), f"lab/one:{variants}")
    assert {tag: len(found) for tag, found in reasons(answer).items()} == {"b": 1, "c": 1}


@pytest.mark.parametrize("variants", ["one:two", "two:one"])
def test_rules_of_the_same_name_in_two_rule_sets_both_apply(variants: str) -> None:
    rule = (
        "order: [{name: p, expression: endpoint.price.prompt}]\n"
        "request: [{name: r, expression: %s, reason: policy}]"
    )
    rule_sets = {"one": rule % "endpoint.tag != 'a'", "two": rule % "endpoint.tag != 'c'"}
    assert tags(plan_for(judge_world(OFFERS, policy(ONE, **rule_sets)), f"lab/one:{variants}")) == [
        "b"
    ]


@pytest.mark.parametrize("variants", ["one:two", "two:one"])
def test_a_rule_that_passes_on_a_missing_fact_does_not_replace_one_that_excludes(
    variants: str,
) -> None:
    rule = """
    request:
      - name: quick
        expression: endpoint.throughput.p50_tps > 15.0
        onMissing: {}
        reason: policy
    """
    rule_sets = {"one": rule.format("pass"), "two": rule.format("exclude")}
    unmeasured = world(endpoint("a"), endpoint("b", **throughput(30)))
    snapshot = judge_world(unmeasured, policy(ONE, **rule_sets))
    assert tags(plan_for(snapshot, "lab/one:one")) == ["a", "b"]
    assert tags(plan_for(snapshot, f"lab/one:{variants}")) == ["b"]


def test_the_last_variant_with_an_order_sorts() -> None:
    snapshot = judge_world(OFFERS, policy(BINDINGS, **RULE_SETS))
    assert tags(plan_for(snapshot, "lab/one:quick:cheap")) == ["a", "b", "c"]
    assert tags(plan_for(snapshot, "lab/one:cheap:quick")) == ["b", "c", "a"]
    by_price = ProviderPreferences(sort="price")
    assert tags(plan_for(snapshot, "lab/one:quick", provider=by_price)) == ["a", "b", "c"]
