"""All faults of all files are reported at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assay.engine.policy.faults import PolicyFaults
from assay.rule_files.directory import read_directory
from assay.rule_files.read import read_policy
from assay.rule_files.render import render_fault

Policy = Callable[..., dict[str, str]]
Faults = Callable[[dict[str, str]], list[str]]

FIXTURES = Path(__file__).parent / "fixtures"


def test_ten_faults_are_reported_as_ten() -> None:
    files = read_directory(FIXTURES / "ten_faults").files
    with pytest.raises(PolicyFaults) as caught:
        read_policy(files)
    assert len(caught.value.faults) == 10
    rendered = "".join(f"{render_fault(fault, files)}\n" for fault in caught.value.faults)
    assert rendered == (FIXTURES / "ten_faults.txt").read_text(encoding="utf-8")


def test_faults_of_all_files_are_reported_together(policy: Policy, faults: Faults) -> None:
    files = policy(
        "  mode: off\n",
        "  - {name: default, ruleSet: missing}\n",
        broken="  a: [\n",
        other="  extends: x\n",
    )
    assert [line.split(": ")[0] for line in faults(files)] == [
        "bindings.yaml:5:30",
        "broken.yaml:6:1",
        "other.yaml:5:12",
        "strict.yaml:5:9",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "a",
            "1:1: expected a mapping with apiVersion, kind, metadata and spec, found `a`",
            id="text",
        ),
        pytest.param(
            "apiVersion: assay/v1\n", "1:1: key `kind` is missing, one of RuleSet", id="no kind"
        ),
        pytest.param(
            "kind: Ruleset\n",
            "1:7: kind: expected RuleSet, found `Ruleset`, did you mean `RuleSet`?",
            id="near",
        ),
        pytest.param(
            "kind: RuleSetTest\n",
            "1:7: a RuleSetTest belongs in a file whose name ends in _test.yaml",
            id="a test",
        ),
        pytest.param(
            "kind: Bindings\n",
            "1:7: bindings belong in bindings.yaml at the top of the directory, not in x.yaml",
            id="bindings",
        ),
        pytest.param(
            "{apiVersion: v2, kind: RuleSet, metadata: {name: x}, spec: {}}",
            "1:14: expected assay/v1, found `v2`",
            id="version",
        ),
        pytest.param(
            "{apiVersion: assay/v1, kind: RuleSet, metadata: {name: y}, spec: {}}",
            "1:56: the file x.yaml must hold the rule set `x`, found `y`",
            id="name",
        ),
    ],
)
def test_a_file_needs_a_known_kind(
    text: str, expected: str, policy: Policy, faults: Faults
) -> None:
    assert faults({**policy(), "x.yaml": text}) == [f"x.yaml:{expected}"]


def test_a_policy_without_bindings_is_a_fault(policy: Policy, faults: Faults) -> None:
    files = policy()
    del files["bindings.yaml"]
    assert faults(files) == [
        "bindings.yaml:1:1: bindings.yaml is missing: it says which rule set applies when"
    ]


def test_rule_sets_in_two_folders_need_different_names(policy: Policy, faults: Faults) -> None:
    files = {**policy(), "team/strict.yaml": policy()["strict.yaml"]}
    assert faults(files) == [
        "team/strict.yaml:1:1: the rule set `strict` is already defined in strict.yaml"
    ]


def test_an_unreadable_rule_set_is_not_also_unknown(policy: Policy, faults: Faults) -> None:
    files = policy("  extends: base\n", "  - {name: a, ruleSet: base, params: {x: 1}}\n")
    assert [line.split(":")[0] for line in faults({**files, "base.yaml": "a: ["})] == ["base.yaml"]
