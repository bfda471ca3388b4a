"""Folding outcomes into counters: sums, so that the order and the batches in which outcomes come make no difference."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from assay.outcomes.outcome import ANSWERED, FAILED, Outcome, OutcomeBatch, OutcomeGroup, ToolUse
from assay.outcomes.rejections import HOUR_US

OCTAVES: Final = 34
PER_OCTAVE: Final = 4
LOWS: Final = tuple(
    sorted({0, *(round(2.0 ** (step / PER_OCTAVE)) for step in range(OCTAVES * PER_OCTAVE + 1))})
)
"""The least whole number of each bucket; small numbers have a bucket each, the last one has no end."""


def bucket_of(value: int) -> int:
    """The bucket of a whole number, zero or more."""
    return bisect_right(LOWS, value) - 1


def bounds(bucket: int) -> tuple[int, int]:
    """The least number of a bucket, and of the one after it; the last is taken to be as wide as its neighbour."""
    low = LOWS[bucket]
    return low, LOWS[bucket + 1] if bucket + 1 < len(LOWS) else 2 * low - LOWS[bucket - 1]


HOURS: Final = 24
MORE_TOOLS: Final = (4, 16)
"""From how many tools on the next bucket of strata begins."""

EvidenceCell = tuple[str, str, str, int, int]
"""Endpoint, source, tenant, stratum, hour."""

ServiceCell = tuple[str, int, str, int]
"""Endpoint, hour, metric, bucket."""

ProviderCell = tuple[str, str, int]
"""Tenant, provider, day."""


class OutcomeCounts:
    """Counters by cell.

    `evidence` holds requests, tool_call_requests, errored_requests, auto_requests and auto_tool_call_requests.
    """

    def __init__(self) -> None:
        self.evidence: dict[EvidenceCell, list[int]] = {}
        self.service: dict[ServiceCell, int] = {}
        self.providers: dict[ProviderCell, int] = {}

    def add(self, source: str, group: OutcomeGroup) -> None:
        """Count the outcomes of one tenant at one endpoint."""
        for outcome in group.outcomes:
            hour = outcome.at_us // HOUR_US
            self._serve(group.endpoint_id, hour, outcome)
            tools = outcome.tools
            if tools is not None and tools.offered and outcome.result == ANSWERED:
                self._call(
                    (group.endpoint_id, source, group.tenant, stratum(tools), hour),
                    outcome.requests,
                    tools,
                )
                if group.tenant and tools.tool_call_requests:
                    cell = (group.tenant, group.provider, hour // HOURS)
                    self.providers[cell] = self.providers.get(cell, 0) + tools.tool_call_requests

    def _call(self, cell: EvidenceCell, requests: int, tools: ToolUse) -> None:
        counts = self.evidence.get(cell)
        if counts is None:
            counts = self.evidence[cell] = [0, 0, 0, 0, 0]
        counts[0] += requests
        counts[1] += tools.tool_call_requests
        counts[2] += tools.errored_requests
        if tools.tool_choice in {"", "auto"}:
            counts[3] += requests
            counts[4] += tools.tool_call_requests

    def _serve(self, endpoint_id: str, hour: int, outcome: Outcome) -> None:
        if outcome.result == ANSWERED:
            self._count((endpoint_id, hour, "answered", 0), outcome.requests)
            if outcome.first_token_s is not None:
                bucket = bucket_of(round(outcome.first_token_s * 1000))
                self._count((endpoint_id, hour, "latency_ms", bucket), outcome.requests)
            if outcome.completion_tokens and outcome.duration_s is not None:
                bucket = bucket_of(
                    1_000_000
                    * outcome.completion_tokens
                    // max(1, round(outcome.duration_s * 1000))
                )
                self._count((endpoint_id, hour, "throughput_mtps", bucket), outcome.requests)
        elif outcome.result in FAILED:
            self._count((endpoint_id, hour, "failed", 0), outcome.requests)

    def _count(self, cell: ServiceCell, requests: int) -> None:
        self.service[cell] = self.service.get(cell, 0) + requests


def stratum(tools: ToolUse) -> int:
    """Requests that are alike in difficulty: by turn and number of tools."""
    return bisect_right(MORE_TOOLS, tools.offered) + (len(MORE_TOOLS) + 1) * tools.after_tool_result


def count_outcomes(batches: Iterable[OutcomeBatch]) -> OutcomeCounts:
    """What batches come to."""
    cells = OutcomeCounts()
    for batch in batches:
        for group in batch.groups:
            cells.add(batch.source, group)
    return cells
