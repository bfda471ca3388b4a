"""Decisions and outcomes as the journal takes them: real bytes, built quickly and repeatably."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from tests.support.curated_pool import MODEL
from tests.support.worlds import endpoint, judge_world, make_moment, make_request, plan_for, world

from assay.decision_log.record import DecisionRecord, encode_record
from assay.outcomes.checks import HOUR_US
from assay.outcomes.outcome import ANSWERED, Outcome, OutcomeBatch, OutcomeGroup, ToolUse

PROVIDERS = ("steady", "sinking")
TENANTS = tuple(f"p-{number}" for number in range(4))
SOURCE = "gateway"


@cache
def _record_parts() -> tuple[bytes, str, str]:
    """Return a plan of two attempts, with the ids of its snapshot and policy."""
    both = (endpoint(tag, MODEL, price=1.0 + n) for n, tag in enumerate(PROVIDERS))
    snapshot = judge_world(world(*both))
    planned = plan_for(snapshot, MODEL)
    assert [attempt.tag for attempt in planned.attempts] == list(PROVIDERS)
    return planned.canonical(), planned.snapshot_id, snapshot.policy.digest


def make_decision_id(number: int, attempt: int = 0) -> str:
    """Return the id of the n-th decision; each attempt to make it has its own."""
    return f"{number:08x}-0000-7000-8000-{attempt:012x}"


def encode_decision(decision_id: str, at_us: int) -> bytes:
    """Return the record of a decision that plans both providers."""
    plan, snapshot_id, policy_digest = _record_parts()
    record = DecisionRecord(
        decision_id=decision_id,
        at_us=at_us,
        moment=make_moment(),
        tenant=TENANTS[0],
        request=make_request(MODEL),
        snapshot_id=snapshot_id,
        policy_revision=1,
        policy_digest=policy_digest,
        engine_version="test",
        plan_ns=1,
        plan=plan,
    )
    return encode_record(record)


@dataclass(frozen=True)
class Traffic:
    """What happened at one provider in a span of time, for one tenant."""

    provider: str
    tenant: str
    at_us: int
    requests: int
    errored: int

    @property
    def group(self) -> OutcomeGroup:
        calls = self.requests // 2
        tools = ToolUse(
            offered=3,
            tool_choice="auto",
            tool_call_requests=calls,
            errored_requests=self.errored,
            tool_calls=calls,
            invalid_json=self.errored,
        )
        done = Outcome(
            self.at_us, ANSWERED, requests=self.requests, first_token_s=0.25, tools=tools
        )
        return OutcomeGroup(self.tenant, f"{MODEL}@{self.provider}", self.provider, [done])


def outcome_of_decision(decision_id: str, at_us: int) -> OutcomeGroup:
    """Return the outcome of a decision's first attempt."""
    tools = ToolUse(3, "auto", tool_call_requests=1, tool_calls=1)
    done = Outcome(at_us, ANSWERED, decision_id, 1, 1, 0.25, 2.0, 100, None, tools)
    return OutcomeGroup(TENANTS[0], f"{MODEL}@{PROVIDERS[0]}", PROVIDERS[0], [done])


def make_batch(
    batch_id: str, at_us: int, traffic: Iterable[Traffic], decisions: Sequence[str] = ()
) -> OutcomeBatch:
    """Return a batch of outcomes: traffic, and first attempts of decisions."""
    groups = [each.group for each in traffic]
    groups += [outcome_of_decision(each, at_us) for each in decisions]
    return OutcomeBatch(SOURCE, batch_id, at_us, groups)


def traffic_of_hour(hour: int, part: int, parts: int) -> list[Traffic]:
    """Return the traffic of one part of an hour; the second provider's errors rise at hour 9."""
    start_us = hour * HOUR_US + part * HOUR_US // parts + 1
    share = {"steady": 0.005, "sinking": 0.01 if hour % 24 < 9 else 0.3}
    calls = 240 // parts
    return [
        Traffic(provider, tenant, start_us + number, 2 * calls, round(share[provider] * calls))
        for provider in PROVIDERS
        for number, tenant in enumerate(TENANTS)
    ]
