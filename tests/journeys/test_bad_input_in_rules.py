"""Bad input in rule files: exit code 3, every error with its place, an excerpt and a caret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.commands import assay, assay_process, copy_policy

HOSTILE = {
    "deep": "(" * 300 + "1 == 1" + ")" * 300,
    "chain": " || ".join(["endpoint.zdr"] * 2000),
    "nested macros": "endpoint.supported_parameters.all(a, endpoint.supported_parameters.all(b, "
    "endpoint.supported_parameters.all(c, a == b && b == c)))",
    "long": "'" + "x" * 5000 + "' == endpoint.id",
    "regex from data": "endpoint.id.matches(endpoint.provider)",
    "regex beyond reason": "endpoint.id.matches('(a{1000}){1000}')",
    "overflow": "9223372036854775807 + 1 > 0 && 99999999999999999999 > 1",
    "unknown name": "endpoint.guess > 1",
    "not a rule": "1 + 1",
    "no CEL": "import os",
}


@pytest.mark.parametrize(
    "expression", [pytest.param(text, id=name) for name, text in HOSTILE.items()]
)
def test_a_hostile_rule_is_rejected_with_its_place(tmp_path: Path, expression: str) -> None:
    policy = copy_policy(tmp_path)
    (policy / "floor.yaml").write_text(ruleset("floor", [expression]))
    ran = assay("policy", "check", policy)
    assert (ran.code, ran.out) == (3, "")
    assert "floor.yaml:8:" in ran.err
    assert "^" in ran.err
    assert "Traceback" not in ran.err


def test_ten_errors_are_ten_reports_with_place_excerpt_and_caret(
    small: str, tmp_path: Path
) -> None:
    policy = copy_policy(tmp_path)
    (policy / "floor.yaml").write_text(
        ruleset("floor", [f"endpoint.guess{number} > 1" for number in range(10)])
    )
    ran = assay("policy", "check", policy)

    assert (ran.code, ran.out) == (3, "")
    for number in range(10):
        assert f"floor.yaml:{8 + 3 * number}:" in ran.err
        assert f"guess{number}" in ran.err
    assert ran.err.count("^") >= 10
    assert "10 faults" in ran.err
    ran = assay("policy", "check", policy, "--json")
    assert (ran.code, ran.err) == (3, "")
    assert [(f["file"], f["line"]) for f in ran.json["faults"]] == [
        ("floor.yaml", 8 + 3 * n) for n in range(10)
    ]
    decided = assay("decide", "lab/mixed", "--policy", policy, "--database", small)
    assert (decided.code, decided.out) == (3, "")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        pytest.param("a: [", "floor.yaml:", id="half a list"),
        pytest.param("a: &a [*a, *a]\n", "floor.yaml:", id="aliases"),
        pytest.param("\x00", "floor.yaml:", id="NUL"),
        pytest.param(
            "apiVersion: assay/v1\nkind: RuleSet\nkind: RuleSet\n",
            "floor.yaml:3:",
            id="a key twice",
        ),
        pytest.param(
            "apiVersion: assay/v9\nkind: RuleSet\n", "floor.yaml:1:", id="a version to come"
        ),
        pytest.param("a: " + "[" * 5000, "floor.yaml:", id="deep"),
        pytest.param("x" * 2_000_000, "floor.yaml:", id="2 MB"),
        pytest.param(
            "a: !!python/object/apply:os.system [id]\n", "floor.yaml:", id="YAML that runs"
        ),
    ],
)
def test_an_invalid_rule_file_is_rejected_with_its_place(
    tmp_path: Path, content: str, place: str
) -> None:
    policy = copy_policy(tmp_path)
    (policy / "floor.yaml").write_text(content)
    ran = assay("policy", "check", policy)

    assert (ran.code, ran.out) == (3, "")
    assert place in ran.err
    assert len(ran.err) < 4000


def test_a_server_does_not_start_on_bad_rules(small: str, tmp_path: Path) -> None:
    policy = copy_policy(tmp_path)
    (policy / "floor.yaml").write_text(ruleset("floor", ["endpoint.guess > 1"]))
    ran = assay_process("serve", "--listen", "127.0.0.1:0", "--database", small, "--policy", policy)

    assert ran.code == 3
    assert "floor.yaml:8:" in ran.err
    assert "Traceback" not in ran.err


def ruleset(name: str, expressions: list[str]) -> str:
    """Return a rule set with one rule for each expression, from line 8 on, three lines each."""
    rules = "".join(
        f"    - name: rule{number}\n      expression: {json.dumps(text)}\n      reason: policy\n"
        for number, text in enumerate(expressions)
    )
    head = f"apiVersion: assay/v1\nkind: RuleSet\nmetadata:\n  name: {name}\nspec:\n  request:\n"
    return head + rules
