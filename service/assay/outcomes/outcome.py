"""What became of attempts: the shape in which outcomes are reported and kept, and the words in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

MOST_REQUESTS: Final = 1_000_000
"""Attempts that one outcome may stand for: so few that no sum of counts comes near the end of 64 bits."""

MOST_CALLS: Final = 1000 * MOST_REQUESTS
MOST_TOKENS: Final = 1_000_000_000
MOST_TOOLS: Final = 100_000
MOST_SECONDS: Final = 86_400.0

ANSWERED: Final = "answered"
RATE_LIMITED: Final = "rate_limited"
FAILED: Final = frozenset({"transport_error", "timeout", "provider_error", "malformed", "cut"})
"""Ends that are the endpoint's fault."""

NEUTRAL: Final = frozenset({"caller_error", "cancelled"})
RESULTS: Final = frozenset({ANSWERED, RATE_LIMITED}) | FAILED | NEUTRAL

Instant = Annotated[int, Meta(ge=0, le=2**53)]
"""Microseconds since 1970, up to the year 2255."""

Requests = Annotated[int, Meta(ge=0, le=MOST_REQUESTS)]
Calls = Annotated[int, Meta(ge=0, le=MOST_CALLS)]
Seconds = Annotated[float, Meta(ge=0, le=MOST_SECONDS)]


class ToolUse(Struct, frozen=True, array_like=True, gc=False):
    """What came of the tools that a request offered; a `tool_choice` that was not sent is empty and means auto."""

    offered: Annotated[int, Meta(ge=0, le=MOST_TOOLS)]
    tool_choice: str = ""
    after_tool_result: bool = False
    tool_call_requests: Requests = 0
    errored_requests: Requests = 0
    tool_calls: Calls = 0
    invalid_json: Calls = 0
    unknown_name: Calls = 0
    schema_mismatch: Calls = 0


class Outcome(Struct, frozen=True, array_like=True, gc=False):
    """How one attempt ended, or several that were alike: times and tokens are those of each, tool counts those of all.

    Once checked nothing here is text of the caller's: words come from lists.
    """

    at_us: Instant
    result: str
    decision_id: str = ""
    attempt: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    requests: Requests = 1
    first_token_s: Seconds | None = None
    duration_s: Seconds | None = None
    completion_tokens: Annotated[int, Meta(ge=0, le=MOST_TOKENS)] | None = None
    retry_after_s: Seconds | None = None
    tools: ToolUse | None = None


class OutcomeReport(Struct, frozen=True, gc=False):
    """An outcome as it came in: not checked, the tenant by its own name."""

    endpoint_id: str
    tenant: str
    outcome: Outcome


class OutcomeGroup(NamedTuple):
    """Outcomes of one tenant at one endpoint."""

    tenant: str
    endpoint_id: str
    provider: str
    outcomes: Sequence[Outcome]


class OutcomeBatch(NamedTuple):
    """Outcomes as they are kept: checked, tenants by their pseudonyms."""

    source: str
    batch_id: str
    received_us: Instant
    groups: Sequence[OutcomeGroup]


def group_outcomes(
    accepted: Iterable[OutcomeReport], providers: Mapping[str, str], names: Mapping[str, str]
) -> list[OutcomeGroup]:
    """Outcomes by tenant and endpoint, in the order in which each pair came first; `names` holds the pseudonyms."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for reported in accepted:
        pair = (reported.tenant, reported.endpoint_id)
        if pair in found:
            found[pair].append(reported.outcome)
        else:
            found[pair] = [reported.outcome]
    return [
        OutcomeGroup(names[tenant], endpoint_id, providers[endpoint_id], outcomes)
        for (tenant, endpoint_id), outcomes in found.items()
    ]
