"""Pools with memory at one tick: endpoints are evaluated, moved and judged.

Evidence that arrives after its hour was closed counts in the next tick, together with that tick's
own hour (service/STATISTICS.md#late-evidence).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final

from assay.engine.evidence.observations import (
    NO_HOUR,
    CallsByTenant,
    EndpointEvidence,
    FoldedCounts,
    HourCounts,
    add_calls,
)
from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.evaluation import Facts
from assay.engine.policy.verdict import RuleFinding, RuleFindings
from assay.engine.pool.transition import (
    EvaluatedEndpoint,
    ModelPool,
    Transition,
    is_member,
    ordinal,
)
from assay.engine.snapshot.parts import ModelView
from assay.engine.snapshot.pool_memory import (
    LATE_HOURS,
    NO_COUNTS,
    NOTHING_COUNTED,
    UNKNOWN,
    CountedHour,
    CountedHours,
    PoolMemory,
    PoolStanding,
    PoolState,
    forgotten_counts,
    hold_words,
    subtract_counts,
)
from assay.engine.world.clock import EPOCH, HOUR

HOLD: Final = "hold"
MINIMUM: Final = "minimum"
MEMORY_RULES: Final = (HOLD, MINIMUM)
"""The names of findings that come from a pool's memory rather than from a rule."""


@dataclass(frozen=True, slots=True)
class PoolEvaluation:
    """The findings of one pool per endpoint, with its state if the pool `has_memory`."""

    endpoints: Sequence[tuple[RuleFindings, PoolStanding | None]]
    has_memory: bool = False


Callers = list[tuple[CallsByTenant, float, float]]
"""Calls by tenant, with the part of the calls and the part of the errors that are new."""


@dataclass(frozen=True, slots=True)
class PoolTick:
    """One tick of all pools; it collects the transitions of their endpoints.

    `evidence` is keyed by way of folding and by endpoint id. `observed` holds the imported
    observations of the closed hour and of remembered ones, by hour and endpoint id; reported
    outcomes are in `evidence`.
    """

    as_of: datetime
    closes_hour: bool
    memory: PoolMemory
    evidence: Mapping[str, Mapping[str, EndpointEvidence]]
    observed: Mapping[int, Mapping[str, HourCounts]]
    transitions: list[Transition] = field(default_factory=list)

    def evaluate(self, binding: CompiledBinding, view: ModelView) -> PoolEvaluation:
        """Evaluate one pool, and move its endpoints."""
        if binding.enter is None or binding.stay is None:
            raise ValueError(f"binding {binding.name} has no pool")
        shared, rows = view.shared(binding.fold), view.rows[binding.fold]
        pool = ModelPool(binding, binding.enter, binding.stay, shared, self.as_of)
        moved = pool.advance(self._endpoints(pool, rows), closes_hour=self.closes_hour)
        self.transitions.extend(moved)
        evicted: dict[int, EvaluatedEndpoint] = {}  # the rules of `enter` apply to them from now on
        for index, transition in enumerate(moved):
            if transition.endpoint.is_member and not is_member(transition.state):
                endpoint = replace(transition.endpoint, state=transition.state)
                evicted[index] = _without_forgotten(pool, endpoint, rows[index])
        found = pool.enter.findings([e.row for e in evicted.values()], shared)
        for (index, endpoint), findings in zip(evicted.items(), found, strict=True):
            moved[index] = replace(moved[index], endpoint=replace(endpoint, findings=findings))
        return PoolEvaluation([(_findings(pool, t), _standing(t)) for t in moved], has_memory=True)

    def _endpoints(self, pool: ModelPool, rows: Sequence[Facts]) -> list[EvaluatedEndpoint]:
        """Evaluate every endpoint by the rules of the state it is in."""
        binding = pool.binding
        endpoints: list[EvaluatedEndpoint] = []
        for row in rows:
            endpoint_id = str(row["id"])
            state = self.memory.states.get((binding.name, endpoint_id))
            known = self.evidence[binding.fold].get(endpoint_id)
            folded = known.folded if known else None
            hour = self._in_hour(self.closed, endpoint_id)
            if folded:
                hour = _together(hour, folded.hour.counted)
            late, callers = self._late(endpoint_id, state, folded)
            unread = EvaluatedEndpoint(
                endpoint_id,
                state,
                row,
                row,
                RuleFindings(),
                _together(hour, late),
                NO_COUNTS,
                folded,
                late,
                partial(self._callers, endpoint_id, folded, callers),
            )
            endpoints.append(_without_forgotten(pool, unread, row))
        members = frozenset(e.endpoint_id for e in endpoints if e.is_member)
        found = binding.pool_findings([e.row for e in endpoints], pool.shared, members)
        return [replace(e, findings=f) for e, f in zip(endpoints, found, strict=True)]

    @property
    def closed(self) -> int:
        """The number of the closed hour."""
        return (self.as_of - EPOCH) // HOUR - 1

    def _in_hour(self, hour: int, endpoint_id: str) -> HourCounts:
        return self.observed.get(hour, {}).get(endpoint_id, NO_HOUR)

    def _callers(
        self, endpoint_id: str, folded: FoldedCounts | None, late: Callers
    ) -> CallsByTenant:
        """Return the tenants' calls of the closed hour, and what is new of earlier ones."""
        observed = self._in_hour(self.closed, endpoint_id)
        hours: Callers = [({"": (observed.calls, observed.errored)}, 1.0, 1.0), *late]
        if folded:
            hours.append((folded.hour.by_tenant(), 1.0, 1.0))
        return {tenant: both for tenant, both in add_calls(hours).items() if both[0]}

    def _late(
        self, endpoint_id: str, state: PoolState | None, folded: FoldedCounts | None
    ) -> tuple[HourCounts, Callers]:
        """Return what arrived late of the closed hours in which the endpoint was a member.

        The limits on tenants apply as if late and earlier calls of the hour were alike.
        """
        callers: Callers = []
        if not self.closes_hour or state is None or not is_member(state):
            return NO_HOUR, callers
        calls = errored = 0.0
        for hour in sorted(self.memory.counted):
            if EPOCH + (hour + 1) * HOUR <= state.since:
                continue
            before = self.memory.counted[hour].get(endpoint_id, NOTHING_COUNTED)
            observed = self._in_hour(hour, endpoint_id)
            new = (
                max(observed.calls - before.observed_calls, 0.0),
                max(observed.errored - before.observed_errored, 0.0),
            )
            calls += new[0]
            errored += new[1]
            callers.append(({"": new}, 1.0, 1.0))
            if folded and (traffic := folded.late.get(hour)):
                total, counted = traffic.total, traffic.counted
                call_part = _new_share(total.calls, before.calls)
                error_part = _new_share(total.errored, before.errored)
                calls += counted.calls * call_part
                errored += counted.errored * error_part
                callers.append((traffic.by_tenant(), call_part, error_part))
        return HourCounts(calls, min(errored, calls)), callers

    def counted_hours(self) -> CountedHours:
        """Return what has counted by now of the closed hours that may still grow.

        INVARIANT: a count never decreases, so that nothing counts twice.
        """
        totals: dict[int, dict[str, HourCounts]] = {}
        for known in self.evidence.values():
            for endpoint_id, evidence in known.items():
                if (folded := evidence.folded) is None:
                    continue
                totals.setdefault(self.closed, {})[endpoint_id] = folded.hour.total
                for hour, late in folded.late.items():
                    totals.setdefault(hour, {})[endpoint_id] = late.total
        oldest = self.closed - LATE_HOURS + 2  # the next tick closes one hour more
        hours = [hour for hour in self.memory.counted if oldest <= hour < self.closed]
        return {
            hour: _count_more(
                self.memory.counted.get(hour, {}),
                totals.get(hour, {}),
                self.observed.get(hour, {}),
            )
            for hour in (*sorted(hours), self.closed)
        }


