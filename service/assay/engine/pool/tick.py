"""A tick: the world, a policy and what pools remember in; a snapshot, the new memory and every change out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from assay.engine.evidence.observations import EndpointEvidence, HourCounts
from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.evaluation import Facts, RuleFindings
from assay.engine.policy.policy import Policy
from assay.engine.policy.verdict import RuleFinding
from assay.engine.pool.judge import Cohort, admit, cohorts, judge_model, judged_keys
from assay.engine.pool.transition import JudgedEndpoint, ModelPool, Transition, ordinal
from assay.engine.snapshot.parts import Part, write_pool, write_tenants
from assay.engine.snapshot.pool_memory import (
    DEPARTED,
    MEMBER,
    NO_COUNTS,
    UNKNOWN,
    DecayedCounts,
    PoolChange,
    PoolMemory,
    PoolStanding,
    PoolState,
    forgotten_counts,
    subtract_counts,
)
from assay.engine.snapshot.snapshot import Snapshot, assemble_snapshot
from assay.engine.world.clock import HOUR
from assay.engine.world.world import World

Hours = Mapping[str, HourCounts]  # by endpoint id
HOLD, MINIMUM = REMEMBERED = (
    "hold",
    "minimum",
)  # under these names stands what no rule but the memory says
NO_HOUR = HourCounts(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Tick:
    """What came of one tick; states that did not change are the very ones given, changes come by pool and endpoint."""

    snapshot: Snapshot
    memory: PoolMemory
    changes: tuple[PoolChange, ...]


def tick(
    world: World, policy: Policy, as_of: datetime, memory: PoolMemory, *, closed: bool
) -> Tick:
    """Judge the whole world with memory as of an instant (UTC), and move endpoints in and out of pools.

    `closed` closes the hour that ends at `as_of`; missed hours are closed in order. Otherwise the pools are judged
    again between two of them: nothing is counted, nobody leaves, and only endpoints without a state may come in.
    """
    bounds = [b for b in policy.bound.values() if b.judged]
    watched = closed_hour(world, as_of)
    models, pools = [], []
    steps: list[Transition] = []
    for cohort in cohorts(world, policy, as_of):
        models.append(cohort.part())
        for bound in bounds:
            pool = pool_of(bound, cohort, as_of)
            if pool is None:
                pools.append(
                    judge_model(
                        bound, cohort.shared(bound), cohort.folds[bound.fold].rows, frozenset()
                    )
                )
                continue
            moved = pool.advance(subjects(pool, cohort, memory, watched), closed=closed)
            pools.append(part(pool, cohort, moved))
            steps += moved
    snapshot = assemble_snapshot(
        policy, as_of, models, pools, write_tenants(world.tenants, world.preferences)
    )
    return Tick(
        snapshot, *settle(memory, steps, frozenset(b.name for b in bounds if b.enter), as_of)
    )


def closed_hour(world: World, as_of: datetime) -> Hours:
    """What was observed of each endpoint wholly within the hour up to `as_of`."""
    hours: dict[str, HourCounts] = {}
    for o in world.observations:
        if as_of - HOUR <= o.observed_from and o.observed_to <= as_of:
            known = hours.get(o.endpoint_id, NO_HOUR)
            hours[o.endpoint_id] = HourCounts(
                known.calls + o.tool_call_requests, known.errored + o.errored_requests
            )
    return hours


def pool_of(bound: CompiledBinding, cohort: Cohort, as_of: datetime) -> ModelPool | None:
    """A binding's pool of one model, if the binding brings pools."""
    if bound.enter is None or bound.stay is None:
        return None
    return ModelPool(bound, bound.enter, bound.stay, cohort.shared(bound), as_of)


def subjects(
    pool: ModelPool, cohort: Cohort, memory: PoolMemory, watched: Hours
) -> list[JudgedEndpoint]:
    """Every endpoint of a pool's model with what is remembered of it, judged by the rules of where it stands."""
    rows = cohort.folds[pool.bound.fold]
    states = [memory.states.get((pool.bound.name, str(row["id"]))) for row in rows.rows]
    known = [rows.evidence.get(str(row["id"])) for row in rows.rows]
    half_lives = [k.folded.half_life if k and k.folded else None for k in known]
    less = [less_forgotten(pool, *one) for one in zip(rows.rows, states, half_lives, strict=True)]
    members = frozenset(state.endpoint_id for state in states if state and state.state == MEMBER)
    said = admit(pool.bound, [row for row, _ in less], pool.shared, members)
    return [
        JudgedEndpoint(
            str(row["id"]),
            state,
            row,
            findings,
            hour_of(watched, str(row["id"]), k),
            forgotten,
            half_life,
        )
        for state, (row, forgotten), findings, k, half_life in zip(
            states, less, said, known, half_lives, strict=True
        )
    ]


