"""Counts of outcomes by cell: sums, so the order and the batches of outcomes do not matter."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from operator import add
from typing import Final, NamedTuple

from assay.engine.world.clock import HOURS_PER_DAY
from assay.outcomes.checks import HOUR_US
from assay.outcomes.outcome import ANSWERED, FAILED, Outcome, OutcomeBatch, OutcomeGroup, ToolUse

_BUCKETS: Final = 34 * 4  # 34 octaves with 4 buckets each
LOWS: Final = tuple(sorted({0, *(round(2.0 ** (step / 4)) for step in range(_BUCKETS + 1))}))
"""The lowest whole number of each bucket; small numbers have their own, the last is open."""

_MORE_TOOLS: Final = (4, 16)
"""The numbers of tools at which the next stratum begins."""

_FORCED: Final = frozenset({"required", "function"})
"""The choices of tools that leave a model no answer but a call."""

EvidenceCell = tuple[str, str, str, int, int]
"""Endpoint, source, tenant, stratum, hour."""

ServiceCell = tuple[str, int, str, int]
"""Endpoint, hour, metric, bucket."""

CapabilityCell = tuple[str, str, str, int]
"""Endpoint, capability, tenant, day."""

ProviderCell = tuple[str, str, int]
"""Tenant, provider, day."""


class ToolCounts(NamedTuple):
    """Counts of requests that offered tools.

    SQL has a column for each field, in this order. `attempts` went to the endpoint, whatever came
    of them; `requests` were answered. A forced choice that was answered without a call counts as a
    tool-call request that errored. `auto` counts have `tool_choice` auto.
    """

    requests: int = 0
    tool_call_requests: int = 0
    errored_requests: int = 0
    auto_requests: int = 0
    auto_tool_call_requests: int = 0
    attempts: int = 0


def bucket_of(value: int) -> int:
    """Return the bucket of a whole number, zero or more."""
    return bisect_right(LOWS, value) - 1


def bounds(bucket: int) -> tuple[int, int]:
    """Return the lowest number of a bucket and of the next; the last is as wide as its neighbor."""
    low = LOWS[bucket]
    return low, LOWS[bucket + 1] if bucket + 1 < len(LOWS) else 2 * low - LOWS[bucket - 1]


class OutcomeCounts:
    """Counts by cell.

    `evidence` holds `ToolCounts`; `providers` holds requests answered with tool calls.
    `capabilities` holds how many requests the endpoint refused as not supported, and how many with
    the same tool_choice it answered.
    """

    def __init__(self) -> None:
        self.evidence: dict[EvidenceCell, list[int]] = {}
        self.service: Counter[ServiceCell] = Counter()
        self.providers: Counter[ProviderCell] = Counter()
        self.capabilities: dict[CapabilityCell, list[int]] = {}

    def add(self, source: str, group: OutcomeGroup) -> None:
        """Count the outcomes of one tenant at one endpoint."""
        for outcome in group.outcomes:
            hour = outcome.at_us // HOUR_US
            self._count_service(group.endpoint_id, hour, outcome)
            if outcome.unsupported:
                refused = (outcome.requests, 0)
                self._count_capability(group, outcome.unsupported, hour, refused)
            tools = outcome.tools
            if tools is None or not tools.offered:
                continue
            cell = (group.endpoint_id, source, group.tenant, stratum(tools), hour)
            added = count_tools(outcome, tools)
            before = self.evidence.get(cell)
            self.evidence[cell] = list(map(add, before, added)) if before else list(added)
            if outcome.result != ANSWERED:
                continue
            if tools.tool_choice:
                choice, answered = f"tool_choice.{tools.tool_choice}", (0, outcome.requests)
                self._count_capability(group, choice, hour, answered)
            if group.tenant and tools.tool_call_requests:
                day = (group.tenant, group.provider, hour // HOURS_PER_DAY)
                self.providers[day] += tools.tool_call_requests

    def _count_capability(
        self, group: OutcomeGroup, capability: str, hour: int, added: tuple[int, int]
    ) -> None:
        cell = (group.endpoint_id, capability, group.tenant, hour // HOURS_PER_DAY)
        counts = self.capabilities.setdefault(cell, [0, 0])
        counts[0] += added[0]
        counts[1] += added[1]

    def _count_service(self, endpoint_id: str, hour: int, outcome: Outcome) -> None:
        requests = outcome.requests
        if outcome.result in FAILED:
            self.service[endpoint_id, hour, "failed", 0] += requests
        if outcome.result != ANSWERED:
            return
        self.service[endpoint_id, hour, "answered", 0] += requests
        if outcome.first_token_s is not None:
            bucket = bucket_of(round(outcome.first_token_s * 1000))
            self.service[endpoint_id, hour, "latency_ms", bucket] += requests
        if outcome.completion_tokens and outcome.duration_s is not None:
            duration_ms = max(1, round(outcome.duration_s * 1000))
            bucket = bucket_of(1_000_000 * outcome.completion_tokens // duration_ms)
            self.service[endpoint_id, hour, "throughput_mtps", bucket] += requests


def count_tools(outcome: Outcome, tools: ToolUse) -> ToolCounts:
    """Return what an outcome with tools adds.

    Each attempt counts, also if it was the caller who ended it: an endpoint that rejects what is
    hard, or stalls until callers leave, would otherwise look better than one that tries.
    """
    if outcome.result != ANSWERED:
        return ToolCounts(attempts=outcome.requests)
    requests, calls, errored = outcome.requests, tools.tool_call_requests, tools.errored_requests
    if tools.tool_choice in _FORCED:
        calls, errored = requests, errored + requests - calls
    is_free = tools.tool_choice in {"", "auto"}
    return ToolCounts(
        requests=requests,
        tool_call_requests=calls,
        errored_requests=errored,
        auto_requests=requests if is_free else 0,
        auto_tool_call_requests=calls if is_free else 0,
        attempts=requests,
    )


def stratum(tools: ToolUse) -> int:
    """Return the stratum of requests that are equally hard: by turn and number of tools."""
    turn = int(tools.after_tool_result)
    return bisect_right(_MORE_TOOLS, tools.offered) + (len(_MORE_TOOLS) + 1) * turn


def count_outcomes(batches: Iterable[OutcomeBatch]) -> OutcomeCounts:
    """Count all outcomes of these batches."""
    counts = OutcomeCounts()
    for batch in batches:
        for group in batch.groups:
            counts.add(batch.source, group)
    return counts
