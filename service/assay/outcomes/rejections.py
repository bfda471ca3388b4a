"""What can be wrong with an outcome: the rules one by one, each with a word for programs and a sentence for people."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter, le
from typing import Final, NamedTuple

from assay.engine.errors import quoted
from assay.engine.world.request import TOOL_CHOICES
from assay.outcomes.outcome import (
    ANSWERED,
    MOST_CALLS,
    MOST_REQUESTS,
    MOST_SECONDS,
    MOST_TOKENS,
    MOST_TOOLS,
    RESULTS,
    Outcome,
    ToolUse,
)

HOUR_US: Final = 3_600_000_000
LATE_US: Final = 24 * HOUR_US
AHEAD_US: Final = HOUR_US // 12
MOST_ATTEMPTS: Final = 2**31 - 1
UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
CHOICES: Final = frozenset({"", *TOOL_CHOICES})
SIZES: Final = {
    "attempt": MOST_ATTEMPTS,
    "requests": MOST_REQUESTS,
    "first_token_s": MOST_SECONDS,
    "duration_s": MOST_SECONDS,
    "completion_tokens": MOST_TOKENS,
    "retry_after_s": MOST_SECONDS,
}
TOOL_SIZES: Final = {
    "offered": MOST_TOOLS,
    "tool_call_requests": MOST_REQUESTS,
    "errored_requests": MOST_REQUESTS,
    "tool_calls": MOST_CALLS,
    "invalid_json": MOST_CALLS,
    "unknown_name": MOST_CALLS,
    "schema_mismatch": MOST_CALLS,
}
sizes_of: Final = attrgetter(*SIZES)
tool_sizes_of: Final = attrgetter(*TOOL_SIZES)


class OutcomeFault(NamedTuple):
    """What is wrong with an outcome: a word, and a sentence that names field and value."""

    reason: str
    message: str


def outcome_fault(outcome: Outcome, now_us: int) -> OutcomeFault | None:
    """The first thing that is wrong with what an outcome says, whoever it is of."""
    fault = (
        time_fault(outcome.at_us, now_us)
        or size_fault("", SIZES, [size or 0 for size in sizes_of(outcome)])
        or (None if outcome.result in RESULTS else result_fault(outcome.result))
        or (decision_fault(outcome) if outcome.decision_id else None)
        or attempt_fault(outcome)
    )
    return (
        tools_fault(outcome, outcome.tools)
        if fault is None and outcome.tools is not None
        else fault
    )


def time_fault(at_us: int, now_us: int) -> OutcomeFault | None:
    """Refuse what is not of these hours."""
    if now_us - LATE_US <= at_us <= now_us + AHEAD_US:
        return None
    if at_us == 0:
        return OutcomeFault("no-time", "at: not given")
    if at_us > now_us:
        return OutcomeFault(
            "future", f"at: {spelled(at_us)} is more than 5 minutes ahead of {spelled(now_us)}"
        )
    return OutcomeFault(
        "late", f"at: {spelled(at_us)} is more than 24 hours before {spelled(now_us)}"
    )


def spelled(at_us: int) -> str:
    """A time for people, however far out."""
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).isoformat()
    except OverflowError:
        return f"{at_us // 1_000_000} s"


def size_fault(
    prefix: str, limits: Mapping[str, float], values: Sequence[float]
) -> OutcomeFault | None:
    """Refuse what is no number, below zero, or beyond its limit."""
    if all(map(le, values, limits.values())) and min(values) >= 0:
        return None
    for value, (name, most) in zip(values, limits.items(), strict=True):
        if not math.isfinite(value):
            return OutcomeFault("not-a-number", f"{prefix}{name}: {value} is not a finite number")
        if value < 0:
            return OutcomeFault("negative", f"{prefix}{name}: {value} is not zero or more")
        if value > most:
            return OutcomeFault("too-large", f"{prefix}{name}: {value} is more than {most:.0f}")
    return None


def result_fault(result: str) -> OutcomeFault:
    """Refuse a word that is none of ours."""
    return OutcomeFault(
        "unknown-result", f"result: {quoted(result)} is not one of {', '.join(sorted(RESULTS))}"
    )


def decision_fault(outcome: Outcome) -> OutcomeFault | None:
    """Refuse what cannot be one attempt of a decision."""
    if not UUID(outcome.decision_id):
        return OutcomeFault(
            "bad-decision",
            f"decision_id: {quoted(outcome.decision_id)} is not an id as Decide answers them",
        )
    if outcome.attempt < 1:
        return OutcomeFault(
            "bad-decision",
            f"attempt: {outcome.attempt} is not a rank from 1 on, as a decision is named",
        )
    if outcome.requests > 1:
        message = f"requests: {outcome.requests} is more than the 1 that an attempt of a decision stands for"
        return OutcomeFault("bad-decision", message)
    return None


def attempt_fault(outcome: Outcome) -> OutcomeFault | None:
    """Refuse an attempt that never was, or whose answer began after its end."""
    if outcome.requests == 0:
        return OutcomeFault(
            "no-requests", "requests: 0 is not a number from 1 on; leave it out for 1"
        )
    first, end = outcome.first_token_s, outcome.duration_s
    if first is not None and end is not None and first > end:
        return OutcomeFault(
            "first-token-after-end", f"first_token_s: {first} is more than duration_s, {end}"
        )
    return None


def tools_fault(outcome: Outcome, tools: ToolUse) -> OutcomeFault | None:
    """Refuse counts of calls that cannot be."""
    fault = size_fault("tools.", TOOL_SIZES, tool_sizes_of(tools))
    if fault is not None:
        return fault
    if tools.tool_choice not in CHOICES:
        known = ", ".join(TOOL_CHOICES)
        return OutcomeFault(
            "unknown-tool-choice",
            f"tools.tool_choice: {quoted(tools.tool_choice)} is not one of {known}",
        )
    bad = tools.invalid_json + tools.unknown_name + tools.schema_mismatch
    if not (tools.tool_call_requests or tools.errored_requests or tools.tool_calls or bad):
        return None
    if outcome.result != ANSWERED:
        return OutcomeFault(
            "no-calls-possible",
            f"tools: calls are counted for answered requests, not {outcome.result} ones",
        )
    if not tools.offered:
        return OutcomeFault("no-calls-possible", "tools.offered: 0 is too few for a call")
    return counts_fault(outcome.requests, tools, bad)


def counts_fault(requests: int, tools: ToolUse, bad: int) -> OutcomeFault | None:
    """Refuse counts that cannot be true together; no calls, or no bad ones, beside requests were not counted."""
    calls, errored = tools.tool_call_requests, tools.errored_requests
    kinds = "invalid_json + unknown_name + schema_mismatch"
    for low, name, high, limit in (
        (calls, "tool_call_requests", requests, "requests"),
        (errored, "errored_requests", calls, "tool_call_requests"),
        (calls, "tool_call_requests", tools.tool_calls or calls, "tool_calls"),
        (bad, kinds, tools.tool_calls or bad, "tool_calls"),
        (errored, "errored_requests", bad or errored, kinds),
    ):
        if low > high:
            return OutcomeFault(
                "counts-disagree", f"tools: {name} = {low} is more than {limit} = {high}"
            )
    if bad and not errored:
        return OutcomeFault(
            "counts-disagree", f"tools: errored_requests = 0 disagrees with {kinds} = {bad}"
        )
    return None
