"""Compiling checks what rules may read at each stage and reports all faults with positions."""

from __future__ import annotations

import pytest
from tests.support.worlds import policy, policy_faults, policy_files, shipped_policy

from assay.engine.policy.compile import type_of
from assay.engine.policy.fact_schema import FACTS, JUDGED, REQUEST
from assay.engine.policy.faults import PolicyFaults
from assay.engine.policy.rule_set import Parameter
from assay.rule_files.directory import read_directory
from assay.rule_files.read import read_policy
from assay.server.settings import policy_dir


def pool(expression: str, more: str = "") -> str:
    return f"pool:\n  enter:\n    - {{name: a, reason: ACCURACY, expression: '{expression}'{more}}}"


def rule(expression: str, more: str = "") -> str:
    return f"request:\n  - {{name: a, reason: policy, expression: '{expression}'{more}}}"


TAIL = "probability_at_least(9.0, 1.0, 0.5) > 0.5"
TAG = 'endpoint.tag == "a"'


def located(bindings: str = "", **rule_sets: str) -> list[tuple[str, str]]:
    """Every fault as the text at its position and its message."""
    files = {file: text.split("\n") for file, text in policy_files(bindings, rule_sets).items()}
    try:
        policy(bindings, **rule_sets)
    except PolicyFaults as error:
        return [
            (files[f.place.file][f.place.line - 1][f.place.column - 1 :], f.message)
            for f in error.faults
        ]
    return []


@pytest.mark.parametrize(
    ("spec", "at", "words"),
    [
        pytest.param(pool("request.tools > 0"), "request.tools > 0",
                     "a pool rule may not read request.tools",
                     id="request in a pool"),
        pytest.param(pool("true && tenant.zdr"), "tenant.zdr",
                     "a pool rule may not read tenant.zdr",
                     id="tenant in a pool"),
        pytest.param(pool("endpoint.price.prompt < 1.0"), "endpoint.price",
                     "a pool rule may not read endpoint.price.prompt",
                     id="the price of the moment in a pool"),
        pytest.param(pool("true", ", when: request.tools > 0"), "request.tools",
                     "a pool rule may not read request.tools", id="request in a pool rule's guard"),
        pytest.param(pool("true", ", messageExpression: tenant.name"), "tenant.name",
                     "a pool rule may not read tenant.name", id="request in a pool rule's message"),
        pytest.param("variables: [{name: v, expression: request.tools > 0}]\n"
                     + pool("variables.v"), "variables.v",
                     "a pool rule may not read request.tools",
                     id="request in a pool by a variable"),
        pytest.param(f"cohortVariables: [{{name: v, expression: '{TAG}'}}]", TAG,
                     "a cohort variable may not read endpoint.tag",
                     id="an endpoint in a variable of the cohort"),
        pytest.param(rule("true", f", when: 'true && {TAG}'"), TAG,
                     "evaluated once per request and may not read endpoint.tag",
                     id="an endpoint in a guard"),
        pytest.param(rule("true", ", when: '!endpoint.matches_any(tenant.only)'"),
                     "endpoint.matches_any",
                     "evaluated once per request and may not read endpoint",
                     id="a whole endpoint in a guard"),
        pytest.param(f"variables: [{{name: v, expression: '{TAG}'}}]\n"
                     + rule("true", ", when: variables.v"),
                     "variables.v", "may not read endpoint.tag",
                     id="an endpoint in a guard by a variable"),
        pytest.param(rule(f"true || {TAIL}"), "probability_at_least",
                     "probability_at_least may only be used where",
                     id="judging in a request rule"),
        pytest.param(f"variables: [{{name: v, expression: '{TAIL}'}}]\n" + rule("variables.v"),
                     "variables.v",
                     "probability_at_least may only be used where",
                     id="judging in a request rule by a variable"),
        pytest.param(f"order: [{{name: k, expression: 'request.tools > 0 && {TAIL} ? 1 : 0'}}]",
                     "probability_at_least",
                     "probability_at_least may only be used where",
                     id="judging in a key that reads the request"),
        pytest.param(f"order: [{{name: k, expression: 1, when: '{TAG}'}}]", TAG,
                     "may not read endpoint.tag",
                     id="an endpoint in a key's guard"),
        pytest.param("order: [{name: k, expression: endpoint.tag}]", "endpoint.tag",
                     "this is string, expected int or double", id="a key that is text"),
        pytest.param("order: [{name: k, expression: endpoint.demoted}]", "endpoint.demoted",
                     "this is bool, expected int or double", id="a key that is true or false"),
        pytest.param("order: [{name: k, weight: cohort.size}]", "cohort.size",
                     "this is int, expected double",
                     id="a weight that is not a double"),
        pytest.param("order: [{name: k, expression: 1, when: request.tools}]", "request.tools",
                     "this is int, expected bool", id="a key's guard that is not a bool"),
        pytest.param(rule("request.tools"), "request.tools", "this is int, expected bool",
                     id="a number as a rule"),
        pytest.param(rule("true", ", messageExpression: request.tools"), "request.tools",
                     "this is int, expected string", id="a message that is not a string"),
        pytest.param(rule("endpoint.prise.prompt > 1.0"), "endpoint.prise", "endpoint.prise",
                     id="an undeclared fact"),
        pytest.param(rule("params.limit > 1.0"), "params.limit", "params.limit",
                     id="an undeclared parameter"),
        pytest.param("params: {limit: 1}\n" + rule("endpoint.price.prompt > params.limit"),
                     "> params.limit", "double",
                     id="a whole number against a decimal one"),
    ],
)  # fmt: skip
def test_a_fault_is_reported_at_its_position(spec: str, at: str, words: str) -> None:
    ((text, message),) = located(strict="extends: default\n" + spec)
    assert text.startswith(at)
    assert words in message


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(
            pool("endpoint.tools.tool_call_requests > 1.0 && cohort.size > 1"),
            id="evidence and cohort in a pool",
        ),
        pytest.param(pool(TAIL), id="judging in a pool"),
        pytest.param(
            rule("endpoint.tools.tool_call_requests > 1.0 || request.tools == 0"),
            id="evidence in a request rule",
        ),
        pytest.param(
            f"order: [{{name: k, expression: '{TAIL} ? 1 : 0'}}]",
            id="judging in a key that reads no request",
        ),
        pytest.param(
            "order: [{name: k, expression: 1}, {name: l, weight: 1.0}]", id="numbers of both kinds"
        ),
        pytest.param(
            rule("true", ", when: 'cohort.size > 1 && tenant.zdr'"),
            id="cohort and tenant in a guard",
        ),
    ],
)
def test_a_valid_rule_has_no_fault(spec: str) -> None:
    assert policy_faults(strict="extends: default\n" + spec) == []


