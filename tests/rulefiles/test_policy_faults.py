"""Each fault that an author can make is found, at its place and in words; all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from assay.engine.faults import PolicyFaults
from assay.rulefiles.directory import read_directory
from assay.rulefiles.read import read_policy
from assay.rulefiles.render import render

FIXTURES = Path(__file__).parent / "fixtures"
HEAD = "apiVersion: assay/v1\nkind: RuleSet\nmetadata: {name: strict}\nspec:\n"
RULE = "{name: a, expression: 'true', reason: zdr}"


def policy(strict: str = "", bindings: str = "  - {name: default, ruleSet: strict}\n", **more: str) -> dict[str, str]:
    head = "apiVersion: assay/v1\nkind: Bindings\nmetadata: {name: bindings}\nspec:\n"
    other = {f"{name}.yaml": HEAD.replace("strict", name) + text for name, text in more.items()}
    return {"strict.yaml": HEAD + (strict or "  {}\n"), "bindings.yaml": head + bindings, **other}


def faults(files: dict[str, str]) -> list[str]:
    try:
        read_policy(files)
    except PolicyFaults as error:
        return [str(fault) for fault in error.faults]
    return []


def test_ten_faults_are_reported_as_ten() -> None:
    files = read_directory(FIXTURES / "ten_faults").files
    with pytest.raises(PolicyFaults) as caught:
        read_policy(files)
    assert len(caught.value.faults) == 10
    rendered = "".join(f"{render(fault, files)}\n" for fault in caught.value.faults)
    assert rendered == (FIXTURES / "ten_faults.txt").read_text(encoding="utf-8")


def test_faults_of_all_files_come_together() -> None:
    files = policy("  mode: off\n", "  - {name: default, ruleSet: nobody}\n", broken="  a: [\n", other="  extends: x\n")
    assert [line.split(": ")[0] for line in faults(files)] == [
        "bindings.yaml:5:30",
        "broken.yaml:6:1",
        "other.yaml:5:12",
        "strict.yaml:5:9",
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param("  mode: on\n", "5:9: expected one of enforce, shadow, found `on`", id="a word that YAML 1.1 turns"),
        pytest.param("  mode: Shadow\n", "5:9: expected one of enforce, shadow, found `Shadow`, did you mean `shadow`?",
                     id="a word in other letters"),
        pytest.param("  memory: {hold: 24h}\n", "5:3: unknown key `memory`, expected one of extends, mode, evidence, "
                     "params, cohortVariables, variables, pool, request, order", id="a block of a later day"),
        pytest.param("  evidence: {maxage: 90d}\n", "5:14: unknown key `maxage`, did you mean `maxAge`?", id="unknown key"),
        pytest.param("  evidence: {maxAge: 1.5d}\n", "5:22: a duration is a whole number and one of s, m, h, d, such as "
                     "90d or 12h, found `1.5d`", id="fractional duration"),
        pytest.param("  evidence: {maxAge: 90}\n", '5:22: expected text, found the number 90; in quotes it is text: "90"',
                     id="duration without a unit"),
        pytest.param("  evidence: {halfLifeMin: 169h}\n", "5:27: halfLifeMin (7 days, 1:00:00) is longer than halfLifeMax "
                     "(7 days, 0:00:00)", id="bounds the wrong way round"),
        pytest.param("  evidence: {designEffect: 0}\n", "5:28: must be at least 1, found the number 0", id="too small"),
        pytest.param("  pool: {minimum: 1.5}\n", "5:19: expected a whole number, found the number 1.5", id="not whole"),
        pytest.param("  pool: {onEmpty: relax}\n", "5:19: expected fail, found `relax`", id="one word only"),
        pytest.param("  params: {good: {a: 1}}\n", "5:18: expected true or false or a number or text or a list, "
                     "found a mapping", id="parameter of no type"),
        pytest.param("  params: {good: [a, 1]}\n", '5:22: expected text, found the number 1; in quotes it is text: "1"',
                     id="list parameter that is not of text"),
        pytest.param("  params: {in: 1}\n", "5:12: `in`: the name is a reserved word of CEL, found `in`", id="CEL word"),
        pytest.param("  params: {a-b: 1}\n", "5:12: `a-b`: a name that expressions read is up to 64 small letters, digits "
                     "and `_`, beginning with a letter, found `a-b`", id="parameter that CEL could not name"),
        pytest.param("  variables:\n    - {name: x, expression: 1}\n    - {name: x, expression: 2}\n",
                     "7:14: duplicate variable `x`, first defined on line 6", id="variable twice"),
        pytest.param("  cohortVariables:\n    - {name: x, expression: 1}\n  variables:\n    - {name: x, expression: 2}\n",
                     "8:14: duplicate variable `x`, first defined on line 6", id="variable of the cohort again"),
        pytest.param("  variables:\n    - {name: x, expression: ''}\n",
                     "6:29: an expression is needed, found ``", id="empty expression"),
        pytest.param("  variables:\n    - {name: x, expression: }\n",
                     "6:28: expected true or false or a number or text, found nothing", id="no expression"),
        pytest.param("  request:\n    - {name: a, expression: x, reason: EVAL_ERROR}\n",
                     "6:40: expected one of geo, data_region, data_policy:zdr, data_policy:training, max_price, "
                     "context_length, require_parameters, quantization, allowed_providers, ignored, only, tools, health, "
                     "policy, found `EVAL_ERROR`", id="a reason that only the engine gives"),
        pytest.param("  request:\n    - {name: a, expression: x}\n", "6:7: key `reason` is missing", id="missing key"),
        pytest.param("  request:\n    - {name: a, expression: x, reason: tools, onError: pass}\n",
                     "6:47: unknown key `onError`, expected one of name, when, expression, reason, message, "
                     "messageExpression, onMissing, action", id="unknown key of a rule"),
        pytest.param("  request: {a: 1}\n", "5:12: expected a list, found a mapping", id="mapping for a list"),
        pytest.param("  order: []\n", "5:10: the list must not be empty", id="empty order"),
        pytest.param("  order:\n    - {name: a, expression: x, weight: y}\n",
                     "6:32: an order key has an expression to sort by or a weight to draw by, not both", id="two ways"),
        pytest.param("  order:\n    - {name: a, weight: y, direction: ascending}\n",
                     "6:28: a key that draws by weight has no direction", id="direction of a draw"),
        pytest.param("  order:\n    - {name: a, when: x}\n", "6:17: `when` needs an expression beside it: a key that is "
                     "only named is inherited as it is", id="what would do nothing"),
        pytest.param("  extends: strict\n", "5:12: rule sets extend each other in a circle: strict → strict", id="itself"),
        pytest.param("  extends: other\n", "5:12: unknown rule set `other`, expected strict", id="extends nothing"),
    ],
)  # fmt: skip
def test_rule_set(spec: str, expected: str) -> None:
    assert faults(policy(spec)) == [f"strict.yaml:{expected}"]


@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        pytest.param("  - {name: a, variant: a, ruleSet: strict}\n", ["5:3: no default: one binding must have neither "
                     "variant, sort nor when"], id="no default"),
        pytest.param("  - {name: a, ruleSet: strict}\n  - {name: b, ruleSet: strict}\n", ["6:5: a second default; with "
                     "neither variant, sort nor when there is `a` on line 5 already"], id="two defaults"),
        pytest.param("  - {name: a, ruleSet: strict, tenants: [acme]}\n", ["5:32: the default binding is for all tenants"],
                     id="default of a tenant"),
        pytest.param("  - {name: a, ruleSet: strict}\n  - {name: a, variant: x, ruleSet: strict}\n",
                     ["6:12: duplicate binding `a`, first defined on line 5"], id="name twice"),
        pytest.param("  - {name: a, ruleSet: strict}\n  - {name: b, variant: x, sort: price, ruleSet: strict}\n",
                     ["6:27: a binding has one of variant, sort and when, found variant and sort"], id="two selectors"),
        pytest.param("  - {name: a, ruleSet: strict}\n  - {name: b, variant: x, ruleSet: strict}\n"
                     "  - {name: c, variant: x, ruleSet: strict}\n",
                     ["7:24: variant `x` is bound without tenants by `b` on line 6 already"], id="variant twice"),
        pytest.param("  - {name: a, ruleSet: strict}\n  - {name: b, variant: x, ruleSet: strict, tenants: [k, l]}\n"
                     "  - {name: c, variant: x, ruleSet: strict, tenants: [m, l]}\n",
                     ["7:57: variant `x` is bound for the tenant `l` by `b` on line 6 already"], id="tenants overlap"),
        pytest.param("  - {name: a, ruleSet: strict}\n  - {name: b, sort: price, ruleSet: strict}\n"
                     "  - {name: c, variant: price, ruleSet: strict}\n  - {name: d, variant: price, ruleSet: strict, "
                     "tenants: [k]}\n", [], id="sorts, variants and tenants do not meet"),
        pytest.param("  - {name: a, ruleSet: strict}\n  - {name: b, variant: free, ruleSet: strict}\n",
                     ["6:24: the variant belongs to the names of models (free, batch, thinking, extended) and cannot be "
                      "bound, found `free`"], id="catalog variant"),
        pytest.param("  - {name: a, ruleSet: strict}\n  - {name: b, sort: cheap, ruleSet: strict}\n",
                     ["6:21: expected one of price, throughput, latency, exacto, found `cheap`"], id="unknown sort"),
        pytest.param("  - {name: a, ruleSet: strickt}\n",
                     ["5:24: unknown rule set `strickt`, did you mean `strict`?"], id="unknown rule set"),
        pytest.param("  - {name: a, ruleSet: strict, params: {acuracy: 0.9, accuracy: 1, limit: 2.0, words: no}}\n", [
            "5:50: unknown parameter of rule set strict `acuracy`, did you mean `accuracy`?",
            "5:65: `accuracy` is a number with a decimal point in strict, found a whole number; write 1.0",
            "5:75: `limit` is a whole number in strict, found a number with a decimal point",
            "5:87: `words` is a list in strict, found text",
        ], id="parameters"),
        pytest.param("  - {name: a, ruleSet: strict, params: {accuracy: 0.9, limit: 2, words: [], on: true}}\n", [],
                     id="right parameters"),
        pytest.param("  []\n", ["5:3: no default: one binding must have neither variant, sort nor when",
                                "5:3: the list must not be empty"], id="empty"),
    ],
)  # fmt: skip
def test_bindings(bindings: str, expected: list[str]) -> None:
    files = policy("  params: {accuracy: 0.95, limit: 3, words: [a], on: false}\n", bindings)
    assert faults(files) == [f"bindings.yaml:{line}" for line in expected]


def test_parameters_are_inherited() -> None:
    files = policy("  extends: base\n", "  - {name: a, ruleSet: strict, params: {x: 2}}\n", base="  params: {x: 1}\n")
    assert faults(files) == []
    retyped = policy("  extends: base\n  params: {x: 1.0}\n", base="  params: {x: 1}\n")
    assert faults(retyped) == ["strict.yaml:6:15: `x` is a whole number in base, found a number with a decimal point"]


def test_a_circle_is_reported_once() -> None:
    files = policy("  extends: b\n", a="  extends: b\n", b="  extends: c\n", c="  extends: a\n")
    assert faults(files) == ["a.yaml:5:12: rule sets extend each other in a circle: a → b → c → a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a", "1:1: expected a mapping with apiVersion, kind, metadata and spec, found `a`", id="text"),
        pytest.param("apiVersion: assay/v1\n", "1:1: key `kind` is missing, one of RuleSet", id="no kind"),
        pytest.param("kind: Ruleset\n", "1:7: kind: expected RuleSet, found `Ruleset`, did you mean `RuleSet`?", id="near"),
        pytest.param("kind: RuleSetTest\n", "1:7: a RuleSetTest belongs into a file whose name ends in _test.yaml",
                     id="a test"),
        pytest.param("kind: Bindings\n", "1:7: bindings stand in one file, bindings.yaml at the top, not in x.yaml",
                     id="bindings"),
        pytest.param("{apiVersion: v2, kind: RuleSet, metadata: {name: x}, spec: {}}",
                     "1:14: expected assay/v1, found `v2`", id="version"),
        pytest.param("{apiVersion: assay/v1, kind: RuleSet, metadata: {name: y}, spec: {}}",
                     "1:56: the file x.yaml must hold the rule set `x`, found `y`", id="name"),
    ],
)  # fmt: skip
def test_kinds_of_file(text: str, expected: str) -> None:
    assert faults({**policy(), "x.yaml": text}) == [f"x.yaml:{expected}"]


def test_there_are_bindings() -> None:
    files = policy()
    del files["bindings.yaml"]
    assert faults(files) == ["bindings.yaml:1:1: there is no bindings.yaml, which says what rule set applies when"]


def test_rule_sets_in_two_folders_have_two_names() -> None:
    files = {**policy(), "team/strict.yaml": policy()["strict.yaml"]}
    assert faults(files) == ["team/strict.yaml:1:1: the rule set `strict` stands in strict.yaml already"]


def test_an_unreadable_rule_set_is_not_also_unknown() -> None:
    files = policy("  extends: base\n", "  - {name: a, ruleSet: base, params: {x: 1}}\n")
    assert [line.split(":")[0] for line in faults({**files, "base.yaml": "a: ["})] == ["base.yaml"]
