"""A plan with the facts that its rules read, for each endpoint and each finding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from assay.engine.decide.plan import Moment, Plan, RequestedModel, answer, entries
from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.evaluation import Facts, facts_read
from assay.engine.policy.verdict import FactsRead, RuleFinding, Verdict
from assay.engine.snapshot.parts import ModelView, PoolView
from assay.engine.snapshot.pool_memory import subtract_counts
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.request import Request


@dataclass(frozen=True, slots=True)
class Explanation:
    """A plan whose findings tell what they saw; `seen` holds, per verdict, all that its rules read.

    Facts and parameters go by their paths; the value is `None` where a fact was absent.
    """

    plan: Plan
    seen: tuple[FactsRead, ...]
    policy_digest: str


def explain(request: Request, snapshot: Snapshot, moment: Moment) -> Explanation:
    """Plan as `plan` does, and tell what every rule read."""
    judged = entries(request, snapshot, moment)
    plan = answer(judged, request, snapshot, moment)
    read = [reading for entry in judged for reading in readings(entry, snapshot)]
    verdicts = tuple(told(v, r) for v, r in zip(plan.verdicts, read, strict=True))
    return Explanation(
        replace(plan, verdicts=verdicts), tuple(all_of(r) for r in read), snapshot.policy.digest
    )


Reading = Mapping[tuple[str, str], FactsRead]


def readings(entry: RequestedModel, snapshot: Snapshot) -> Iterable[Reading]:
    """Per row, what each rule (by rule set and name) read."""
    constants = {k: v for bound in entry.route.bound for k, v in bound.scope.constants.items()}
    rules = [r for program in entry.route.programs for r in program.rules]
    for index, row in enumerate(entry.rows):
        found: dict[tuple[str, str], FactsRead] = {}
        for bound in entry.route.pools:
            found |= pool_reading(
                bound, entry.view, snapshot.pools[bound.name, entry.view.model], index
            )
        roots = {**entry.shared, "endpoint": row}
        yield found | {(r.rule.origin, r.name): facts_read(r, roots, constants) for r in rules}


def pool_reading(bound: CompiledBinding, view: ModelView, pool: PoolView, index: int) -> Reading:
    """What a binding's pool rules read of one row: evidence folded in the binding's way, less what is forgotten.

    A member that has been one before was judged by `stay`.
    """
    row: Facts = view.rows[bound.fold][index]
    program = bound.enter
    if pool.standings:
        standing = pool.standings[index]
        row = subtract_counts(row, standing.forgotten)
        program = bound.stay if standing.rules == "stay" else bound.enter
    roots = {"model": view.facts, "cohort": view.cohort[bound.fold], "endpoint": row}
    rules = program.rules if program else ()
    return {(r.rule.origin, r.name): facts_read(r, roots, bound.scope.constants) for r in rules}


def told(verdict: Verdict, reading: Reading) -> Verdict:
    """A verdict whose findings carry what they saw."""

    def with_seen(findings: tuple[RuleFinding, ...]) -> tuple[RuleFinding, ...]:
        return tuple(replace(f, seen=reading.get((f.rule_set, f.rule), ())) for f in findings)

    return replace(
        verdict,
        broken=with_seen(verdict.broken),
        abstained=with_seen(verdict.abstained),
        shadow=with_seen(verdict.shadow),
    )


def all_of(reading: Reading) -> FactsRead:
    """Everything that any rule read, each path once."""
    return tuple(sorted({path: value for read in reading.values() for path, value in read}.items()))
