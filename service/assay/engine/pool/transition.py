"""One pool at one tick: which endpoints come in, which are evicted, and which wait.

How it works
    unknown -> probation -> member -> evicted -> probation. An endpoint may take several steps in
    one tick, since nothing makes it wait on probation once every `enter` rule holds. Each step is a
    `PoolChange` with its cause.

    A member is evicted in one of two ways. The slow way counts consecutive closed hours in which a
    `stay` rule was broken, and evicts only a few endpoints of a model per hour, the least accurate
    first, since a broken probe makes all endpoints look bad at once. The fast way is a CUSUM over
    the bad calls of closed hours (service/STATISTICS.md#fast-eviction). It detects within an hour
    or two that errors are `change_odds` times as frequent as the accuracy allows. It needs errors
    that do not rest on a few tenants: `PoolState.run` has who called since the CUSUM rose. Both
    ways keep the binding's `minimum`.

    An eviction holds for longer each time, up to `hold_max`, and forgets most of the evidence
    (`pool_memory.py`), so that readmission requires new evidence. It is undone if tenants behind a
    third of its errors turn out to be broken themselves, and the endpoint is good without them.

    INVARIANT: the result does not depend on the order of endpoints, and a state that does not
    change is the same object, so that only changed states are written. Between hours (`closes_hour`
    is false) no counts are added, nothing leaves, and only endpoints without a state may come in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import exp2, fsum, log
from typing import Final

from assay.engine.evidence.observations import (
    NO_HOUR,
    CallsByTenant,
    FoldedCounts,
    HourCounts,
    add_calls,
)
from assay.engine.evidence.usage import convincing_counts
from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.evaluation import Facts, RuleProgram, SharedFacts, facts_read
from assay.engine.policy.rule_set import MemorySpec
from assay.engine.policy.verdict import RuleFinding, RuleFindings
from assay.engine.snapshot.pool_memory import (
    DEPARTED,
    EVICTED,
    MEMBER,
    NO_COUNTS,
    PROBATION,
    UNKNOWN,
    DecayedCounts,
    PoolChange,
    PoolMemory,
    PoolState,
    counts_in_row,
    forget_evidence,
    hold_words,
)
from assay.engine.world.clock import HOUR

_FADE: Final = exp2(-1 / 24)  # of a run by the hour, so that it has hardly more than a day or two
_FADED_CALLS: Final = 0.05  # a call after four days
_MOST_KEPT: Final = 100  # tenants behind a slow eviction


@dataclass(frozen=True, slots=True)
class EvaluatedEndpoint:
    """One endpoint of a pool: its state, its facts, its rules' findings, and its closed hour.

    The counts `forgotten` are in `observed` but not in `row`. `findings` are those of `stay` for a
    member, otherwise of `enter`. `hour` contains `late`, what arrived after earlier hours were
    closed; `callers` adds up who called in these hours.
    """

    endpoint_id: str
    state: PoolState | None
    row: Facts
    observed: Facts
    findings: RuleFindings
    hour: HourCounts
    forgotten: DecayedCounts
    evidence: FoldedCounts | None
    late: HourCounts = NO_HOUR
    callers: Callable[[], CallsByTenant] = dict

    @property
    def half_life(self) -> timedelta | None:
        """The half-life of its evidence."""
        return self.evidence.half_life if self.evidence else None

    @property
    def is_member(self) -> bool:
        """Whether it is in the pool."""
        return is_member(self.state)


@dataclass(frozen=True, slots=True)
class Transition:
    """One endpoint's state after a tick, and the changes that led to it.

    `alarm` is the finding of a member that is to be evicted the fast way.
    """

    endpoint: EvaluatedEndpoint
    state: PoolState | None
    changes: tuple[PoolChange, ...] = ()
    held_by_minimum: bool = False
    alarm: RuleFinding | None = None


@dataclass(frozen=True, slots=True)
class ModelPool:
    """One binding's pool of one model at one tick."""

    binding: CompiledBinding
    enter: RuleProgram
    stay: RuleProgram
    shared: SharedFacts
    as_of: datetime

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.shared["model"]["id"])

    @property
    def spec(self) -> MemorySpec:
        """How it remembers."""
        return self.binding.memory

    def advance(
        self, endpoints: Sequence[EvaluatedEndpoint], *, closes_hour: bool
    ) -> list[Transition]:
        """Take every endpoint one tick further, in the given order."""
        if not closes_hour:
            return [Transition(e, e.state) if e.state else self._arrive(e) for e in endpoints]
        return self._evict_members([self._close_hour(e) for e in endpoints])

    def _close_hour(self, endpoint: EvaluatedEndpoint) -> Transition:
        """Move one endpoint at the end of an hour, except for evictions."""
        state = endpoint.state
        if state is None:
            return self._arrive(endpoint)
        if state.forgotten and state.forgotten.has_faded(self.as_of):
            state = replace(state, forgotten=None)
        transition = Transition(endpoint, state)
        if state.state == MEMBER:
            return self._remain(transition, state)
        if state.is_held(self.as_of):
            return self._retract(transition, state)
        if state.state == EVICTED:
            message = f"the hold after its {ordinal(state.evictions)} eviction is over"
            transition = self._move(transition, PROBATION, "hold_over", message)
        return self._enter_if_fit(transition)

    def _arrive(self, endpoint: EvaluatedEndpoint) -> Transition:
        """Put an unknown endpoint on probation once it was observed or need not be."""
        was_observed = "tools.requests" in endpoint.row
        if endpoint.findings.broken and not was_observed:
            return Transition(endpoint, None)
        message = (
            "its tool calling has been observed"
            if was_observed
            else "its rules need no observations"
        )
        arrived = self._move(Transition(endpoint, None), PROBATION, "evidence", message)
        return self._enter_if_fit(arrived)

    def _enter_if_fit(self, transition: Transition) -> Transition:
        if transition.endpoint.findings.broken:
            return transition
        return self._move(transition, MEMBER, "admitted", "every enter rule holds")

    def _remain(self, transition: Transition, state: PoolState) -> Transition:
        """Add the hour to a member's CUSUM, and count its slow failures."""
        spec, endpoint, hour = self.spec, transition.endpoint, transition.endpoint.hour
        total, run, alarm, accuracy = state.cusum, state.run, None, self.binding.accuracy
        if accuracy is not None:
            effect = endpoint.row.get("tools.design_effect")
            if not isinstance(effect, float):
                effect = self.binding.evidence.design_effect
            total = cusum(total, hour, spec, accuracy, effect)
            run = _longer_run(run, endpoint.callers()) if total else {}
            if total >= spec.cusum_limit:
                if self._is_convincing(run, endpoint, accuracy, effect):
                    alarm = self._alarm(endpoint, total)
                else:
                    total = spec.cusum_limit
        failures, failed_at = 0, None
        if endpoint.findings.broken:
            is_consecutive = state.failed_at == self.as_of - HOUR
            failures, failed_at = (state.slow_failures if is_consecutive else 0) + 1, self.as_of
        if (total, failures, failed_at) != (state.cusum, state.slow_failures, state.failed_at):
            state = replace(
                state, cusum=total, slow_failures=failures, failed_at=failed_at, run=run
            )
        return replace(transition, state=state, alarm=alarm)

    def _is_convincing(
        self, run: CallsByTenant, endpoint: EvaluatedEndpoint, accuracy: float, effect: float
    ) -> bool:
        """Whether half of the limit is reached without tenants that are few or broken."""
        use = endpoint.evidence.use if endpoint.evidence else None
        if use is None:
            return True
        whole = [fsum(part) for part in zip(*run.values(), strict=True)]
        kept = convincing_counts(run, use, self.binding.evidence)
        if list(kept) == whole:
            return True
        return gain(HourCounts(*kept), self.spec, accuracy, effect) >= self.spec.cusum_limit / 2

    def _alarm(self, endpoint: EvaluatedEndpoint, total: float) -> RuleFinding:
        spec, hour, late = self.spec, endpoint.hour, endpoint.late.calls
        what = f"the hour, and of {late:.0f} late ones of the day," if late else "the hour"
        message = (
            f"{hour.errored:.0f} of {hour.calls:.0f} tool-call requests of {what} errored:"
            f" the evidence for {spec.change_odds:g} times the allowed errors adds up to"
            f" {total:.2f}, the limit is {spec.cusum_limit:g}"
        )
        return RuleFinding("cusum", "ACCURACY", message, "false", self.binding.rules.name)

    def _retract(self, transition: Transition, state: PoolState) -> Transition:
        """Undo an eviction by the errors of tenants that have turned out to be broken."""
        endpoint = transition.endpoint
        use = endpoint.evidence.use if endpoint.evidence else None
        aside = use.aside if use else frozenset()
        errors = {tenant: errored for tenant, (_, errored) in state.run.items()}
        broken = fsum(errors[tenant] for tenant in sorted(errors) if tenant in aside)
        if not broken or broken < fsum(errors.values()) / 3:
            return transition
        (found,) = self.stay.findings([endpoint.observed], self.shared)
        if found.broken:
            return transition
        message = (
            f"its {ordinal(state.evictions)} eviction is undone: {broken:.0f} of"
            f" {fsum(errors.values()):.0f} errors came from tenants that fail everywhere"
        )
        fresh = replace(state, evictions=state.evictions - 1, forgotten=None)
        whole = replace(endpoint, row=endpoint.observed, forgotten=NO_COUNTS, findings=found)
        return self._move(
            replace(transition, endpoint=whole, state=fresh), MEMBER, "retracted", message
        )

    def _evict_members(self, transitions: Sequence[Transition]) -> list[Transition]:
        """Evict members with an alarm, and some that failed for long enough, the worst first."""

        def accuracy_and_id(index: int) -> tuple[float, str]:
            endpoint = transitions[index].endpoint
            known = counts_in_row(endpoint.row)
            accuracy = 1.0 - known.errored / known.calls if known.calls > 0 else 1.0
            return accuracy, endpoint.endpoint_id

        room = sum(is_member(t.state) for t in transitions) - self.binding.minimum
        moved = list(transitions)
        members = [(index, t) for index, t in enumerate(transitions) if is_member(t.state)]
        alarmed = sorted((i for i, t in members if t.alarm), key=accuracy_and_id)
        failed = sorted(
            (
                index
                for index, t in members
                if not t.alarm and t.state and t.state.slow_failures >= self.spec.slow_failures
            ),
            key=accuracy_and_id,
        )
        for rank, index in enumerate([*alarmed, *failed]):
            failing = transitions[index]
            if rank >= room:
                moved[index] = replace(failing, held_by_minimum=True)
            elif failing.alarm:
                moved[index] = self._evict(failing, "fast", (failing.alarm,))
            elif rank < len(alarmed) + self.spec.slow_evictions:
                moved[index] = self._evict(failing, "slow", failing.endpoint.findings.broken)
        return moved

    def _evict(
        self, transition: Transition, cause: str, reasons: tuple[RuleFinding, ...]
    ) -> Transition:
        endpoint, state = transition.endpoint, transition.state
        if state is None:
            raise ValueError("an endpoint without a state cannot be evicted")
        weeks = (self.as_of - state.since) // timedelta(weeks=1)
        evictions = max(state.evictions - weeks, 0) + 1
        held_until = self.as_of + hold_after(self.spec, evictions)
        message = "; ".join(reason.message for reason in reasons)
        if cause == "slow":
            message = f"failed at {state.slow_failures} closed hours in a row: {message}"
        message = f"{message}; {hold_words(held_until)}"
        moved = self._move(transition, EVICTED, cause, message, reasons)
        forgotten = forget_evidence(
            endpoint.row,
            endpoint.forgotten,
            self.as_of,
            endpoint.half_life,
            self.spec.keep_after_eviction,
        )
        run = state.run if cause == "fast" else _most_errors(endpoint)
        evicted = moved.state and replace(
            moved.state, evictions=evictions, held_until=held_until, forgotten=forgotten, run=run
        )
        return replace(moved, state=evicted)

    def _move(
        self,
        transition: Transition,
        after: str,
        cause: str,
        message: str,
        reasons: tuple[RuleFinding, ...] = (),
    ) -> Transition:
        """Return the transition with one more step, into the state `after`."""
        endpoint = transition.endpoint
        before = transition.state or PoolState(
            self.binding.name, self.model, endpoint.endpoint_id, UNKNOWN, self.as_of
        )
        change = PoolChange(
            self.as_of,
            before.binding,
            before.model,
            before.endpoint_id,
            before=before.state,
            after=after,
            cause=cause,
            message=message,
            reasons=reasons,
            facts=self._facts(endpoint, before),
        )
        fresh = PoolState(before.binding, before.model, before.endpoint_id, after, self.as_of)
        state = replace(fresh, evictions=before.evictions, forgotten=before.forgotten)
        return replace(transition, state=state, changes=(*transition.changes, change))

    def _facts(self, endpoint: EvaluatedEndpoint, state: PoolState) -> dict[str, object]:
        """Return the facts behind a change: those that rules read, the hour, and the memory."""
        program = self.stay if state.state == MEMBER else self.enter
        roots = {**self.shared, "endpoint": endpoint.row}
        read: dict[str, object] = {}
        for rule in program.rules:
            read |= facts_read(rule, roots, self.binding.scope.constants)
        late = {"late.calls": endpoint.late.calls, "late.errored": endpoint.late.errored}
        return {
            **dict(sorted(read.items())),
            "hour.calls": endpoint.hour.calls,
            "hour.errored": endpoint.hour.errored,
            **(late if endpoint.late.calls else {}),
            "memory.cusum": state.cusum,
            "memory.evictions": state.evictions,
            "memory.slow_failures": state.slow_failures,
        }


