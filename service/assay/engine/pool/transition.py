"""One tick of one pool: who comes in, who goes, who waits.

unknown → probation → member → evicted → probation. Each step is a change with its cause; an endpoint may take two steps
in one tick, since coming in has no dwell. Definitions: reference/statistics.md §5.1, with the corrections at its head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from assay.engine.evidence.observations import HourCounts
from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.evaluation import Facts, RuleFindings, RuleProgram, SharedFacts, facts_read
from assay.engine.policy.rule_set import MemorySpec
from assay.engine.policy.verdict import RuleFinding
from assay.engine.snapshot.pool_memory import (
    EVICTED,
    MEMBER,
    PROBATION,
    UNKNOWN,
    DecayedCounts,
    PoolChange,
    PoolState,
    counts_in_row,
    forget_evidence,
)
from assay.engine.world.clock import HOUR


def cusum(
    before: float, hour: HourCounts, spec: MemorySpec, accuracy: float, design_effect: float
) -> float:
    """The sum after one more hour; `accuracy` is what members should have."""
    calls, bad = hour.calls / design_effect, hour.errored / design_effect
    usual = 1.0 - accuracy
    worse = spec.change_odds * usual
    gain = bad * math.log(worse / usual) + (calls - bad) * math.log((1.0 - worse) / (1.0 - usual))
    return max(0.0, before + spec.cusum_cap / max(calls, spec.cusum_cap) * gain)


@dataclass(frozen=True, slots=True)
class JudgedEndpoint:
    """One endpoint as a tick finds it: what is remembered of it, what the rules read and said, what its hour counted.

    `row` is less what is `forgotten`; `findings` are by `stay` for a member, else by `enter`.
    """

    endpoint_id: str
    state: PoolState | None
    row: Facts
    findings: RuleFindings
    hour: HourCounts
    forgotten: DecayedCounts
    half_life: timedelta | None


@dataclass(frozen=True, slots=True)
class Transition:
    """What a tick made of one endpoint."""

    subject: JudgedEndpoint
    state: PoolState | None
    changes: tuple[PoolChange, ...] = ()
    held_by_minimum: bool = False


@dataclass(frozen=True, slots=True)
class ModelPool:
    """One binding's pool of one model at one tick."""

    bound: CompiledBinding
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
        return self.bound.memory

    def advance(self, subjects: Sequence[JudgedEndpoint], *, closed: bool) -> list[Transition]:
        """Take every endpoint one tick further, in the order of `subjects`, on which nothing depends.

        `closed` closes an hour; else the pool is only judged again, and nobody but the unknown moves.
        """
        if not closed:
            return [Transition(s, s.state) if s.state else self.arrive(s) for s in subjects]
        return self.evict_slowly([self.close(s) for s in subjects])

    def close(self, subject: JudgedEndpoint) -> Transition:
        """One endpoint at the end of an hour, save for what depends on the others."""
        state = subject.state
        if state is None:
            return self.arrive(subject)
        if state.forgotten and state.forgotten.faded(self.as_of):
            state = replace(state, forgotten=None)
        step = Transition(subject, state)
        if state.state == MEMBER:
            return self.remain(step, state)
        if state.held(self.as_of):
            return step
        if state.state == EVICTED:
            words = f"the hold after its {ordinal(state.evictions)} eviction is over"
            step = self.move(step, PROBATION, "hold_over", words)
        return self.enter_if_fit(step)

    def arrive(self, subject: JudgedEndpoint) -> Transition:
        """One endpoint without a state: looked at once something was observed, or nothing needs to be."""
        seen_anything = "tools.requests" in subject.row
        if subject.findings.broken and not seen_anything:
            return Transition(subject, None)
        words = (
            "its tool calling has been observed"
            if seen_anything
            else "nothing has to be observed of it"
        )
        return self.enter_if_fit(self.move(Transition(subject, None), PROBATION, "evidence", words))

    def enter_if_fit(self, step: Transition) -> Transition:
        """In at once if all `enter` rules hold."""
        if step.subject.findings.broken:
            return step
        return self.move(step, MEMBER, "admitted", "every enter rule holds")

    def remain(self, step: Transition, state: PoolState) -> Transition:
        """A member's hour: out the fast way, or one more or no failure on the slow way."""
        level, subject, total = self.bound.accuracy, step.subject, state.cusum
        if level is not None:
            total = cusum(total, subject.hour, self.spec, level, self.effect(subject))
        if total >= self.spec.cusum_limit:
            return self.evict(
                replace(step, state=replace(state, cusum=total)),
                "fast",
                (self.alarm(subject, total),),
            )
        failures, failed_at = 0, None
        if subject.findings.broken:
            consecutive = state.failed_at == self.as_of - HOUR
            failures, failed_at = (state.slow_failures if consecutive else 0) + 1, self.as_of
        if (total, failures, failed_at) == (state.cusum, state.slow_failures, state.failed_at):
            return step
        return replace(
            step, state=replace(state, cusum=total, slow_failures=failures, failed_at=failed_at)
        )

    def effect(self, subject: JudgedEndpoint) -> float:
        """The design effect, as estimated or else as written."""
        found = subject.row.get("tools.design_effect")
        return found if isinstance(found, float) else self.bound.evidence.design_effect

    def alarm(self, subject: JudgedEndpoint, total: float) -> RuleFinding:
        """What the fast way out says in place of a rule."""
        hour, spec = subject.hour, self.spec
        words = (
            f"{hour.errored:.0f} of {hour.calls:.0f} tool-call requests of the hour errored: the sum of evidence for "
            f"{spec.change_odds:g} times the errors allowed is {total:.2f}, at least {spec.cusum_limit:g}"
        )
        return RuleFinding("cusum", "ACCURACY", words, "false", self.bound.rules.name)

    def evict_slowly(self, steps: Sequence[Transition]) -> list[Transition]:
        """The members that have failed long enough go, the worst first, as many as may go and `minimum` lets go."""
        members = sum(s.state is not None and s.state.state == MEMBER for s in steps)
        room = members - self.bound.minimum
        failed = [
            n
            for n, s in enumerate(steps)
            if s.state and s.state.slow_failures >= self.spec.slow_failures
        ]
        found = list(steps)
        for rank, n in enumerate(sorted(failed, key=lambda n: badness(steps[n].subject))):
            if rank >= room:
                found[n] = replace(steps[n], held_by_minimum=True)
            elif rank < self.spec.slow_evictions:
                found[n] = self.evict(steps[n], "slow", steps[n].subject.findings.broken)
        return found

    def evict(self, step: Transition, cause: str, reasons: tuple[RuleFinding, ...]) -> Transition:
        """Out, for longer each time, and with little of what was known still counting."""
        if step.state is None:
            raise ValueError("nothing is remembered of who is not in the pool")
        subject, evictions = step.subject, step.state.evictions + 1
        held_until = self.as_of + hold(self.spec, evictions)
        forgotten = forget_evidence(
            subject.row,
            subject.forgotten,
            self.as_of,
            subject.half_life,
            self.spec.keep_after_eviction,
        )
        words = "; ".join(reason.message for reason in reasons)
        if cause == "slow":
            words = f"failed at {step.state.slow_failures} closed hours in a row: {words}"
        moved = self.move(
            step,
            EVICTED,
            cause,
            f"{words}; held out until {held_until:%Y-%m-%d %H:%M} UTC",
            reasons,
        )
        kept = moved.state and replace(
            moved.state, evictions=evictions, held_until=held_until, forgotten=forgotten
        )
        return replace(moved, state=kept)

    def move(
        self,
        step: Transition,
        after: str,
        cause: str,
        message: str,
        reasons: tuple[RuleFinding, ...] = (),
    ) -> Transition:
        """A step into another state, with its change."""
        known = step.state or PoolState(
            self.bound.name, self.model, step.subject.endpoint_id, UNKNOWN, self.as_of
        )
        change = PoolChange(
            self.as_of,
            known.binding,
            known.model,
            known.endpoint_id,
            before=known.state,
            after=after,
            cause=cause,
            message=message,
            reasons=reasons,
            facts=self.facts(step.subject, known),
        )
        state = replace(
            known, state=after, since=self.as_of, cusum=0.0, slow_failures=0, failed_at=None, held_until=None
        )  # fmt: skip
        return replace(step, state=state, changes=(*step.changes, change))

    def facts(self, subject: JudgedEndpoint, known: PoolState) -> dict[str, object]:
        """What stands behind a change: all that the rules read, the closed hour, and what was remembered."""
        rules = (self.stay if known.state == MEMBER else self.enter).rules
        roots = {**self.shared, "endpoint": subject.row}
        read = {
            path: value
            for rule in rules
            for path, value in facts_read(rule, roots, self.bound.scope.constants)
        }
        return {
            **dict(sorted(read.items())),
            "hour.calls": subject.hour.calls,
            "hour.errored": subject.hour.errored,
            "memory.cusum": known.cusum,
            "memory.evictions": known.evictions,
            "memory.slow_failures": known.slow_failures,
        }


def hold(spec: MemorySpec, evictions: int) -> timedelta:
    """For how long the k-th eviction keeps an endpoint outside."""
    length = spec.hold
    for _ in range(evictions - 1):
        if length >= spec.hold_max:
            break
        length = min(length * spec.backoff, spec.hold_max)
    return length


def badness(subject: JudgedEndpoint) -> tuple[float, str]:
    """Whom to evict first: the least accurate, then by id."""
    known = counts_in_row(subject.row)
    return (1.0 - known.errored / known.calls if known.calls > 0 else 1.0, subject.endpoint_id)


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th … 11th … 21st."""
    tens, ones = divmod(number % 100, 10)
    return f"{number}{'th' if tens == 1 else {1: 'st', 2: 'nd', 3: 'rd'}.get(ones, 'th')}"