def hour_of(watched: Hours, endpoint_id: str, known: EndpointEvidence | None) -> HourCounts:
    """An endpoint's closed hour: as observed by others, and its traffic."""
    observed = watched.get(endpoint_id, NO_HOUR)
    traffic = known.folded.hour if known and known.folded else None
    return (
        HourCounts(observed.calls + traffic.calls, observed.errored + traffic.errored)
        if traffic
        else observed
    )


def less_forgotten(
    pool: ModelPool, row: Facts, state: PoolState | None, half_life: timedelta | None
) -> tuple[Facts, DecayedCounts]:
    """A row of facts less what is forgotten of it, and how much that is."""
    if state is None or state.forgotten is None:
        return row, NO_COUNTS
    out = forgotten_counts(
        state.forgotten, row, pool.as_of, half_life, pool.spec.keep_after_eviction
    )
    return subtract_counts(row, out), out


def part(pool: ModelPool, cohort: Cohort, steps: Sequence[Transition]) -> Part:
    """A pool's part of a snapshot: those who just went are judged once more, by what it takes to come back."""
    rows = cohort.folds[pool.bound.fold].rows
    judged = [s.subject for s in steps]
    gone = [n for n, s in enumerate(steps) if member(s.subject.state) and not member(s.state)]
    less = [less_forgotten(pool, rows[n], steps[n].state, judged[n].half_life) for n in gone]
    said = pool.enter.findings([row for row, _ in less], pool.shared)
    for n, (row, forgotten), findings in zip(gone, less, said, strict=True):
        judged[n] = replace(
            judged[n], state=steps[n].state, row=row, findings=findings, forgotten=forgotten
        )
    verdicts = [verdict(pool, step, subject) for step, subject in zip(steps, judged, strict=True)]
    standings = [standing(step, subject) for step, subject in zip(steps, judged, strict=True)]
    return write_pool(
        pool.bound.name, pool.model, verdicts, judged_keys(pool.bound, rows, pool.shared), standings
    )


def member(state: PoolState | None) -> bool:
    """Whether an endpoint is in the pool."""
    return state is not None and state.state == MEMBER


def verdict(pool: ModelPool, step: Transition, judged: JudgedEndpoint) -> RuleFindings:
    """What is said of an endpoint: nothing against a member, something against everyone else."""
    found, state = judged.findings, step.state
    if member(state):
        if not found.broken:
            return found
        kept = f"it would be evicted, but the pool keeps at least {pool.bound.minimum} members"
        minimum = (remark(pool, MINIMUM, "HELD_BY_MINIMUM", kept),) if step.held_by_minimum else ()
        return replace(found, broken=(), abstained=(*minimum, *found.broken, *found.abstained))
    if state and state.held_until:
        words = f"held out until {state.held_until:%Y-%m-%d %H:%M} UTC after its {ordinal(state.evictions)} eviction"
        return replace(found, broken=(remark(pool, HOLD, "HELD", words), *found.broken))
    if not found.broken:
        return replace(
            found, broken=(remark(pool, HOLD, "HELD", "it may come in once the hour is closed"),)
        )
    return found


def remark(pool: ModelPool, rule: str, reason: str, message: str) -> RuleFinding:
    """What a pool's memory says of an endpoint, as rules say it."""
    return RuleFinding(rule, reason, message, "false", pool.bound.rules.name)


def standing(step: Transition, judged: JudgedEndpoint) -> PoolStanding:
    """Where an endpoint stands after a tick."""
    rules = "stay" if member(judged.state) else "enter"
    if step.state is None:
        return PoolStanding(UNKNOWN, None, rules)
    return PoolStanding(
        step.state.state, step.state.since, rules, step.state.held_until, judged.forgotten
    )


def settle(
    memory: PoolMemory, steps: Iterable[Transition], bindings: frozenset[str], as_of: datetime
) -> tuple[PoolMemory, tuple[PoolChange, ...]]:
    """The memory after all steps, and all changes; of these bindings' endpoints none are left that left the catalog.

    An eviction outlives its endpoint until the hold is over, so that nobody shortens it by coming anew.
    """
    states = dict(memory.states)
    changes: list[PoolChange] = []
    present: set[tuple[str, str]] = set()
    for step in steps:
        changes += step.changes
        if step.state:
            present.add(step.state.key)
            states[step.state.key] = step.state
    for key, state in memory.states.items():
        if state.binding in bindings and key not in present and not state.held(as_of):
            del states[key]
            changes.append(departure(state, as_of))
    changes.sort(key=lambda c: (c.binding, c.model, c.endpoint_id))
    return PoolMemory(states), tuple(changes)


def departure(state: PoolState, as_of: datetime) -> PoolChange:
    """The change of an endpoint that left the catalog."""
    own = (state.binding, state.model, state.endpoint_id)
    facts = {"memory.cusum": state.cusum, "memory.evictions": state.evictions}
    return PoolChange(as_of, *own, state.state, UNKNOWN, DEPARTED, "it left the catalog", (), facts)
