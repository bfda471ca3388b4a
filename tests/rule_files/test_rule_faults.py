"""Every fault in a rule set is reported with its position."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Policy = Callable[..., dict[str, str]]
Faults = Callable[[dict[str, str]], list[str]]
NAME = (
    "a name that expressions read is up to 64 lowercase letters, digits and `_`, "
    "starting with a letter, and not a reserved word of CEL"
)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            "  mode: on\n",
            "5:9: expected one of enforce, shadow, found `on`",
            id="a word that YAML 1.1 converts",
        ),
        pytest.param(
            "  mode: Shadow\n",
            "5:9: expected one of enforce, shadow, found `Shadow`, did you mean `shadow`?",
            id="a word in other letters",
        ),
        pytest.param(
            "  memories: {hold: 24h}\n",
            "5:3: unknown key `memories`, did you mean `memory`?",
            id="a block by another name",
        ),
        pytest.param(
            "  evidence: {maxage: 90d}\n",
            "5:14: unknown key `maxage`, did you mean `maxAge`?",
            id="unknown key",
        ),
        pytest.param(
            "  evidence: {maxAge: 1.5d}\n",
            "5:22: a duration is a whole number and one of s, m, h, d, such as 90d or 12h, "
            "found `1.5d`",
            id="fractional duration",
        ),
        pytest.param(
            "  evidence: {maxAge: 90}\n",
            '5:22: expected text, found the number 90; in quotes it is text: "90"',
            id="duration without a unit",
        ),
        pytest.param(
            "  evidence: {halfLifeMin: 169h}\n",
            "5:27: halfLifeMin (7 days, 1:00:00) is longer than halfLifeMax (7 days, 0:00:00)",
            id="bounds the wrong way round",
        ),
        pytest.param(
            "  evidence: {designEffect: 0}\n",
            "5:28: must be at least 1, found the number 0",
            id="too small",
        ),
        pytest.param(
            "  pool: {minimum: -1}\n",
            "5:19: must be at least 0, found the number -1",
            id="a negative count",
        ),
        pytest.param(
            "  memory: {hold: 8d}\n",
            "5:18: hold (8 days, 0:00:00) is longer than holdMax (7 days, 0:00:00)",
            id="hold",
        ),
        pytest.param(
            "  memory: {holdMax: 23h}\n",
            "5:21: hold (1 day, 0:00:00) is longer than holdMax (23:00:00)",
            id="longest hold",
        ),
        pytest.param(
            "  memory: {slowFailures: 0}\n",
            "5:26: must be at least 1, found the number 0",
            id="no failure",
        ),
        pytest.param(
            "  memory: {changeOdds: 1}\n",
            "5:24: must be above 1, found the number 1",
            id="an override without a change",
        ),
        pytest.param(
            "  memory: {accuracy: level}\n  params: {levle: 0.9}\n",
            "5:22: unknown parameter `level`, did you mean `levle`?",
            id="without a bound",
        ),
        pytest.param(
            "  memory: {accuracy: level}\n  params: {level: 1}\n",
            "5:22: `level` must be a number with a decimal point, it is a whole number in strict",
            id="compared with a whole number",
        ),
        pytest.param(
            "  pool: {onEmpty: relax}\n", "5:19: expected fail, found `relax`", id="one word only"
        ),
        pytest.param(
            "  params: {good: {a: 1}}\n",
            "5:18: expected true or false or a number or text or a list, found a mapping",
            id="parameter of no type",
        ),
        pytest.param(
            "  params: {good: [a, 1]}\n",
            '5:22: expected text, found the number 1; in quotes it is text: "1"',
            id="list parameter that is not of text",
        ),
        pytest.param("  params: {in: 1}\n", f"5:12: {NAME}, found `in`", id="CEL word"),
        pytest.param(
            "  params: {a-b: 1}\n",
            f"5:12: {NAME}, found `a-b`",
            id="parameter that CEL could not name",
        ),
        pytest.param(
            "  variables:\n    - {name: while, expression: 1}\n",
            f"6:14: {NAME}, found `while`",
            id="variable",
        ),
        pytest.param(
            "  variables:\n    - {name: x, expression: 1}\n    - {name: x, expression: 2}\n",
            "7:14: duplicate variable `x`, first defined on line 6",
            id="variable twice",
        ),
        pytest.param(
            "  cohortVariables:\n    - {name: x, expression: 1}\n  variables:\n"
            "    - {name: x, expression: 2}\n",
            "8:14: duplicate variable `x`, first defined on line 6",
            id="a cohort variable of the same name",
        ),
        pytest.param(
            "  variables:\n    - {name: x, expression: ''}\n",
            "6:29: an expression is needed, found ``",
            id="empty expression",
        ),
        pytest.param(
            "  variables:\n    - {name: x, expression: }\n",
            "6:28: expected true or false or a number or text, found nothing",
            id="no expression",
        ),
        pytest.param(
            "  request:\n    - {name: a, expression: x, reason: EVAL_ERROR}\n",
            "6:40: expected one of geo, data_region, data_policy:zdr, data_policy:training, "
            "max_price, context_length, require_parameters, quantization, allowed_providers, "
            "ignored, only, tools, unsupported, health, policy, found `EVAL_ERROR`",
            id="a reason that only the engine uses",
        ),
        pytest.param(
            "  request:\n    - {name: a, expression: x}\n",
            "6:7: key `reason` is missing",
            id="missing key",
        ),
        pytest.param(
            "  request:\n    - {name: a, expression: x, reason: tools, onError: pass}\n",
            "6:47: unknown key `onError`, expected one of name, when, expression, reason, message, "
            "messageExpression, onMissing, action",
            id="unknown key of a rule",
        ),
        pytest.param(
            "  request: {a: 1}\n", "5:12: expected a list, found a mapping", id="mapping for a list"
        ),
        pytest.param("  order: []\n", "5:10: the list must not be empty", id="empty order"),
        pytest.param(
            "  order:\n    - {name: a, expression: x, weight: y}\n",
            "6:32: an order key has an expression to sort by or a weight to draw by, not both",
            id="two ways",
        ),
        pytest.param(
            "  order:\n    - {name: a, weight: y, direction: ascending}\n",
            "6:28: a key that draws by weight has no direction",
            id="direction of a draw",
        ),
        pytest.param(
            "  order:\n    - {name: a, when: x}\n",
            "6:17: `when` needs an expression as well: a key with only a name is "
            "inherited as it is",
            id="a key without an expression but with a guard",
        ),
        pytest.param(
            "  extends: strict\n",
            "5:12: rule sets extend each other in a circle: strict → strict",
            id="itself",
        ),
        pytest.param(
            "  extends: other\n",
            "5:12: unknown rule set `other`, expected strict",
            id="extends nothing",
        ),
    ],
)
def test_a_fault_in_a_rule_set_is_reported(
    spec: str, expected: str, policy: Policy, faults: Faults
) -> None:
    assert faults(policy(spec)) == [f"strict.yaml:{expected}"]
