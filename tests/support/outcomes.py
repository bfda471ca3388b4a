"""Made-up outcomes: ordinary ones, and ones that say anything at all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.decision_streams import make_rows

from assay.decision_log.decision_row import DerivedDecision
from assay.engine.world.clock import EPOCH
from assay.outcomes.outcome import (
    ANSWERED,
    MOST_CALLS,
    MOST_REQUESTS,
    RESULTS,
    Outcome,
    OutcomeBatch,
    OutcomeReport,
    ToolUse,
    group_outcomes,
)
from assay.store.evidence_tables import (
    capability_counter,
    evidence_counter,
    evidence_day,
    service_counter,
    tenant_provider,
)

# The tables that counted outcomes move.
COUNTERS = (
    capability_counter,
    evidence_counter,
    evidence_day,
    service_counter,
    tenant_provider,
)
NOW_US = 1_783_173_600_000_000  # 2026-07-04T14:00:00Z
HOUR_US = 3_600_000_000
ENDPOINTS = {
    f"lab/m{model}@{provider}": provider
    for model in range(2)
    for provider in ("one", "two", "three")
}
TENANTS = ("", "acme", "beta", "gamma")
DECISION = "0198f2a4-5b6c-7d8e-9f01-23456789abcd"

SOUND_TOOLS = ToolUse(3, "auto", tool_call_requests=1, tool_calls=2)
SOUND = Outcome(NOW_US - 1_000_000, ANSWERED, DECISION, 1, 1, 0.25, 2.0, 100, None, SOUND_TOOLS)
ALONE = replace(SOUND, decision_id="", attempt=0)
"""An outcome that names no decision."""


def change_outcome(**fields: Any) -> Outcome:
    """The sound outcome with other values; those of its tools by their own names."""
    tools = {name: fields.pop(name) for name in list(fields) if name in ToolUse.__struct_fields__}
    return replace(SOUND, **{"tools": replace(SOUND_TOOLS, **tools), **fields})


def make_decision(
    *tried: str, decision_id: str = DECISION, decided_us: int = NOW_US - 60_000_000, **fields: Any
) -> DerivedDecision:
    """A decision that planned these endpoints, in order of rank."""
    at = EPOCH + timedelta(microseconds=decided_us)
    return make_rows(
        1,
        decision_id=decision_id,
        decided_at=at,
        tried=tried or ("lab/m0@one", "lab/m0@two", "lab/m0@three"),
        **fields,
    )[0]


def report_outcome(
    outcome: Outcome, endpoint_id: str = "lab/m0@one", tenant: str = "acme"
) -> OutcomeReport:
    return OutcomeReport(endpoint_id, tenant, outcome)


def make_batch(reports: list[OutcomeReport], batch_id: str, source: str = "gw") -> OutcomeBatch:
    names = {tenant: tenant and f"p-{tenant}" for tenant in TENANTS}
    return OutcomeBatch(source, batch_id, NOW_US, group_outcomes(reports, ENDPOINTS, names))


@st.composite
def tool_uses(draw: st.DrawFn, requests: int, *, answered: bool) -> ToolUse:
    """What can be true together."""
    offered = draw(st.sampled_from((0, 1, 3, 4, 15, 16, 40)))
    choice, after = draw(st.sampled_from(("", "auto", "required"))), draw(st.booleans())
    if not (offered and answered):
        return ToolUse(offered, choice, after)
    calls = draw(st.integers(0, requests))
    errored = draw(st.integers(0, calls))
    kinds = (
        [errored + draw(st.integers(0, 2)), draw(st.integers(0, 2)), draw(st.integers(0, 2))]
        if errored
        else [0] * 3
    )
    return ToolUse(offered, choice, after, calls, errored, sum(kinds) + calls, *kinds)


@st.composite
def sound_reports(draw: st.DrawFn) -> OutcomeReport:
    """What has to be taken."""
    result = draw(st.sampled_from((ANSWERED, ANSWERED, *sorted(RESULTS))))
    requests = draw(st.sampled_from((1, 1, 1, 7)))
    first = draw(st.none() | st.floats(0, 10))
    duration = draw(st.none() | st.floats(first or 0, 20))
    outcome = Outcome(
        NOW_US - draw(st.integers(0, 23)) * HOUR_US - draw(st.integers(0, HOUR_US)),
        result,
        "",
        0,
        requests,
        first,
        duration,
        draw(st.none() | st.integers(0, 1000)),
        None,
        draw(st.none() | tool_uses(requests, answered=result == ANSWERED)),
    )
    return OutcomeReport(
        draw(st.sampled_from(sorted(ENDPOINTS))), draw(st.sampled_from(TENANTS)), outcome
    )


NUMBERS = st.sampled_from(
    (-1, 0, 1, 2, 3, MOST_REQUESTS, MOST_REQUESTS + 1, MOST_CALLS + 1, 2**31, 2**63, -(2**63))
) | st.integers(-(2**64), 2**64)
FLOATS = (
    st.none() | st.floats() | st.floats(0, 100) | st.sampled_from((0.0, -0.0, 86_400.0, 86_401.0))
)
ANY_TOOLS = st.builds(
    ToolUse, NUMBERS, st.sampled_from(("", "auto", "none", "maybe")), st.booleans(), *[NUMBERS] * 6
)
ANYTHING = st.builds(
    Outcome,
    st.integers(NOW_US - 25 * HOUR_US, NOW_US + HOUR_US) | NUMBERS,
    st.sampled_from((*sorted(RESULTS), "", "99", "Answered")),
    st.sampled_from(("", DECISION, DECISION.upper(), DECISION[:-1], "x")),
    NUMBERS,
    NUMBERS,
    FLOATS,
    FLOATS,
    st.none() | NUMBERS,
    FLOATS,
    st.none() | ANY_TOOLS,
)
"""Outcomes that may say anything, some of them sound."""
