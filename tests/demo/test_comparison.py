"""The comparison of arms: error rates, their ratio, prices and retries."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import pytest

from assay.demo.agents import AgentRequest, AgentTask, agent_tasks
from assay.demo.comparison import (
    ARMS,
    ErrorRate,
    arm_figures,
    error_rate,
    rate_ratio,
    write_clients,
    write_policy,
)
from assay.engine.policy.rule_set import PolicySource
from assay.engine.world.catalog import Prices
from assay.forward.settings import read_clients
from assay.rule_files.compile import compile_source
from assay.rule_files.directory import read_directory


def sent(task: int, *, errored: bool = False, endpoint: str | None = "m@a") -> AgentRequest:
    return AgentRequest(
        AgentTask(task, "m", (), ()), seconds=0.1, endpoint_id=endpoint, attempts=1,
        errored=errored, prompt_tokens=1000, completion_tokens=100,
    )  # fmt: skip


# Published: the tables of F. Garwood (1936), as R's poisson.test prints them.
@pytest.mark.parametrize(
    ("errored", "low", "high"),
    [(0, 0.0, 3.688879), (1, 0.0253178, 5.571643), (10, 4.795389, 18.39036)],
)
def test_the_interval_of_a_rate_is_the_published_one(errored: int, low: float, high: float) -> None:
    assert ErrorRate(errored, 1, 1.0).interval == pytest.approx((low, high), rel=1e-5)


def test_the_interval_of_a_ratio_is_the_published_one() -> None:
    """The example of R's poisson.test: breast cancer among two groups of women."""
    found = rate_ratio(ErrorRate(11, 800, 1.0), ErrorRate(21, 3011, 1.0))

    assert (found.ratio, found.low, found.high) == pytest.approx((1.971488, 0.8584264, 4.277266))


def test_without_errors_on_one_side_only_one_limit_is_known() -> None:
    none, some = ErrorRate(0, 100, 1.0), ErrorRate(20, 100, 1.0)

    assert rate_ratio(some, none).low > 4
    assert rate_ratio(some, none).ratio == rate_ratio(some, none).high == math.inf
    assert rate_ratio(none, some).low == 0
    assert rate_ratio(none, some).high < 0.25


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(ErrorRate(0, 100, 1.0), ErrorRate(0, 100, 1.0), id="no error"),
        pytest.param(ErrorRate(5, 100, 1.0), ErrorRate(0, 0, 1.0), id="no answer in the second"),
        pytest.param(ErrorRate(0, 0, 1.0), ErrorRate(5, 100, 1.0), id="no answer in the first"),
    ],
)
def test_without_errors_or_answers_the_ratio_is_unknown(one: ErrorRate, other: ErrorRate) -> None:
    found = rate_ratio(one, other)

    assert math.isnan(found.ratio)
    assert (found.low, found.high) == (0, math.inf)


def test_without_answers_the_rate_is_unknown() -> None:
    figures = arm_figures([sent(0, endpoint=None)], {})

    assert math.isnan(figures.errors.rate)
    assert figures.errors.interval == (0, math.inf)


def test_clustered_errors_widen_the_intervals() -> None:
    spread_out = [sent(task, errored=number == 0) for task in range(50) for number in range(5)]
    together = [sent(task, errored=task < 10) for task in range(50) for number in range(5)]
    even, clustered = error_rate(spread_out), error_rate(together)

    assert even.rate == clustered.rate
    assert even.effect == 1
    assert clustered.effect == pytest.approx(4.08, abs=0.01)
    assert clustered.interval[0] < even.interval[0]
    assert clustered.interval[1] > even.interval[1]


def test_the_interval_of_a_ratio_covers_the_truth_as_often_as_it_says() -> None:
    """Two arms whose conversations get a good or a bad endpoint, so that errors cluster."""
    draw, covered, runs = Random(7), 0, 150

    def arm(share_of_bad: float) -> list[AgentRequest]:
        rates = [0.3 if draw.random() < share_of_bad else 0.02 for _ in range(120)]
        return [
            sent(task, errored=draw.random() < rate)
            for task, rate in enumerate(rates)
            for _ in range(6)
        ]

    truth = (0.5 * 0.3 + 0.5 * 0.02) / (0.1 * 0.3 + 0.9 * 0.02)
    for _ in range(runs):
        found = rate_ratio(error_rate(arm(0.5)), error_rate(arm(0.1)))
        covered += found.low <= truth <= found.high

    assert covered / runs > 0.93


def test_unanswered_requests_are_counted_apart_and_are_no_errors() -> None:
    figures = arm_figures([sent(0, errored=True), sent(0), sent(1, endpoint=None)], {})

    assert (figures.requests, figures.unanswered) == (3, 1)
    assert (figures.errors.errored, figures.errors.requests) == (1, 2)


def test_the_price_is_that_of_the_endpoints_that_state_one() -> None:
    prices = {"m@a": Prices(prompt=2.0, completion=10.0), "m@c": Prices()}

    figures = arm_figures([sent(0), sent(0, endpoint="m@c"), sent(1, endpoint="m@d")], prices)

    assert figures.usd_per_request == pytest.approx(0.003)
    assert arm_figures([sent(0, endpoint="m@c")], prices).usd_per_request is None


def test_tasks_are_the_same_for_the_same_seed() -> None:
    assert agent_tasks(["a", "b"], 10, 7) == agent_tasks(["a", "b"], 10, 7)
    assert agent_tasks(["a", "b"], 10, 7) != agent_tasks(["a", "b"], 10, 8)
    assert [task.model for task in agent_tasks(["a", "b"], 4, 7)] == ["a", "b", "a", "b"]


def test_the_plain_arm_has_a_binding_and_every_arm_a_key(tmp_path: Path) -> None:
    policy = compile_source(PolicySource(dict(read_directory(write_policy(tmp_path)).files)))
    clients = read_clients(write_clients(tmp_path))

    assert policy.bindings["auto-plain"].binding.tenants == ("plain",)
    for arm in ARMS:
        assert clients.tenant_of(f"Bearer {arm.key}".encode()) == arm.tenant
