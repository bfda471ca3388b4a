"""Short-term health: reports demote an endpoint for seconds, and an answer clears it."""

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
    """A monotonic clock that a test sets by hand; the wall clock follows it."""

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


def report_of(results: str, clock: Clock, endpoint_id: str = ONE, **fields: float) -> OutcomeGroup:
    """Return outcomes in order of time, the last one now.

    `f` is a failure, `a` an answer, `l` a rate limit, `c` a fault of the caller.
    """
    words = {"f": "transport_error", "a": ANSWERED, "l": RATE_LIMITED, "c": "caller_error"}
    first = clock.wall_us - len(results) + 1
    outcomes = [
        Outcome(first + n, words[result], **fields)  # type: ignore[arg-type]  # any field
        for n, result in enumerate(results)
    ]
    return OutcomeGroup("", endpoint_id, "one", outcomes)


def update(health: EndpointHealth, clock: Clock, groups: Iterable[OutcomeGroup]) -> None:
    health.update(groups, clock.wall_us)


@pytest.mark.parametrize(
    ("reports", "why"),
    [
        pytest.param(["fff"], FAILING, id="three failures in a row"),
        pytest.param(["f", "f", "f"], FAILING, id="one by one"),
        pytest.param(["ff"], None, id="two failures are not enough"),
        pytest.param(["ffaff"], None, id="an answer in between"),
        pytest.param(["ff", "a", "f"], None, id="an answer in between, one by one"),
        pytest.param(["fcfcf"], FAILING, id="the caller's faults are ignored"),
        pytest.param(["l"], LIMITED, id="one rate limit"),
        pytest.param(["aaal"], LIMITED, id="a rate limit after answers"),
        pytest.param(["fffa"], None, id="an answer after failures"),
        pytest.param(["fff", "a"], None, id="a later answer ends the demotion"),
        pytest.param(["l", "a"], None, id="an answer clears a rate limit"),
        pytest.param(["lfff"], FAILING, id="the latest reason is kept"),
    ],
)
def test_failures_in_a_row_or_one_rate_limit_demote_an_endpoint(
    health: EndpointHealth, clock: Clock, reports: Sequence[str], why: str | None
) -> None:
    for report in reports:
        clock.now += 0.1
        update(health, clock, [report_of(report, clock)])
    assert health.now() == ({} if why is None else {ONE: why})


@pytest.mark.parametrize("result", sorted(FAILED))
def test_every_result_that_is_the_endpoints_fault_counts_as_a_failure(
    health: EndpointHealth, clock: Clock, result: str
) -> None:
    update(health, clock, [OutcomeGroup("", ONE, "one", [Outcome(NOW_US, result, requests=3)])])
    assert health.now() == {ONE: FAILING}


@pytest.mark.parametrize("result", sorted(NEUTRAL))
def test_results_that_are_not_the_endpoints_fault_do_not_demote_it(
    health: EndpointHealth, clock: Clock, result: str
) -> None:
    update(health, clock, [OutcomeGroup("", ONE, "one", [Outcome(NOW_US, result, requests=9)])])
    assert health.now() == {}


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        pytest.param(None, SECONDS, id="the default: 30 s"),
        pytest.param(2.5, 2.5, id="as the provider asked"),
        pytest.param(86_400.0, LONGEST_SECONDS, id="at most five minutes"),
    ],
)
def test_a_demotion_expires(
    health: EndpointHealth, clock: Clock, retry_after: float | None, seconds: float
) -> None:
    limited = Outcome(NOW_US, RATE_LIMITED, retry_after_s=retry_after)
    update(health, clock, [OutcomeGroup("", ONE, "one", [limited]), report_of("fff", clock, OTHER)])
    clock.now += min(seconds, SECONDS) - 0.1
    assert health.now() == {ONE: LIMITED, OTHER: FAILING}
    clock.now = 1000.0 + max(seconds, SECONDS) + 0.1
    assert health.now() == {}
    assert health.now() is EndpointHealth().now()  # the shared empty mapping


def test_a_late_report_shortens_the_demotion(health: EndpointHealth, clock: Clock) -> None:
    late = Outcome(NOW_US - 20 * SECOND_US, RATE_LIMITED)
    update(health, clock, [OutcomeGroup("", ONE, "one", [late])])
    clock.now += 9.9
    assert health.now() == {ONE: LIMITED}
    clock.now += 0.2
    assert health.now() == {}


def test_old_outcomes_are_ignored_and_future_ones_count_as_current(
    health: EndpointHealth, clock: Clock
) -> None:
    hour_ago = Outcome(NOW_US - 3600 * SECOND_US, "timeout", requests=9)
    ahead = Outcome(NOW_US + 200 * SECOND_US, RATE_LIMITED)
    update(
        health,
        clock,
        [OutcomeGroup("", ONE, "one", [hour_ago]), OutcomeGroup("", OTHER, "one", [ahead])],
    )
    assert health.now() == {OTHER: LIMITED}
    clock.now += SECONDS + 0.1  # a time in the future does not extend a demotion
    assert health.now() == {}


def test_an_outcome_from_a_clock_ahead_does_not_hide_later_outcomes(
    health: EndpointHealth, clock: Clock
) -> None:
    update(
        health,
        clock,
        [OutcomeGroup("", ONE, "one", [Outcome(NOW_US + 200 * SECOND_US, RATE_LIMITED)])],
    )
    clock.now += 1
    update(health, clock, [report_of("a", clock)])
    assert health.now() == {}


def test_a_batch_that_is_sent_again_counts_once(health: EndpointHealth, clock: Clock) -> None:
    report = report_of("ff", clock)
    for _ in range(3):
        update(health, clock, [report])
    assert health.now() == {}


def test_late_outcomes_do_not_undo_newer_ones(health: EndpointHealth, clock: Clock) -> None:
    old = report_of("a", clock)
    clock.now += 1
    update(health, clock, [report_of("fff", clock)])
    update(health, clock, [old])
    assert health.now() == {ONE: FAILING}


def test_outcomes_of_all_tenants_count_together(health: EndpointHealth, clock: Clock) -> None:
    outcomes = report_of("fff", clock).outcomes
    update(
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
    update(health, clock, [report_of("fff", clock)])
    clock.now += SECONDS + 1
    assert health.now() == {}
    update(health, clock, [report_of("f", clock)])
    assert health.now() == {ONE: FAILING}


def test_a_mapping_that_was_read_never_changes(health: EndpointHealth, clock: Clock) -> None:
    update(health, clock, [report_of("l", clock)])
    before = health.now()
    update(health, clock, [report_of("fff", clock, OTHER)])
    clock.now += SECONDS + 1
    assert before == {ONE: LIMITED}
    assert health.now() == {}


def test_a_reader_does_not_wait_for_an_update(health: EndpointHealth, clock: Clock) -> None:
    update(health, clock, [report_of("l", clock)])
    clock.now += SECONDS + 1
    with health._lock:
        read: list[object] = []
        reader = threading.Thread(target=lambda: read.append(health.now()))
        reader.start()
        reader.join(10)
    assert read == [{}]
