"""Each difference between a plan and a case's expectation is reported in one line."""

from __future__ import annotations

import pytest

from assay.engine.decide.plan import Plan, PlannedAttempt
from assay.engine.policy.verdict import RuleFinding, Verdict
from assay.rule_files.cases import Case, check_case

KIMI = "moonshotai/kimi-k2-0905"
FIRST, AGAIN, TURBO = f"{KIMI}@moonshotai", f"{KIMI}@moonshotai~2", f"{KIMI}@moonshotai/turbo"
OTHER = "deepseek/deepseek-v3@novita"


def plan(*attempts: str, availability: str = "", abstained: str = "", **broken: str) -> Plan:
    ids = {"first": FIRST, "again": AGAIN, "turbo": TURBO, "other": OTHER}
    finding = RuleFinding("propensity_in_band", "PROPENSITY", "", "absent", "exacto")
    return Plan(
        attempts=tuple(
            PlannedAttempt(n, KIMI, ids[key], "p", "t", "default")
            for n, key in enumerate(attempts, 1)
        ),
        verdicts=tuple(
            Verdict(
                endpoint_id,
                KIMI,
                "p",
                "t",
                broken=tuple(
                    RuleFinding("r", word, "", "false", "d") for word in broken.get(key, "").split()
                ),
                abstained=(finding,) if key == abstained else (),
            )
            for key, endpoint_id in ids.items()
        ),
        availability=availability,
        snapshot_id="s",
        policy_revision=1,
    )


FITTING = {"again": "ACCURACY PROPENSITY", "other": "tools"}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(plan("first", "turbo", **FITTING), (), id="as expected"),
        pytest.param(
            plan("first", "turbo", other="tools", again="PROPENSITY ACCURACY ACCURACY"),
            (),
            id="any order of reasons",
        ),
        pytest.param(
            plan("turbo", "first", **FITTING),
            ("expected attempts [first, turbo], got [turbo, first]",),
            id="order",
        ),
        pytest.param(
            plan("first", **FITTING, turbo="zdr max_price"),
            (
                "expected attempts [first, turbo], got [first]",
                "turbo was excluded for [max_price, zdr], which the case does not expect",
            ),
            id="one too few",
        ),
        pytest.param(
            plan("first", "turbo", **{**FITTING, "again": "ACCURACY"}),
            ("expected again to be excluded for [ACCURACY, PROPENSITY], got [ACCURACY]",),
            id="reason missing",
        ),
        pytest.param(
            plan("first", "turbo", "other", again=FITTING["again"]),
            (
                "expected attempts [first, turbo], got [first, turbo, other]",
                "expected other to be excluded for [tools], it was attempted",
            ),
            id="one too many",
        ),
        pytest.param(
            plan("first", "turbo", again=FITTING["again"]),
            ("expected other to be excluded for [tools], got []",),
            id="neither",
        ),
    ],
)
def test_each_difference_is_one_line(
    made: Plan, expected: tuple[str, ...], cases: dict[str, Case]
) -> None:
    assert check_case(cases["plain"], made) == expected


@pytest.mark.parametrize(
    ("name", "made", "expected"),
    [
        pytest.param(
            "table: as it is",
            plan("turbo", "first", again="x", other="x"),
            (
                f"{OTHER} was excluded for [x], which the case does not expect",
                f"{AGAIN} was excluded for [x], which the case does not expect",
            ),
            id="an unknown endpoint is named by its id",
        ),
        pytest.param(
            "table: as it is",
            plan("turbo"),
            (
                "expected attempts [first, turbo] in any order, got [turbo]",
                f"{OTHER} was neither attempted nor excluded, which the case does not expect",
                "first was neither attempted nor excluded, which the case does not expect",
                f"{AGAIN} was neither attempted nor excluded, which the case does not expect",
            ),
            id="one of a set is missing",
        ),
        pytest.param(
            "table: cheaper",
            plan(first="only", turbo="x", again="x", other="x", availability="down"),
            (
                "expected first to be excluded at least for [max_price], got [only]",
                f"{OTHER} was excluded for [x], which the case does not expect",
                f"{AGAIN} was excluded for [x], which the case does not expect",
                "turbo was excluded for [x], which the case does not expect",
                "expected availability constraint_filtered, got down",
            ),
            id="some of the reasons",
        ),
        pytest.param(
            "table: later", plan("turbo", abstained="turbo"), (), id="only the requested endpoints"
        ),
        pytest.param(
            "table: later",
            plan("first"),
            (
                "expected first attempt turbo, got first",
                "expected rules [propensity_in_band] to abstain for turbo, got []",
            ),
            id="first attempt and abstentions",
        ),
        pytest.param(
            "table: later",
            plan(abstained="turbo"),
            ("expected first attempt turbo, got none",),
            id="no endpoint",
        ),
    ],
)
def test_partial_expectations_are_checked(
    name: str, made: Plan, expected: tuple[str, ...], cases: dict[str, Case]
) -> None:
    assert sorted(check_case(cases[name], made)) == sorted(expected)
