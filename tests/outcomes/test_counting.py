"""Counts of outcomes: evidence, service and providers, in any order and in any batches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.support.outcomes import (
    ANYTHING,
    ENDPOINTS,
    HOUR_US,
    NOW_US,
    change_outcome,
    make_batch,
    report_outcome,
    sound_reports,
)

from assay.outcomes.checks import check_outcomes
from assay.outcomes.counting import LOWS, bounds, bucket_of, count_outcomes
from assay.outcomes.outcome import (
    ANSWERED,
    RESULTS,
    Outcome,
    OutcomeReport,
    ToolUse,
)

ALONE: dict[str, Any] = {"decision_id": "", "attempt": 0}


def counts(reports: list[OutcomeReport], pieces: int = 1) -> tuple[object, ...]:
    """Return the counts of reports that arrive in this many batches."""
    found = count_outcomes(
        make_batch(reports[piece::pieces], f"b{piece}") for piece in range(pieces)
    )
    return found.evidence, found.service, found.providers


@given(st.lists(sound_reports(), max_size=20), st.randoms(use_true_random=False), st.integers(1, 5))
def test_counts_do_not_depend_on_order_or_batches(
    reports: list[OutcomeReport], random: Any, pieces: int
) -> None:
    shuffled = random.sample(reports, len(reports))
    assert counts(shuffled, pieces) == counts(reports)


@given(st.lists(sound_reports(), max_size=10), ANYTHING, st.integers(0, 10))
def test_a_rejected_outcome_does_not_change_the_counts(
    reports: list[OutcomeReport], outcome: Outcome, place: int
) -> None:
    poisoned = [*reports[:place], report_outcome(outcome), *reports[place:]]
    found = check_outcomes(poisoned, ENDPOINTS, NOW_US)
    if found.rejected:
        assert counts(found.accepted) == counts(reports)


@pytest.mark.parametrize(
    ("tools", "stratum"),
    [
        pytest.param(ToolUse(1), 0, id="one tool"),
        pytest.param(ToolUse(3), 0, id="three"),
        pytest.param(ToolUse(4), 1, id="four"),
        pytest.param(ToolUse(15), 1, id="fifteen"),
        pytest.param(ToolUse(16), 2, id="sixteen"),
        pytest.param(ToolUse(1, after_tool_result=True), 3, id="after a tool's result"),
        pytest.param(ToolUse(99, after_tool_result=True), 5, id="many tools, after a result"),
    ],
)
def test_the_stratum_depends_on_the_turn_and_the_number_of_tools(
    tools: ToolUse, stratum: int
) -> None:
    cells = count_outcomes([make_batch([report_outcome(change_outcome(tools=tools))], "b")])
    assert list(cells.evidence) == [
        ("lab/m0@one", "gw", "p-acme", stratum, (NOW_US - 1_000_000) // HOUR_US)
    ]


@pytest.mark.parametrize(
    ("outcome", "evidence"),
    [
        pytest.param(change_outcome(), [[1, 1, 0, 1, 1, 1]], id="a good call"),
        pytest.param(
            change_outcome(errored_requests=1), [[1, 1, 1, 1, 1, 1]], id="an errored call"
        ),
        pytest.param(
            change_outcome(tools=ToolUse(3)),
            [[1, 0, 0, 1, 0, 1]],
            id="no calls; the default choice is auto",
        ),
        pytest.param(
            change_outcome(tool_choice="required"),
            [[1, 1, 0, 0, 0, 1]],
            id="forced calls do not count for propensity",
        ),
        pytest.param(
            change_outcome(
                requests=9, tool_call_requests=5, errored_requests=2, tool_calls=0, **ALONE
            ),
            [[9, 5, 2, 9, 5, 9]],
            id="several requests",
        ),
        pytest.param(change_outcome(tools=None), [], id="no tools"),
        pytest.param(change_outcome(tools=ToolUse(0)), [], id="zero tools"),
        pytest.param(
            change_outcome(tools=ToolUse(3, "required")),
            [[1, 1, 1, 0, 0, 1]],
            id="a forced choice without a call",
        ),
        pytest.param(
            change_outcome(
                requests=9,
                tool_choice="function",
                tool_call_requests=5,
                errored_requests=2,
                tool_calls=0,
                **ALONE,
            ),
            [[9, 9, 6, 0, 0, 9]],
            id="several with a forced choice, four of them without a call",
        ),
        pytest.param(
            change_outcome(tools=ToolUse(3, "none")),
            [[1, 0, 0, 0, 0, 1]],
            id="no call where none was allowed",
        ),
        *(
            pytest.param(
                change_outcome(result=result, tools=ToolUse(3, choice)),
                [[0, 0, 0, 0, 0, 1]],
                id=f"{result} is an attempt, choice {choice or 'not sent'}",
            )
            for result in sorted(RESULTS - {ANSWERED})
            for choice in ("", "required")
        ),
        pytest.param(
            change_outcome(result="timeout", requests=4, tools=ToolUse(3), **ALONE),
            [[0, 0, 0, 0, 0, 4]],
            id="several attempts",
        ),
        pytest.param(
            change_outcome(result="timeout", tools=None), [], id="a failure without tools"
        ),
    ],
)
def test_requests_with_tools_count_as_evidence(outcome: Outcome, evidence: list[list[int]]) -> None:
    assert (
        list(count_outcomes([make_batch([report_outcome(outcome)], "b")]).evidence.values())
        == evidence
    )


@pytest.mark.parametrize(
    ("outcome", "service"),
    [
        pytest.param(
            change_outcome(),
            {
                ("answered", 0): 1,
                ("latency_ms", bucket_of(250)): 1,
                ("throughput_mtps", bucket_of(50_000)): 1,
            },
            id="an answer with times",
        ),
        pytest.param(
            change_outcome(first_token_s=None, requests=4, tools=None, **ALONE),
            {("answered", 0): 4, ("throughput_mtps", bucket_of(50_000)): 4},
            id="several, without a stream",
        ),
        pytest.param(
            change_outcome(result="cut", tools=None),
            {("failed", 0): 1},
            id="cut: its times do not count",
        ),
        pytest.param(
            change_outcome(result="provider_error", tools=None),
            {("failed", 0): 1},
            id="the provider's fault",
        ),
        pytest.param(
            change_outcome(result="rate_limited", tools=None), {}, id="a rate limit: neither"
        ),
        pytest.param(
            change_outcome(result="caller_error", tools=None), {}, id="the caller's fault: neither"
        ),
        pytest.param(
            change_outcome(duration_s=0.0, first_token_s=None),
            {("answered", 0): 1, ("throughput_mtps", bucket_of(10**8)): 1},
            id="zero duration",
        ),
    ],
)
def test_outcomes_count_towards_uptime_latency_and_throughput(
    outcome: Outcome, service: dict[tuple[str, int], int]
) -> None:
    found = count_outcomes([make_batch([report_outcome(outcome)], "b")]).service
    assert {cell[2:]: count for cell, count in found.items()} == service


def test_tool_calls_of_a_tenant_count_by_provider_and_day() -> None:
    reports = [
        report_outcome(change_outcome(), "lab/m0@one"),
        report_outcome(change_outcome(attempt=2), "lab/m1@one"),
        report_outcome(change_outcome(), tenant=""),
    ]
    assert count_outcomes([make_batch(reports, "b")]).providers == {
        ("p-acme", "one", NOW_US // HOUR_US // 24): 2
    }


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_buckets_keep_the_order_and_are_at_most_a_quarter_wide(one: int, other: int) -> None:
    assert (bucket_of(min(one, other))) <= bucket_of(max(one, other))
    low, high = bounds(bucket_of(one))
    assert low <= one
    if one < LOWS[-1]:
        assert one < high
        assert high - low == 1 or high <= low * 1.25
