"""Health of the moment: demoted within one report, for seconds, and cleared by an answer."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest
from tests.support.outcomes import NOW_US

from assay.outcomes.endpoint_health import (
    FAILING,
    LIMITED,
    LONGEST_SECONDS,
    SECONDS,
    EndpointHealth,
)
from assay.outcomes.outcome import ANSWERED, FAILED, NEUTRAL, RATE_LIMITED, Outcome, OutcomeGroup

ONE, OTHER = "lab/m@one", "lab/m@other"
SECOND_US = 1_000_000


@dataclass
class Clock:
    """A monotonic clock that stands until it is set; the wall clock goes with it."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    @property
    def wall_us(self) -> int:
        return NOW_US + int((self.now - 1000.0) * SECOND_US)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> EndpointHealth:
    return EndpointHealth(clock=clock)


def told(results: str, clock: Clock, endpoint_id: str = ONE, **fields: float) -> OutcomeGroup:
    """Outcomes in the order of time, the last of them just now: `f` failed, `a` answered, `l` was turned away."""
    words = {"f": "transport_error", "a": ANSWERED, "l": RATE_LIMITED, "c": "caller_error"}
    first = clock.wall_us - len(results) + 1
    outcomes = [
        Outcome(first + n, words[result], **fields)  # type: ignore[arg-type] # any field
        for n, result in enumerate(results)
    ]
    return OutcomeGroup("", endpoint_id, "one", outcomes)


def heed(health: EndpointHealth, clock: Clock, groups: Iterable[OutcomeGroup]) -> None:
    health.update(groups, clock.wall_us)


@pytest.mark.parametrize(
    ("reports", "why"),
    [
        pytest.param(["fff"], FAILING, id="three failures in a row"),
        pytest.param(["f", "f", "f"], FAILING, id="one by one"),
        pytest.param(["ff"], None, id="two are no more than bad luck"),
        pytest.param(["ffaff"], None, id="an answer in between"),
        pytest.param(["ff", "a", "f"], None, id="an answer in between, one by one"),
        pytest.param(["fcfcf"], FAILING, id="the caller's own faults say nothing"),
        pytest.param(["l"], LIMITED, id="turned away once"),
        pytest.param(["aaal"], LIMITED, id="turned away after answers"),
        pytest.param(["fffa"], None, id="failures and an answer since"),
        pytest.param(["fff", "a"], None, id="an answer clears"),
        pytest.param(["l", "a"], None, id="an answer clears being turned away"),
        pytest.param(["lfff"], FAILING, id="the latest reason stands"),
    ],
)
def test_what_demotes(
    health: EndpointHealth, clock: Clock, reports: Sequence[str], why: str | None
) -> None:
    for report in reports:
        clock.now += 0.1
        heed(health, clock, [told(report, clock)])
    assert health.now() == ({} if why is None else {ONE: why})


@pytest.mark.parametrize("result", sorted(FAILED))
def test_every_fault_of_the_endpoint_counts(
    health: EndpointHealth, clock: Clock, result: str
) -> None:
    heed(health, clock, [OutcomeGroup("", ONE, "one", [Outcome(NOW_US, result, requests=3)])])
    assert health.now() == {ONE: FAILING}


@pytest.mark.parametrize("result", sorted(NEUTRAL))
def test_nobody_elses_fault_does(health: EndpointHealth, clock: Clock, result: str) -> None:
    heed(health, clock, [OutcomeGroup("", ONE, "one", [Outcome(NOW_US, result, requests=9)])])
    assert health.now() == {}


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        pytest.param(None, SECONDS, id="not said: 30 s"),
        pytest.param(2.5, 2.5, id="as asked"),
        pytest.param(86_400.0, LONGEST_SECONDS, id="at most five minutes"),
    ],
)
def test_a_demotion_ends_by_itself(
    health: EndpointHealth, clock: Clock, retry_after: float | None, seconds: float
) -> None:
    limited = Outcome(NOW_US, RATE_LIMITED, retry_after_s=retry_after)
    heed(health, clock, [OutcomeGroup("", ONE, "one", [limited]), told("fff", clock, OTHER)])
    clock.now += min(seconds, SECONDS) - 0.1
    assert health.now() == {ONE: LIMITED, OTHER: FAILING}
    clock.now = 1000.0 + max(seconds, SECONDS) + 0.1
    assert health.now() == {}
    assert health.now() is EndpointHealth().now()  # nothing is left to look through