def update_memory(
    memory: PoolMemory, transitions: Iterable[Transition], bindings: frozenset[str], as_of: datetime
) -> tuple[PoolMemory, tuple[PoolChange, ...]]:
    """Return the memory after all transitions, and all changes by pool and endpoint.

    Endpoints of these bindings that left the catalog are forgotten. But an eviction outlives its
    endpoint until the hold is over, so that leaving and returning does not shorten it.
    """
    states = dict(memory.states)
    changes: list[PoolChange] = []
    present: set[tuple[str, str]] = set()
    for transition in transitions:
        changes += transition.changes
        if transition.state:
            present.add(transition.state.key)
            states[transition.state.key] = transition.state
    for key, state in memory.states.items():
        if state.binding in bindings and key not in present and not state.is_held(as_of):
            del states[key]
            own = (state.binding, state.model, state.endpoint_id, state.state)
            facts = {"memory.cusum": state.cusum, "memory.evictions": state.evictions}
            message = "it left the catalog"
            changes.append(PoolChange(as_of, *own, UNKNOWN, DEPARTED, message, (), facts))
    changes.sort(key=lambda c: (c.binding, c.model, c.endpoint_id))
    return replace(memory, states=states), tuple(changes)


def is_member(state: PoolState | None) -> bool:
    """Whether an endpoint in this state is in the pool."""
    return state is not None and state.state == MEMBER


