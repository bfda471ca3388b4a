"""Every fault in bindings, or between files, is reported with its position."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Policy = Callable[..., dict[str, str]]
Faults = Callable[[dict[str, str]], list[str]]


@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        pytest.param(
            "  - {name: a, variant: a, ruleSet: strict}\n",
            ["5:3: no default: one binding must have neither variant, sort nor when"],
            id="no default",
        ),
        pytest.param(
            "  - {name: a, ruleSet: strict}\n  - {name: b, ruleSet: strict}\n",
            ["6:5: a second default: `a` on line 5 has neither variant, sort nor when already"],
            id="two defaults",
        ),
        pytest.param(
            "  - {name: a, ruleSet: strict, tenants: [acme]}\n",
            ["5:32: the default binding is for all tenants"],
            id="default of a tenant",
        ),
        pytest.param(
            "  - {name: a, ruleSet: strict}\n  - {name: a, variant: x, ruleSet: strict}\n",
            ["6:12: duplicate binding `a`, first defined on line 5"],
            id="name twice",
        ),
        pytest.param(
            "  - {name: a, ruleSet: strict}\n"
            "  - {name: b, variant: x, sort: price, ruleSet: strict}\n",
            ["6:27: a binding has one of variant, sort and when, found variant and sort"],
            id="two selectors",
        ),
        pytest.param(
            "  - {name: a, ruleSet: strict}\n  - {name: b, variant: x, ruleSet: strict}\n"
            "  - {name: c, variant: x, ruleSet: strict}\n",
            ["7:24: variant `x` is already bound without tenants by `b` on line 6"],
            id="variant twice",
        ),
        pytest.param(
            "  - {name: a, ruleSet: strict}\n"
            "  - {name: b, variant: x, ruleSet: strict, tenants: [k, l]}\n"
            "  - {name: c, variant: x, ruleSet: strict, tenants: [m, l]}\n",
            ["7:57: variant `x` is already bound for the tenant `l` by `b` on line 6"],
            id="tenants overlap",
        ),
        pytest.param(
            "  - {name: a, ruleSet: strict}\n  - {name: b, sort: price, ruleSet: strict}\n"
            "  - {name: c, variant: price, ruleSet: strict}\n"
            "  - {name: d, variant: price, ruleSet: strict, tenants: [k]}\n",
            [],
            id="sorts, variants and tenants do not conflict",
        ),
        pytest.param(
            "  - {name: a, ruleSet: strict}\n  - {name: b, variant: free, ruleSet: strict}\n",
            [
                (
                    "6:24: free, batch, thinking and extended are parts of model names and cannot "
                    "be bound, found `free`"
                )
            ],
            id="catalog variant",
        ),
        pytest.param(
            "  - {name: a, ruleSet: strict}\n  - {name: b, sort: cheap, ruleSet: strict}\n",
            ["6:21: expected one of price, throughput, latency, exacto, found `cheap`"],
            id="unknown sort",
        ),
        pytest.param(
            "  - {name: a, ruleSet: strickt}\n",
            ["5:24: unknown rule set `strickt`, did you mean `strict`?"],
            id="unknown rule set",
        ),
        pytest.param(
            "  - {name: a, ruleSet: strict, params: {acuracy: 0.9, accuracy: 1, limit: 2.0, "
            "words: no}}\n",
            [
                "5:50: unknown parameter of rule set strict `acuracy`, did you mean `accuracy`?",
                (
                    "5:65: `accuracy` is a number with a decimal point in strict, "
                    "found a whole number; write 1.0"
                ),
                "5:75: `limit` is a whole number in strict, found a number with a decimal point",
                "5:87: `words` is a list in strict, found text",
            ],
            id="parameters",
        ),
        pytest.param(
            "  - {name: a, ruleSet: strict, params: {accuracy: 0.9, limit: 2, words: [], "
            "on: true}}\n",
            [],
            id="right parameters",
        ),
        pytest.param(
            "  []\n",
            [
                "5:3: no default: one binding must have neither variant, sort nor when",
                "5:3: the list must not be empty",
            ],
            id="empty",
        ),
    ],
)
def test_a_fault_in_bindings_is_reported(
    bindings: str, expected: list[str], policy: Policy, faults: Faults
) -> None:
    files = policy("  params: {accuracy: 0.95, limit: 3, words: [a], on: false}\n", bindings)
    assert faults(files) == [f"bindings.yaml:{line}" for line in expected]


def test_parameters_are_inherited(policy: Policy, faults: Faults) -> None:
    files = policy(
        "  extends: base\n",
        "  - {name: a, ruleSet: strict, params: {x: 2}}\n",
        base="  params: {x: 1}\n",
    )
    assert faults(files) == []
    retyped = policy("  extends: base\n  params: {x: 1.0}\n", base="  params: {x: 1}\n")
    assert faults(retyped) == [
        "strict.yaml:6:15: `x` is a whole number in base, found a number with a decimal point"
    ]


def test_a_cycle_of_rule_sets_is_reported_once(policy: Policy, faults: Faults) -> None:
    files = policy("  extends: b\n", a="  extends: b\n", b="  extends: c\n", c="  extends: a\n")
    assert faults(files) == ["a.yaml:5:12: rule sets extend each other in a circle: a → b → c → a"]