def test_what_is_told_late_lasts_shorter(health: EndpointHealth, clock: Clock) -> None:
    late = Outcome(NOW_US - 20 * SECOND_US, RATE_LIMITED)
    heed(health, clock, [OutcomeGroup("", ONE, "one", [late])])
    clock.now += 9.9
    assert health.now() == {ONE: LIMITED}
    clock.now += 0.2
    assert health.now() == {}


def test_what_was_long_ago_or_is_yet_to_come(health: EndpointHealth, clock: Clock) -> None:
    hour_ago = Outcome(NOW_US - 3600 * SECOND_US, "timeout", requests=9)
    ahead = Outcome(NOW_US + 200 * SECOND_US, RATE_LIMITED)
    heed(
        health,
        clock,
        [OutcomeGroup("", ONE, "one", [hour_ago]), OutcomeGroup("", OTHER, "one", [ahead])],
    )
    assert health.now() == {OTHER: LIMITED}
    clock.now += (
        SECONDS + 0.1
    )  # an hour off by the reporter's clock, and yet no longer than any other
    assert health.now() == {}


def test_a_clock_that_is_ahead_silences_nobody(health: EndpointHealth, clock: Clock) -> None:
    heed(
        health,
        clock,
        [OutcomeGroup("", ONE, "one", [Outcome(NOW_US + 200 * SECOND_US, RATE_LIMITED)])],
    )
    clock.now += 1
    heed(health, clock, [told("a", clock)])
    assert health.now() == {}


def test_a_batch_sent_again_counts_once(health: EndpointHealth, clock: Clock) -> None:
    report = told("ff", clock)
    for _ in range(3):
        heed(health, clock, [report])
    assert health.now() == {}


def test_outcomes_that_come_late_do_not_undo_newer_ones(
    health: EndpointHealth, clock: Clock
) -> None:
    old = told("a", clock)
    clock.now += 1
    heed(health, clock, [told("fff", clock)])
    heed(health, clock, [old])
    assert health.now() == {ONE: FAILING}


def test_tenants_of_an_endpoint_count_together(health: EndpointHealth, clock: Clock) -> None:
    outcomes = told("fff", clock).outcomes
    heed(
        health,
        clock,
        [
            OutcomeGroup(tenant, ONE, "one", [each])
            for tenant, each in zip("abc", outcomes, strict=True)
        ],
    )
    assert health.now() == {ONE: FAILING}


def test_one_failure_after_a_demotion_is_enough_until_an_answer(
    health: EndpointHealth, clock: Clock
) -> None:
    heed(health, clock, [told("fff", clock)])
    clock.now += SECONDS + 1
    assert health.now() == {}
    heed(health, clock, [told("f", clock)])
    assert health.now() == {ONE: FAILING}


def test_what_was_read_once_stays_as_it_was(health: EndpointHealth, clock: Clock) -> None:
    heed(health, clock, [told("l", clock)])
    before = health.now()
    heed(health, clock, [told("fff", clock, OTHER)])
    clock.now += SECONDS + 1
    assert before == {ONE: LIMITED}
    assert health.now() == {}


def test_reading_never_waits(health: EndpointHealth, clock: Clock) -> None:
    """Not even for somebody who reports and does not get on."""
    heed(health, clock, [told("l", clock)])
    clock.now += SECONDS + 1
    with health._lock:
        read: list[object] = []
        reader = threading.Thread(target=lambda: read.append(health.now()))
        reader.start()
        reader.join(10)
    assert read == [{}]
