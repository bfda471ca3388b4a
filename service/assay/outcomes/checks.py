"""Checks of a batch: each outcome is accepted or rejected on its own, with a code and a sentence.

Almost all outcomes pass `is_plain`, one expression. Only the others go through the rules one by
one, which know the reason. INVARIANT: a plain outcome breaks none of the rules.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from operator import attrgetter
from typing import Any, Final, NamedTuple, get_args, get_type_hints

from msgspec import Meta, Struct

from assay.engine.errors import InvalidField, quoted
from assay.engine.world.capabilities import is_capability
from assay.engine.world.clock import EPOCH, HOUR
from assay.engine.world.request import TOOL_CHOICES, check_text
from assay.outcomes.outcome import (
    ANSWERED,
    MOST_ATTEMPTS,
    MOST_CALLS,
    MOST_SECONDS,
    MOST_TOKENS,
    MOST_TOOLS,
    REFUSED,
    RESULTS,
    Outcome,
    OutcomeReport,
    ToolUse,
    Uncounted,
)

MOST_OUTCOMES: Final = 1000
HOUR_US: Final = HOUR // timedelta(microseconds=1)
DAY_US: Final = 24 * HOUR_US
AHEAD_US: Final = HOUR_US // 12
"""How far the clocks of two hosts may differ."""

_name: Final = re.compile(r"[A-Za-z0-9._:/@-]{1,64}").fullmatch
_uuid: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_CHOICES: Final = frozenset({"", *TOOL_CHOICES})


def _limits_of(kind: type[Struct]) -> dict[str, float]:
    """Return the greatest value that the declaration of each numeric field allows."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for part in (hint, *get_args(hint)):  # the field's type, or one of several
            metadata = getattr(part, "__metadata__", ())
            found.update((name, meta.le) for meta in metadata if isinstance(meta, Meta))
    return found


_LIMITS: Final = {name: most for name, most in _limits_of(Outcome).items() if name != "at_us"}
_TOOL_LIMITS: Final = _limits_of(ToolUse)
_limited_of: Final = attrgetter(*_LIMITS)
_limited_tools_of: Final = attrgetter(*_TOOL_LIMITS)


_TALLIED: Final = frozenset({Uncounted.DUPLICATE, Uncounted.CONTRADICTING, Uncounted.LATE})

BatchName = tuple[str, str]
"""Source and batch_id."""

Attempt = tuple[str, int]
"""The id of a decision, and a rank."""

AcceptedReport = tuple[BatchName, int, str, int]
"""The batch of a report, the hash of its outcome, its endpoint, and when the attempt ended."""


def _no_reports(_attempt: Attempt) -> None:
    return None


class OutcomeFault(NamedTuple):
    """Why an outcome is rejected: a code for programs, and a sentence with field and value.

    `kind` is what it is counted as, if that is not the reason.
    """

    reason: str
    message: str
    kind: str = ""


