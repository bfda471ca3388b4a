"""Test files are read into cases: worlds, requests and expectations, or located faults."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from assay.engine.policy.faults import PolicyFaults
from assay.engine.world.catalog import Model, Percentiles, PriceOverride, Prices
from assay.engine.world.request import MaxPrice
from assay.engine.world.world import Preference, TenantSettings
from assay.rule_files.cases import Case, read_cases

KIMI = "moonshotai/kimi-k2-0905"
FIRST, AGAIN, TURBO = f"{KIMI}@moonshotai", f"{KIMI}@moonshotai~2", f"{KIMI}@moonshotai/turbo"
OTHER = "deepseek/deepseek-v3@novita"
NOON = datetime(2025, 9, 23, 12, tzinfo=UTC)


def test_every_row_is_a_case(cases: dict[str, Case]) -> None:
    assert list(cases) == ["plain", "table: as it is", "table: cheaper", "table: later"]
    assert [case.skipped for case in cases.values()] == [None, None, None, "not built"]
    assert [case.place.line for case in cases.values()] == [38, 53, 54, 58]


def test_the_world_is_built_from_the_fixtures(cases: dict[str, Case]) -> None:
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
    assert (world.endpoints[2].tag, world.endpoints[2].uptime_1d_percent) == (
        "moonshotai/turbo",
        99.0,
    )
    good, bad = world.observations
    assert (good.endpoint_id, good.source, good.reference) == (FIRST, "fixture", True)
    assert (good.observed_from, good.observed_to) == (datetime(2025, 9, 22, 12, tzinfo=UTC), NOON)
    assert (bad.endpoint_id, bad.observed_from) == (AGAIN, datetime(2025, 9, 20, 22, tzinfo=UTC))
    assert world.preferences == (
        Preference("acme", "ignore", "novita", KIMI),
        Preference("acme", "pin", "moonshotai/turbo"),
    )
    assert world.tenants == (TenantSettings("acme", only=("moonshotai",), zdr=True),)


def test_rows_are_merged_into_their_test(cases: dict[str, Case]) -> None:
    plain, same, cheaper, later = cases.values()
    assert (plain.request.model, plain.request.tools) == (KIMI, 2)
    assert (same.request.model, same.request.models) == (
        f"{KIMI}:exacto",
        ("deepseek/deepseek-v3",),
    )
    assert (same.request.provider.sort, same.request.provider.partition) == ("price", "none")
    assert cheaper.request.provider.max_price == MaxPrice(prompt=0.5)
    assert cheaper.request.provider.preferred_max_latency == Percentiles(p50=2.0)
    assert cheaper.request.provider.only == ("moonshotai",)
    assert (same.now, cheaper.now) == (NOON, datetime(2025, 9, 24, tzinfo=UTC))
    assert {e.endpoint_id for e in later.world.endpoints} == {FIRST, TURBO}
    assert [o.endpoint_id for o in same.world.observations] == [FIRST]
    assert same.members == {TURBO}
    assert same.health == {FIRST: "rate limited"}
    assert cheaper.expected.attempts == ()
    assert cheaper.expected.attempts_in_any_order is None


def test_seeds_are_fixed(cases: dict[str, Case], suite: str) -> None:
    plain, same, *_ = cases.values()
    assert same.seeds() == (bytes(range(16)),)
    assert len(set(plain.seeds())) == 3
    assert plain.seeds() == read_cases({"x_test.yaml": suite})[0].seeds()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param(
            "now: 2025-09-23T12:00:00Z,",
            "now: 2025-09-23,",
            "6:18: a time has a date and a zone, such as 2025-09-23T12:00:00Z, found `2025-09-23`",
            id="time without a zone",
        ),
        pytest.param(
            "2025-09-24T00:00:00Z",
            "2025-09-31T00:00:00Z",
            "56:26: not a valid time: `2025-09-31T00:00:00Z`",
            id="a day that never comes",
        ),
        pytest.param(
            "quantization: fp8",
            "quantisation: fp8",
            "19:37: unknown key `quantisation`, did you mean `quantization`?",
            id="unknown field",
        ),
        pytest.param(
            "model: kimi, uptime",
            "model: kimmi, uptime",
            "20:67: unknown model `kimmi`, did you mean `kimi`?",
            id="unknown model",
        ),
        pytest.param(
            "endpoint: first",
            "endpoint: fist",
            "23:24: unknown endpoint `fist`, did you mean `first`?",
            id="unknown endpoint",
        ),
        pytest.param(
            "errored_requests: 1,",
            "errored_requests: 801,",
            "23:13: requests, tool_call_requests and errored_requests must not grow, "
            "found [2000, 800, 801]",
            id="more errors than calls",
        ),
        pytest.param(
            "to: 2025-09-22T00:00Z",
            "to: 2025-09-20T00:00Z",
            "27:15: `from` must be before `to`",
            id="no window",
        ),
        pytest.param(
            "sort: {by: price",
            "sort: {by: prize",
            "46:51: provider.sort: 'prize' is not one of price, throughput, latency, exacto",
            id="a request that a caller cannot send",
        ),
        pytest.param(
            "attempts: [first, turbo]",
            "attempts: [first, turbine]",
            "40:36: unknown endpoint of this case `turbine`, did you mean `turbo`?",
            id="unknown attempt",
        ),
        pytest.param(
            "again: [ACCURACY,",
            "again: [ACURACY,",
            "40:63: expected one of EVIDENCE_ABSENT, EVIDENCE_THIN, EVIDENCE_NARROW, "
            "EVIDENCE_STALE, ACCURACY, PROPENSITY, USABILITY, IGNORED_BY_USERS, BENCHMARK, HELD, "
            "HELD_BY_MINIMUM, EVAL_ERROR, geo, "
            "data_region, data_policy:zdr, data_policy:training, max_price, context_length, "
            "require_parameters, quantization, allowed_providers, ignored, only, tools, "
            "unsupported, health, policy, found `ACURACY`, did you mean `ACCURACY`?",
            id="unknown reason",
        ),
        pytest.param(
            "members: [turbo, again]",
            "members: [turbo, never]",
            "49:24: unknown endpoint `never`, expected one of first, again, turbo, other",
            id="unknown member",
        ),
        pytest.param(
            "health: {first:",
            "health: {fist:",
            "50:16: unknown endpoint `fist`, did you mean `first`?",
            id="unknown endpoint in health",
        ),
        pytest.param(
            "name: later",
            "name: cheaper",
            "58:17: duplicate case `cheaper`, first defined on line 54",
            id="case twice",
        ),
        pytest.param(
            "firstAttempt: turbo,",
            "firstAttempt: other,",
            "62:36: unknown endpoint of this case `other`, expected one of first, turbo",
            id="endpoint that the case leaves out",
        ),
        pytest.param(
            "request_usd: 0}",
            "reqest_usd: 0}",
            "13:48: unknown key `reqest_usd`, did you mean `request_usd`?",
            id="unknown price",
        ),
        pytest.param(
            "request: {tools: 2}",
            "request: {tools: -2}",
            "39:24: must be at least 0, found the number -2",
            id="negative count",
        ),
    ],
)
def test_every_fault_is_reported_at_its_position(
    old: str, new: str, fault: str, suite: str
) -> None:
    assert old in suite
    with pytest.raises(PolicyFaults) as caught:
        read_cases({"pool_test.yaml": suite.replace(old, new, 1)})
    assert [str(f) for f in caught.value.faults] == [f"pool_test.yaml:{fault}"]


def test_a_case_without_an_expectation_is_a_fault(suite: str) -> None:
    with pytest.raises(PolicyFaults, match="key `expected` is missing"):
        read_cases(
            {
                "x_test.yaml": suite.replace(
                    "      expected: {attempts: [first, turbo]", "      #", 1
                )
            }
        )
