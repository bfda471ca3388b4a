"""Test files become cases; a plan that differs is told in one line each."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from assay.engine.catalog import Model, Percentiles, Preference, PriceOverride, Prices, TenantSettings
from assay.engine.faults import PolicyFaults
from assay.engine.plan import Attempt, Plan
from assay.engine.request import MaxPrice
from assay.engine.verdict import RuleFinding, Verdict
from assay.rulefiles.cases import Case, check_case, read_cases

TEXT = (Path(__file__).parent / "fixtures" / "pool_test.yaml").read_text(encoding="utf-8")
KIMI = "moonshotai/kimi-k2-0905"
FIRST, AGAIN, TURBO = f"{KIMI}@moonshotai", f"{KIMI}@moonshotai~2", f"{KIMI}@moonshotai/turbo"
OTHER = "deepseek/deepseek-v3@novita"
NOON = datetime(2025, 9, 23, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {case.name: case for case in read_cases({"pool_test.yaml": TEXT})}


def test_every_row_is_a_case(cases: dict[str, Case]) -> None:
    assert list(cases) == ["plain", "table: as it is", "table: cheaper", "table: later"]
    assert [case.skipped for case in cases.values()] == [None, None, None, "not built"]
    assert [case.place.line for case in cases.values()] == [38, 53, 54, 58]


def test_the_world_is_that_of_the_fixtures(cases: dict[str, Case]) -> None:
    world = cases["plain"].world
    assert world.models == (
        Model(KIMI, context_length=262144, input_modalities=("text",), distillable=True),
        Model("deepseek/deepseek-v3"),
    )
    assert [e.endpoint_id for e in world.endpoints] == [FIRST, AGAIN, TURBO, OTHER]
    first = world.endpoints[0]
    assert first.prices == Prices(prompt=0.6, completion=2.5, request_usd=0.0)
    assert first.overrides == (PriceOverride(Prices(prompt=1.0), 1000, 0, 60, (1, 7)),)
    assert (first.latency_s, first.throughput_tps) == (Percentiles(p50=0.5), Percentiles(p50=40.0))
    assert (first.zdr, first.collects_data) == (False, None)
    assert (world.endpoints[2].tag, world.endpoints[2].uptime_1d_percent) == ("moonshotai/turbo", 99.0)
    good, bad = world.observations
    assert (good.endpoint_id, good.source, good.reference) == (FIRST, "fixture", True)
    assert (good.observed_from, good.observed_to) == (datetime(2025, 9, 22, 12, tzinfo=UTC), NOON)
    assert (bad.endpoint_id, bad.observed_from) == (AGAIN, datetime(2025, 9, 20, 22, tzinfo=UTC))
    assert world.preferences == (
        Preference("acme", "ignore", "novita", KIMI),
        Preference("acme", "pin", "moonshotai/turbo"),
    )
    assert world.tenants == (TenantSettings("acme", only=("moonshotai",), zdr=True),)


def test_rows_are_laid_over_their_test(cases: dict[str, Case]) -> None:
    plain, same, cheaper, later = cases.values()
    assert (plain.request.model, plain.request.tools) == (KIMI, 2)
    assert (same.request.model, same.request.models) == (f"{KIMI}:exacto", ("deepseek/deepseek-v3",))
    assert (same.request.provider.sort, same.request.provider.partition) == ("price", "none")
    assert cheaper.request.provider.max_price == MaxPrice(prompt=0.5)
    assert cheaper.request.provider.preferred_max_latency == Percentiles(p50=2.0)
    assert cheaper.request.provider.only == ("moonshotai",)
    assert (same.now, cheaper.now) == (NOON, datetime(2025, 9, 24, tzinfo=UTC))
    assert {e.endpoint_id for e in later.world.endpoints} == {FIRST, TURBO}
    assert [o.endpoint_id for o in same.world.observations] == [FIRST]
    assert (same.members, same.health) == ({TURBO}, {FIRST: "rate limited"})
    assert cheaper.expected.attempts == ()
    assert cheaper.expected.attempts_in_any_order is None


def test_seeds_are_fixed(cases: dict[str, Case]) -> None:
    plain, same, *_ = cases.values()
    assert same.seeds() == (bytes(range(16)),)
    assert len(set(plain.seeds())) == 3
    assert plain.seeds() == read_cases({"x_test.yaml": TEXT})[0].seeds()


def plan(*attempts: str, availability: str = "", abstained: str = "", **broken: str) -> Plan:
    ids = {"first": FIRST, "again": AGAIN, "turbo": TURBO, "other": OTHER}
    finding = RuleFinding("propensity_in_band", "PROPENSITY", "", "absent", "exacto")
    return Plan(
        attempts=tuple(Attempt(n, KIMI, ids[key], "p", "t", "default") for n, key in enumerate(attempts, 1)),
        verdicts=tuple(
            Verdict(
                endpoint_id, KIMI, "p", "t",
                broken=tuple(RuleFinding("r", word, "", "false", "d") for word in broken.get(key, "").split()),
                abstained=(finding,) if key == abstained else (),
            )
            for key, endpoint_id in ids.items()
        ),
        availability=availability,
        snapshot_id="s",
        policy_revision=1,
    )  # fmt: skip


FITTING = {"again": "ACCURACY PROPENSITY", "other": "tools"}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(plan("first", "turbo", **FITTING), (), id="as expected"),
        pytest.param(plan("first", "turbo", **{**FITTING, "again": "PROPENSITY ACCURACY ACCURACY"}), (), id="order of reasons"),
        pytest.param(plan("turbo", "first", **FITTING), ("expected attempts [first, turbo], got [turbo, first]",), id="order"),
        pytest.param(plan("first", **FITTING, turbo="zdr max_price"), (
            "expected attempts [first, turbo], got [first]",
            "turbo was excluded for [max_price, zdr], which the case does not expect",
        ), id="one too few"),
        pytest.param(plan("first", "turbo", **{**FITTING, "again": "ACCURACY"}), (
            "expected again to be excluded for [ACCURACY, PROPENSITY], got [ACCURACY]",
        ), id="reason missing"),
        pytest.param(plan("first", "turbo", "other", again=FITTING["again"]), (
            "expected attempts [first, turbo], got [first, turbo, other]",
            "expected other to be excluded for [tools], it was attempted",
        ), id="one too many"),
        pytest.param(plan("first", "turbo", again=FITTING["again"]), (
            "expected other to be excluded for [tools], got []",
        ), id="neither"),
    ],
)  # fmt: skip
def test_differences_are_told(made: Plan, expected: tuple[str, ...], cases: dict[str, Case]) -> None:
    assert check_case(cases["plain"], made) == expected


@pytest.mark.parametrize(
    ("name", "made", "expected"),
    [
        pytest.param("table: as it is", plan("turbo", "first", again="x", other="x"), (
            f"{OTHER} was excluded for [x], which the case does not expect",
            f"{AGAIN} was excluded for [x], which the case does not expect",
        ), id="whom the case does not know goes by the id"),
        pytest.param("table: as it is", plan("turbo"), (
            "expected attempts [first, turbo] in any order, got [turbo]",
            f"{OTHER} was neither attempted nor excluded, which the case does not expect",
            "first was neither attempted nor excluded, which the case does not expect",
            f"{AGAIN} was neither attempted nor excluded, which the case does not expect",
        ), id="one of a set is missing"),
        pytest.param("table: cheaper", plan(first="only", turbo="x", again="x", other="x", availability="no_endpoints"), (
            "expected first to be excluded at least for [max_price], got [only]",
            f"{OTHER} was excluded for [x], which the case does not expect",
            f"{AGAIN} was excluded for [x], which the case does not expect",
            "turbo was excluded for [x], which the case does not expect",
            "expected availability constraint_filtered, got no_endpoints",
        ), id="some of the reasons"),
        pytest.param("table: later", plan("turbo", abstained="turbo"), (), id="only what is asked"),
        pytest.param("table: later", plan("first"), (
            "expected first attempt turbo, got first",
            "expected rules [propensity_in_band] to abstain for turbo, got []",
        ), id="first attempt and abstentions"),
        pytest.param("table: later", plan(abstained="turbo"), ("expected first attempt turbo, got none",), id="nobody"),
    ],
)  # fmt: skip
def test_other_expectations(name: str, made: Plan, expected: tuple[str, ...], cases: dict[str, Case]) -> None:
    assert sorted(check_case(cases[name], made)) == sorted(expected)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param("now: 2025-09-23T12:00:00Z,", "now: 2025-09-23,", "6:18: a time has a date and a zone, such as "
                     "2025-09-23T12:00:00Z, found `2025-09-23`", id="time without a zone"),
        pytest.param("2025-09-24T00:00:00Z", "2025-09-31T00:00:00Z", "56:26: there is no such time: `2025-09-31T00:00:00Z`",
                     id="a day that never comes"),
        pytest.param("quantization: fp8", "quantisation: fp8", "19:37: unknown key `quantisation`, did you mean "
                     "`quantization`?", id="unknown field"),
        pytest.param("model: kimi, uptime", "model: kimmi, uptime", "20:67: unknown model `kimmi`, did you mean `kimi`?",
                     id="unknown model"),
        pytest.param("endpoint: first", "endpoint: fist", "23:24: unknown endpoint `fist`, did you mean `first`?",
                     id="unknown endpoint"),
        pytest.param("errored_requests: 1,", "errored_requests: 801,", "23:13: requests, tool_call_requests and "
                     "errored_requests must not grow, found [2000, 800, 801]", id="more errors than calls"),
        pytest.param("to: 2025-09-22T00:00Z", "to: 2025-09-20T00:00Z", "27:15: `from` is not before `to`", id="no window"),
        pytest.param("sort: {by: price", "sort: {by: prize", "46:51: provider.sort: 'prize' is not one of price, "
                     "throughput, latency, exacto", id="what a caller could not send"),
        pytest.param("attempts: [first, turbo]", "attempts: [first, turbine]", "40:36: unknown endpoint of this case "
                     "`turbine`, did you mean `turbo`?", id="unknown attempt"),
        pytest.param("again: [ACCURACY,", "again: [ACURACY,", "40:63: expected one of EVIDENCE_ABSENT, EVIDENCE_THIN, "
                     "EVIDENCE_STALE, ACCURACY, PROPENSITY, IGNORED_BY_USERS, BENCHMARK, HELD, EVAL_ERROR, geo, data_region, "
                     "data_policy:zdr, data_policy:training, max_price, context_length, require_parameters, quantization, "
                     "allowed_providers, ignored, only, tools, health, policy, found `ACURACY`, did you mean `ACCURACY`?",
                     id="unknown reason"),
        pytest.param("members: [turbo, again]", "members: [turbo, never]", "49:24: unknown endpoint `never`, expected one of "
                     "first, again, turbo, other", id="unknown member"),
        pytest.param("health: {first:", "health: {fist:", "50:16: unknown endpoint `fist`, did you mean `first`?",
                     id="unknown endpoint in health"),
        pytest.param("name: later", "name: cheaper", "58:17: duplicate case `cheaper`, first defined on line 54",
                     id="case twice"),
        pytest.param("firstAttempt: turbo,", "firstAttempt: other,", "62:36: unknown endpoint of this case `other`, expected "
                     "one of first, turbo", id="endpoint that the case leaves out"),
        pytest.param("request: {tools: 2}", "request: {tools: -2}", "39:24: must be at least 0, found the number -2",
                     id="negative count"),
    ],
)  # fmt: skip
def test_faults(old: str, new: str, fault: str) -> None:
    assert old in TEXT
    with pytest.raises(PolicyFaults) as caught:
        read_cases({"pool_test.yaml": TEXT.replace(old, new, 1)})
    assert [str(f) for f in caught.value.faults] == [f"pool_test.yaml:{fault}"]


def test_a_case_expects_something() -> None:
    with pytest.raises(PolicyFaults, match="key `expected` is missing"):
        read_cases({"x_test.yaml": TEXT.replace("      expected: {attempts: [first, turbo]", "      #", 1)})