def _together(one: HourCounts, other: HourCounts) -> HourCounts:
    return HourCounts(one.calls + other.calls, one.errored + other.errored)


def _new_share(now: float, before: float) -> float:
    return max(now - before, 0.0) / now if now else 0.0


def _count_more(
    before: Mapping[str, CountedHour],
    traffic: Mapping[str, HourCounts],
    observed: Mapping[str, HourCounts],
) -> Mapping[str, CountedHour]:
    """Return what has counted in an hour, with what is known of it now."""
    found = dict(before)
    for endpoint_id in sorted(traffic.keys() | observed.keys()):
        kinds = (traffic.get(endpoint_id, NO_HOUR), observed.get(endpoint_id, NO_HOUR))
        now = [int(count) for kind in kinds for count in (kind.calls, kind.errored)]
        known = found.get(endpoint_id, NOTHING_COUNTED)
        counted = CountedHour(*map(max, known, now))
        if counted != NOTHING_COUNTED:
            found[endpoint_id] = counted
    return found


def _without_forgotten(
    pool: ModelPool, endpoint: EvaluatedEndpoint, row: Facts
) -> EvaluatedEndpoint:
    """Return the endpoint with its facts minus what its state forgets of them."""
    state = endpoint.state
    if state is None or state.forgotten is None:
        return endpoint
    keep = pool.spec.keep_after_eviction
    counts = forgotten_counts(state.forgotten, row, pool.as_of, endpoint.half_life, keep)
    return replace(endpoint, row=subtract_counts(row, counts), forgotten=counts)


def _findings(pool: ModelPool, transition: Transition) -> RuleFindings:
    """Return an endpoint's findings: members break no rule, all others at least one."""
    found, state = transition.endpoint.findings, transition.state
    if is_member(state):
        if not found.broken:
            return found
        reason = f"it would be evicted, but the pool keeps at least {pool.binding.minimum} members"
        minimum_findings = (_memory_finding(pool, MINIMUM, "HELD_BY_MINIMUM", reason),)
        tolerated = (*(minimum_findings if transition.held_by_minimum else ()), *found.broken)
        return replace(found, broken=(), abstained=(*tolerated, *found.abstained))
    if state and state.held_until:
        message = f"{hold_words(state.held_until)} after its {ordinal(state.evictions)} eviction"
        hold_finding = _memory_finding(pool, HOLD, "HELD", message)
        return replace(found, broken=(hold_finding, *found.broken))
    if not found.broken:
        message = "it may come in once the hour is closed"
        return replace(found, broken=(_memory_finding(pool, HOLD, "HELD", message),))
    return found


def _memory_finding(pool: ModelPool, rule: str, reason: str, message: str) -> RuleFinding:
    return RuleFinding(rule, reason, message, "false", pool.binding.rules.name)


def _standing(transition: Transition) -> PoolStanding:
    endpoint, state = transition.endpoint, transition.state
    rules = "stay" if endpoint.is_member else "enter"
    if state is None:
        return PoolStanding(UNKNOWN, None, rules)
    return PoolStanding(state.state, state.since, rules, state.held_until, endpoint.forgotten)
