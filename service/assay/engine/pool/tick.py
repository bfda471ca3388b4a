"""Pools with memory at one tick: endpoints are evaluated, moved and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from assay.engine.evidence.observations import EndpointEvidence, HourCounts
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
    NO_COUNTS,
    UNKNOWN,
    PoolMemory,
    PoolStanding,
    forgotten_counts,
    subtract_counts,
)

HOLD: Final = "hold"
MINIMUM: Final = "minimum"
MEMORY_RULES: Final = (HOLD, MINIMUM)
"""The names of findings that come from a pool's memory rather than from a rule."""
NO_HOUR: Final = HourCounts(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class PoolEvaluation:
    """The findings of one pool per endpoint, with its state if the pool `has_memory`."""

    endpoints: Sequence[tuple[RuleFindings, PoolStanding | None]]
    has_memory: bool = False


@dataclass(frozen=True, slots=True)
class PoolTick:
    """One tick of all pools; it collects the transitions of their endpoints.

    `evidence` is keyed by way of folding and by endpoint id. `observed` holds the imported
    observations of the closed hour, by endpoint id; reported outcomes are in `evidence`.
    """

    as_of: datetime
    closes_hour: bool
    memory: PoolMemory
    evidence: Mapping[str, Mapping[str, EndpointEvidence]]
    observed: Mapping[str, HourCounts]
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
            half_life = known.folded.half_life if known and known.folded else None
            hour = self.observed.get(endpoint_id, NO_HOUR)
            if known and known.folded and (traffic := known.folded.hour):
                hour = HourCounts(hour.calls + traffic.calls, hour.errored + traffic.errored)
            unread = EvaluatedEndpoint(
                endpoint_id, state, row, RuleFindings(), hour, NO_COUNTS, half_life
            )
            endpoints.append(_without_forgotten(pool, unread, row))
        members = frozenset(e.endpoint_id for e in endpoints if e.is_member)
        found = binding.pool_findings([e.row for e in endpoints], pool.shared, members)
        return [replace(e, findings=f) for e, f in zip(endpoints, found, strict=True)]


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
        until = f"held out until {state.held_until:%Y-%m-%d %H:%M} UTC"
        message = f"{until} after its {ordinal(state.evictions)} eviction"
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