@pytest.mark.parametrize(
    ("when", "at", "words"),
    [
        pytest.param(
            f"true && {TAG}", TAG, "a binding's `when` may not read endpoint.tag", id="an endpoint"
        ),
        pytest.param(
            "cohort.size > 1",
            "cohort",
            "a binding's `when` may not read cohort.size",
            id="the cohort",
        ),
        pytest.param(
            "params.limit > 1",
            "params",
            "a binding's `when` may not read params.limit",
            id="parameters",
        ),
        pytest.param("request.tools", "request", "this is int, expected bool", id="a number"),
        pytest.param(
            f"request.tools > 0 && {TAIL}",
            "probability",
            "probability_at_least may only be",
            id="judging",
        ),
    ],
)
def test_a_faulty_guard_is_reported_at_its_position(when: str, at: str, words: str) -> None:
    strict = "extends: default\nparams: {limit: 1}"
    ((text, message),) = located(f"- {{name: a, ruleSet: strict, when: '{when}'}}", strict=strict)
    assert text.startswith(at)
    assert words in message


def test_a_guard_reads_request_tenant_and_model() -> None:
    when = 'request.tools > 0 && model.author == "lab" && tenant.name != ""'
    assert policy_faults(f"- {{name: a, ruleSet: default, when: '{when}'}}") == []


def test_all_faults_of_all_rule_sets_are_reported_together() -> None:
    strict = """
    extends: default
    variables:
      - {name: good, expression: endpoint.nothing}
    pool:
      enter:
        - {name: a, reason: ACCURACY, expression: request.tools > 0}
        - {name: b, reason: ACCURACY, expression: variables.good > 1}
    request:
      - {name: c, reason: policy, expression: cohort.size}
    order:
      - {name: d, expression: endpoint.tag}
      - {name: missing}
    """
    found = policy_faults(
        "- {name: x, ruleSet: strict, when: cohort.size > 1}", strict=strict, other=rule("missing")
    )
    assert [line.split(": ")[0].rpartition(":")[0] for line in found] == [
        "bindings.yaml:5", "other.yaml:6", "strict.yaml:7", "strict.yaml:10", "strict.yaml:13",
        "strict.yaml:15", "strict.yaml:16",
    ]  # fmt: skip


def test_a_faulty_variable_hides_only_the_faults_of_its_readers() -> None:
    strict = """
    extends: default
    variables: [{name: good, expression: endpoint.nothing}, {name: good_share, expression: 1.0}]
    request:
      - {name: a, reason: policy, expression: variables.good > 1}
      - {name: b, reason: policy, expression: variables.good_share}
    """
    assert [line.split(": ")[0] for line in policy_faults(strict=strict)] == [
        "strict.yaml:6:40",
        "strict.yaml:9:45",
    ]


def test_an_inherited_fault_is_reported_once_at_its_position() -> None:
    (fault,) = policy_faults(
        base=rule("request.nothing > 0"), one="extends: base", two="extends: base"
    )
    assert fault.startswith("base.yaml:6:46: ")


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        pytest.param(True, "bool", id="true is not a number"),
        pytest.param(1, "int", id="a whole number"),
        pytest.param(1.0, "double", id="a decimal number"),
        pytest.param("a", "string", id="text"),
        pytest.param(("a",), "list<string>", id="a list"),
        pytest.param((), "list<string>", id="an empty list"),
    ],
)
def test_a_parameter_has_the_type_of_its_value(value: Parameter, spelled: str) -> None:
    assert str(type_of(value)) == spelled


def test_every_fact_is_declared_once_with_a_meaning() -> None:
    assert len({fact.path for fact in FACTS}) == len(FACTS)
    assert all(fact.meaning and fact.stage in (JUDGED, REQUEST) for fact in FACTS)


def test_the_shipped_policy_compiles_and_knows_its_digest() -> None:
    source = read_directory(policy_dir())
    assert set(shipped_policy().rule_sets) == {r.name for r in read_policy(source.files)[0]}
    assert shipped_policy().digest == source.digest
    assert shipped_policy().revision == 0