class OutcomeRejection(NamedTuple):
    """A rejected outcome, by its position in the batch, from 0."""

    position: int
    fault: OutcomeFault


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The accepted and the rejected outcomes of a batch, both in its order.

    `attempts` are the accepted ones that name a decision. `tallied` counts, by kind and endpoint,
    outcomes rejected as late or as reported before.
    """

    accepted: list[OutcomeReport] = field(default_factory=list)
    rejected: list[OutcomeRejection] = field(default_factory=list)
    attempts: dict[Attempt, AcceptedReport] = field(default_factory=dict)
    tallied: Counter[tuple[str, str]] = field(default_factory=Counter)


def require_batch(source: str, batch_id: str, size: int) -> None:
    """Raise InvalidField for a batch that is rejected as a whole."""
    for name, value in (("source", source), ("batch_id", batch_id)):
        if not _name(value):
            raise InvalidField(
                name, value, "a name of letters, digits and ._:/@-, from 1 to 64 characters"
            )
    if size > MOST_OUTCOMES:
        raise InvalidField("outcomes", f"{size} items", f"a list of at most {MOST_OUTCOMES}")


def check_outcomes(
    reports: Iterable[OutcomeReport],
    known: Container[str],
    now_us: int,
    *,
    batch: BatchName = ("", ""),
    reported: Callable[[Attempt], AcceptedReport | None] = _no_reports,
) -> BatchResult:
    """Accept or reject each outcome on its own; `known` holds the ids of all endpoints.

    `reported` returns the report that was accepted of an attempt. One from another batch makes
    this one a duplicate; one from this `batch` means that the batch is sent again.
    """
    result = BatchResult()
    checker = _BatchChecker(known, now_us, batch, reported, result.attempts)
    for index, report in enumerate(reports):
        fault = checker.find_fault(report)
        if fault is None:
            result.accepted.append(report)
            continue
        result.rejected.append(OutcomeRejection(index, fault))
        kind = fault.kind or fault.reason
        if kind in _TALLIED:
            result.tallied[kind, report.endpoint_id] += 1
    return result


class _BatchChecker:
    """Checks the outcomes of one batch, and remembers its attempts to find repeated ones."""

    def __init__(
        self,
        known: Container[str],
        now_us: int,
        batch: BatchName,
        reported: Callable[[Attempt], AcceptedReport | None],
        attempts: dict[Attempt, AcceptedReport],
    ) -> None:
        self._known = known
        self._now_us = now_us
        self._tenants = {""}
        self._batch = batch
        self._reported = reported
        self._attempts = attempts

    def find_fault(self, report: OutcomeReport) -> OutcomeFault | None:
        outcome = report.outcome
        if report.endpoint_id not in self._known:
            message = f"endpoint_id: {quoted(report.endpoint_id)} is not in the catalog"
            return OutcomeFault("unknown-endpoint", message)
        if report.tenant not in self._tenants:
            try:
                check_text("tenant", report.tenant)
            except InvalidField as error:
                return OutcomeFault("bad-tenant", str(error))
            self._tenants.add(report.tenant)
        fault = None if is_plain(outcome, self._now_us) else find_fault(outcome, self._now_us)
        if fault is not None or not outcome.decision_id:
            return fault
        return self._find_repetition(report)

    def _find_repetition(self, report: OutcomeReport) -> OutcomeFault | None:
        """Find an earlier report of the attempt.

        INVARIANT: a report of another batch is rejected only if it could not count: it says the
        same, or the earlier one is of the same endpoint and in time for the decision.
        """
        outcome, content = report.outcome, hash(report.outcome)
        attempt = (outcome.decision_id, outcome.attempt)
        earlier, place = self._attempts.get(attempt), "this batch"
        if earlier is None:
            earlier, place = self._reported(attempt), "another batch"
            if earlier is None or earlier[0] == self._batch:
                self._attempts[attempt] = (self._batch, content, report.endpoint_id, outcome.at_us)
                return None
        is_same = earlier[1:3] == (content, report.endpoint_id)
        if place == "another batch" and not is_same and not _could_count(earlier, report):
            self._attempts[attempt] = (self._batch, content, report.endpoint_id, outcome.at_us)
            return None
        message = f"decision_id, attempt: {attempt[0]}, {attempt[1]} was reported in {place}"
        if is_same:
            return OutcomeFault(Uncounted.DUPLICATE, message)
        message += " with other values"
        return OutcomeFault(Uncounted.DUPLICATE, message, Uncounted.CONTRADICTING)


def _could_count(earlier: AcceptedReport, report: OutcomeReport) -> bool:
    """Whether an earlier report can count in place of this one.

    It names the same endpoint, and is in time for the decision, whose id holds the time.
    """
    _, _, endpoint_id, at_us = earlier
    decision_id = report.outcome.decision_id
    decided_us = 1000 * int(decision_id[:8] + decision_id[9:13], 16)
    # Ids hold whole milliseconds.
    return endpoint_id == report.endpoint_id and 1000 - AHEAD_US <= at_us - decided_us < DAY_US


def is_plain(outcome: Outcome, now_us: int) -> bool:
    """Whether an outcome is like most, so that `find_fault` would find nothing."""
    tools, duration = outcome.tools, outcome.duration_s
    longest = MOST_SECONDS if duration is None else duration
    return (
        now_us - DAY_US <= outcome.at_us <= now_us
        and outcome.result in RESULTS
        and outcome.requests == 1
        and 0 <= (outcome.first_token_s or 0) <= longest <= MOST_SECONDS
        and 0 <= (outcome.completion_tokens or 0) <= MOST_TOKENS
        and not outcome.retry_after_s
        and not outcome.unsupported
        and (tools is None or _are_plain_tools(tools, outcome.result))
        and (
            0 < outcome.attempt <= MOST_ATTEMPTS and _uuid(outcome.decision_id) is not None
            if outcome.decision_id
            else not outcome.attempt
        )
    )


def _are_plain_tools(tools: ToolUse, result: str) -> bool:
    """Whether a request ended in valid calls, or in none."""
    if not 0 < tools.offered <= MOST_TOOLS or tools.tool_choice not in _CHOICES:
        return False
    if tools.errored_requests or tools.invalid_json or tools.unknown_name or tools.schema_mismatch:
        return False
    if tools.tool_call_requests == 0:
        return tools.tool_calls == 0
    return tools.tool_call_requests == 1 <= tools.tool_calls <= MOST_CALLS and result == ANSWERED


def find_fault(outcome: Outcome, now_us: int) -> OutcomeFault | None:
    """Return the first rule that an outcome breaks, whatever its endpoint and tenant."""
    return next(_faults(outcome, now_us), None)


def _faults(outcome: Outcome, now_us: int) -> Iterator[OutcomeFault]:
    if not now_us - DAY_US <= outcome.at_us <= now_us + AHEAD_US:
        at, now = _iso_time(outcome.at_us), _iso_time(now_us)
        if outcome.at_us == 0:
            yield OutcomeFault("no-time", "at: missing")
        if outcome.at_us > now_us:
            yield OutcomeFault("future", f"at: {at} is more than 5 minutes ahead of {now}")
        yield OutcomeFault(Uncounted.LATE, f"at: {at} is more than 24 hours before {now}")
    yield from _limit_faults("", _LIMITS, [value or 0 for value in _limited_of(outcome)])
    if outcome.result not in RESULTS:
        words = ", ".join(sorted(RESULTS))
        message = f"result: {quoted(outcome.result)} is not one of {words}"
        yield OutcomeFault("unknown-result", message)
    if outcome.decision_id:
        yield from _decision_faults(outcome)
    if outcome.requests == 0:
        message = "requests: 0 is not a number from 1; leave it out for 1"
        yield OutcomeFault("no-requests", message)
    first, end = outcome.first_token_s, outcome.duration_s
    if first is not None and end is not None and first > end:
        message = f"first_token_s: {first} is more than duration_s, {end}"
        yield OutcomeFault("first-token-after-end", message)
    if outcome.tools is not None:
        yield from _tools_faults(outcome, outcome.tools)
    if outcome.unsupported:
        yield from _unsupported_faults(outcome)


def _unsupported_faults(outcome: Outcome) -> Iterator[OutcomeFault]:
    if not is_capability(outcome.unsupported):
        message = (
            f"unsupported: {quoted(outcome.unsupported)} is not a path such as parameters.seed"
        )
        yield OutcomeFault("unknown-capability", message)
    if outcome.result not in REFUSED:
        message = f"unsupported: {outcome.result} is not the result of a refusal"
        yield OutcomeFault("no-refusal-possible", message)


def _iso_time(at_us: int) -> str:
    try:
        return (EPOCH + timedelta(microseconds=at_us)).isoformat()
    except OverflowError:
        return f"{at_us // 1_000_000} s"


def _limit_faults(
    prefix: str, limits: Mapping[str, float], values: Sequence[float]
) -> Iterator[OutcomeFault]:
    for value, (name, most) in zip(values, limits.items(), strict=True):
        field = f"{prefix}{name}: {value}"
        if not math.isfinite(value):
            yield OutcomeFault("not-a-number", f"{field} is not a finite number")
        if value < 0:
            yield OutcomeFault("negative", f"{field} is negative")
        if value > most:
            yield OutcomeFault("too-large", f"{field} is more than {most:.0f}")


def _decision_faults(outcome: Outcome) -> Iterator[OutcomeFault]:
    """Find what one attempt of a decision cannot be."""
    if not _uuid(outcome.decision_id):
        message = f"decision_id: {quoted(outcome.decision_id)} is not an id that Decide returned"
        yield OutcomeFault("bad-decision", message)
    if outcome.attempt < 1:
        message = f"attempt: {outcome.attempt} is not a rank from 1; decision_id needs one"
        yield OutcomeFault("bad-decision", message)
    if outcome.requests > 1:
        message = f"requests: {outcome.requests} is not 1; decision_id names a single attempt"
        yield OutcomeFault("bad-decision", message)


def _tools_faults(outcome: Outcome, tools: ToolUse) -> Iterator[OutcomeFault]:
    """Find counts that contradict each other; a zero count of calls may also mean "not counted"."""
    yield from _limit_faults("tools.", _TOOL_LIMITS, _limited_tools_of(tools))
    if tools.tool_choice not in _CHOICES:
        known = ", ".join(TOOL_CHOICES)
        message = f"tools.tool_choice: {quoted(tools.tool_choice)} is not one of {known}"
        yield OutcomeFault("unknown-tool-choice", message)
    calls, errored = tools.tool_call_requests, tools.errored_requests
    bad = tools.invalid_json + tools.unknown_name + tools.schema_mismatch
    if not (calls or errored or tools.tool_calls or bad):
        return
    if outcome.result != ANSWERED:
        message = f"tools: only answered requests have tool calls, not {outcome.result} ones"
        yield OutcomeFault("no-calls-possible", message)
    if not tools.offered:
        yield OutcomeFault("no-calls-possible", "tools.offered: 0 is too few for a tool call")
    kinds = "invalid_json + unknown_name + schema_mismatch"
    for low, name, high, limit in (
        (calls, "tool_call_requests", outcome.requests, "requests"),
        (errored, "errored_requests", calls, "tool_call_requests"),
        (calls, "tool_call_requests", tools.tool_calls or calls, "tool_calls"),
        (bad, kinds, tools.tool_calls or bad, "tool_calls"),
        (errored, "errored_requests", bad or errored, kinds),
    ):
        if low > high:
            message = f"tools: {name} = {low} is more than {limit} = {high}"
            yield OutcomeFault("counts-disagree", message)
    if bad and not errored:
        message = f"tools: errored_requests = 0 contradicts {kinds} = {bad}"
        yield OutcomeFault("counts-disagree", message)