def _longer_run(run: CallsByTenant, callers: CallsByTenant) -> CallsByTenant:
    """Return who called since a CUSUM rose; what was an hour ago counts a little less.

    Tenants of whom hardly anything is left are dropped, so that a run does not grow without end.
    """
    longer = add_calls(((run, _FADE, _FADE), (callers, 1.0, 1.0)))
    return {tenant: both for tenant, both in longer.items() if both[0] >= _FADED_CALLS}


def _most_errors(endpoint: EvaluatedEndpoint) -> CallsByTenant:
    """Return the counts of the tenants with the most errors at an endpoint."""
    known = endpoint.evidence.by_tenant() if endpoint.evidence else {}
    ranked = sorted(
        (tenant for tenant in known if known[tenant][1]), key=lambda t: (-known[t][1], t)
    )
    return {tenant: known[tenant] for tenant in sorted(ranked[:_MOST_KEPT])}


def cusum(
    before: float, hour: HourCounts, spec: MemorySpec, accuracy: float, design_effect: float
) -> float:
    """Return the CUSUM after one more hour; `accuracy` is the one expected of members.

    Source: service/STATISTICS.md#fast-eviction.
    """
    scale = spec.cusum_cap / max(hour.calls / design_effect, spec.cusum_cap)
    return max(0.0, before + scale * gain(hour, spec, accuracy, design_effect))


def gain(counts: HourCounts, spec: MemorySpec, accuracy: float, design_effect: float) -> float:
    """Return how much counts speak for `change_odds` times the allowed errors."""
    calls, bad = counts.calls / design_effect, counts.errored / design_effect
    usual = 1.0 - accuracy
    worse = spec.change_odds * usual
    return bad * log(worse / usual) + (calls - bad) * log((1.0 - worse) / (1.0 - usual))


def hold_after(spec: MemorySpec, evictions: int) -> timedelta:
    """Return for how long the k-th eviction holds an endpoint out."""
    length = spec.hold
    for _ in range(evictions - 1):
        if length >= spec.hold_max:
            break
        length = min(length * spec.backoff, spec.hold_max)
    return length


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th … 11th … 21st."""
    tens, ones = divmod(number % 100, 10)
    return f"{number}{'th' if tens == 1 else {1: 'st', 2: 'nd', 3: 'rd'}.get(ones, 'th')}"
