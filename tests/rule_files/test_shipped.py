"""The shipped rule files load, and `exacto` is read as written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.policy.rule_set import Expression, MemorySpec, RuleSet
from assay.rule_files.directory import read_directory
from assay.rule_files.read import read_policy
from assay.server.settings import policy_dir


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return dict(read_directory(policy_dir()).files)


def expressions(rule_set: RuleSet) -> Iterator[Expression]:
    for variable in (*rule_set.cohort_variables, *rule_set.variables):
        yield variable.expression
    for rule in (*(rule_set.enter or ()), *(rule_set.stay or ()), *rule_set.request):
        yield from (e for e in (rule.expression, rule.when, rule.message_expression) if e)
    for key in rule_set.order or ():
        yield from (e for e in (key.expression, key.weight, key.when) if e)


def test_every_file_loads(files: dict[str, str]) -> None:
    rule_sets, bindings = read_policy(files)
    assert {r.name for r in rule_sets} >= {
        "auto-exacto",
        "default",
        "exacto",
        "floor",
        "latency",
        "nitro",
    }
    assert {b.name for b in bindings} >= {"exacto", "nitro", "floor", "auto", "default"}
    assert {b.rule_set for b in bindings} <= {r.name for r in rule_sets}


def test_exacto_is_read_as_written(files: dict[str, str]) -> None:
    exacto = next(r for r in read_policy(files)[0] if r.name == "exacto")
    assert exacto.extends == "default"
    assert exacto.mode == "enforce"
    assert exacto.evidence == EvidenceSpec(
        max_age=timedelta(days=90),
        half_life_target=2000.0,
        half_life_min=timedelta(hours=12),
        half_life_max=timedelta(hours=168),
        design_effect=2.2,
    )
    assert exacto.memory == MemorySpec(
        hold=timedelta(hours=24),
        hold_max=timedelta(hours=168),
        backoff=2.0,
        slow_failures=2,
        slow_evictions=1,
        accuracy="accuracy_enter",
        change_odds=2.0,
        cusum_limit=8.0,
        cusum_cap=800.0,
        keep_after_eviction=0.1,
    )
    assert exacto.minimum == 0
    assert exacto.params["accuracy_enter"] == 0.95
    assert (exacto.params["propensity_minimum_endpoints"], exacto.params["prior_strength"]) == (
        5,
        20.0,
    )
    assert isinstance(exacto.params["propensity_minimum_endpoints"], int)
    assert isinstance(exacto.params["prior_strength"], float)
    assert exacto.enter
    assert exacto.stay
    assert exacto.order is None
    assert [r.on_missing for r in exacto.enter if r.reason == "PROPENSITY"] == ["pass"]
    assert [r.on_missing for r in exacto.enter if r.reason == "ACCURACY"] == ["exclude"]


def test_every_line_of_every_expression_has_its_position(files: dict[str, str]) -> None:
    for rule_set in read_policy(files)[0]:
        lines = files[f"{rule_set.name}.yaml"].split("\n")
        for expression in expressions(rule_set):
            for number, text in enumerate(expression.text.split("\n"), start=1):
                place = expression.locate(number, 1)
                assert lines[place.line - 1][place.column - 1 :].startswith(text)
