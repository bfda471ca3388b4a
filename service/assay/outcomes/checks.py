"""Checking a batch: each outcome is taken as it is or rejected on its own."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from assay.engine.errors import InvalidField, quoted
from assay.engine.world.request import check_text
from assay.outcomes.outcome import (
    ANSWERED,
    MOST_CALLS,
    MOST_SECONDS,
    MOST_TOKENS,
    MOST_TOOLS,
    RESULTS,
    Outcome,
    OutcomeReport,
    ToolUse,
)
from assay.outcomes.rejections import (
    CHOICES,
    LATE_US,
    MOST_ATTEMPTS,
    UUID,
    OutcomeFault,
    outcome_fault,
)

MOST_OUTCOMES: Final = 1000
NAME: Final = re.compile(r"[A-Za-z0-9._:/@-]{1,64}").fullmatch


class OutcomeRejection(NamedTuple):
    """An outcome that is not taken, by its place in the batch, from 0."""

    place: int
    fault: OutcomeFault


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A batch taken apart, both in its order."""

    accepted: list[OutcomeReport]
    rejected: list[OutcomeRejection]


def require_batch(source: str, batch_id: str, size: int) -> None:
    """Raise InvalidField for a batch that cannot be taken at all."""
    for field, value in (("source", source), ("batch_id", batch_id)):
        if not NAME(value):
            raise InvalidField(
                field, value, "a name of letters, digits and ._:/@-, from 1 to 64 characters"
            )
    if size > MOST_OUTCOMES:
        raise InvalidField("outcomes", f"{size} items", f"a list of at most {MOST_OUTCOMES}")


def check_outcomes(
    reports: Iterable[OutcomeReport], known: Container[str], now_us: int
) -> BatchResult:
    """Take or refuse each outcome on its own; `known` are the endpoints there are."""
    fault_of = BatchChecker(known, now_us).fault
    accepted: list[OutcomeReport] = []
    rejected: list[OutcomeRejection] = []
    for place, reported in enumerate(reports):
        fault = fault_of(reported)
        if fault is None:
            accepted.append(reported)
        else:
            rejected.append(OutcomeRejection(place, fault))
    return BatchResult(accepted, rejected)


class BatchChecker:
    """What one batch is checked against, and what it said so far."""

    def __init__(self, known: Container[str], now_us: int) -> None:
        self._known = known
        self._now_us = now_us
        self._tenants = {""}
        self._attempts: set[tuple[str, int]] = set()

    def fault(self, reported: OutcomeReport) -> OutcomeFault | None:
        """The first thing that is wrong with an outcome."""
        outcome = reported.outcome
        if reported.endpoint_id not in self._known:
            return OutcomeFault(
                "unknown-endpoint",
                f"endpoint_id: {quoted(reported.endpoint_id)} is not in the catalog",
            )
        if reported.tenant not in self._tenants:
            try:
                check_text("tenant", reported.tenant)
            except InvalidField as error:
                return OutcomeFault("bad-tenant", str(error))
            self._tenants.add(reported.tenant)
        fault = None if plain(outcome, self._now_us) else outcome_fault(outcome, self._now_us)
        return self._repeated(outcome) if fault is None and outcome.decision_id else fault

    def _repeated(self, outcome: Outcome) -> OutcomeFault | None:
        attempt = (outcome.decision_id, outcome.attempt)
        if attempt in self._attempts:
            message = (
                f"decision_id, attempt: {attempt[0]}, {attempt[1]} stands in this batch already"
            )
            return OutcomeFault("duplicate", message)
        self._attempts.add(attempt)
        return None


def plain(outcome: Outcome, now_us: int) -> bool:
    """Whether an outcome is as most are, so that `outcome_fault` would find nothing: it is asked of all others."""
    tools, duration = outcome.tools, outcome.duration_s
    return (
        now_us - LATE_US <= outcome.at_us <= now_us
        and outcome.result in RESULTS
        and outcome.requests == 1
        and 0
        <= (outcome.first_token_s or 0)
        <= (MOST_SECONDS if duration is None else duration)
        <= MOST_SECONDS
        and 0 <= (outcome.completion_tokens or 0) <= MOST_TOKENS
        and not outcome.retry_after_s
        and (tools is None or plain_tools(tools, outcome.result))
        and (plain_attempt(outcome) if outcome.decision_id else not outcome.attempt)
    )


def plain_attempt(outcome: Outcome) -> bool:
    """Whether an outcome names an attempt of a decision."""
    return 0 < outcome.attempt <= MOST_ATTEMPTS and UUID(outcome.decision_id) is not None


def plain_tools(tools: ToolUse, result: str) -> bool:
    """Whether a request ended in good calls, or in none."""
    return (
        0 < tools.offered <= MOST_TOOLS
        and tools.tool_choice in CHOICES
        and not (
            tools.errored_requests
            or tools.invalid_json
            or tools.unknown_name
            or tools.schema_mismatch
        )
        and (
            (tools.tool_call_requests == 1 <= tools.tool_calls <= MOST_CALLS and result == ANSWERED)
            or tools.tool_call_requests == tools.tool_calls == 0
        )
    )
