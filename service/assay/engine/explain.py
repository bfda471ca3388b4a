"""A plan with the facts that its rules read, for each endpoint and each finding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from assay.engine.binding import Bound
from assay.engine.compile import CheckedRule
from assay.engine.eligibility import Facts
from assay.engine.plan import Entry, Moment, Plan, answer, entries
from assay.engine.request import Request
from assay.engine.snapshot import Snapshot
from assay.engine.verdict import RuleFinding, Seen, Verdict


@dataclass(frozen=True, slots=True)
class Explanation:
    """A plan whose findings tell what they saw; `seen` holds, per verdict, all that its rules read.

    Facts and parameters go by their paths; the value is `None` where a fact was absent.
    """

    plan: Plan
    seen: tuple[Seen, ...]
    policy_digest: str


def explain(request: Request, snapshot: Snapshot, moment: Moment) -> Explanation:
    """Plan as `plan` does, and tell what every rule read."""
    judged = entries(request, snapshot, moment)
    plan = answer(judged, request, snapshot, moment)
    read = [reading for entry in judged for reading in readings(entry)]
    verdicts = tuple(told(v, r) for v, r in zip(plan.verdicts, read, strict=True))
    return Explanation(replace(plan, verdicts=verdicts), tuple(all_of(r) for r in read), snapshot.policy.digest)


Reading = Mapping[tuple[str, str], Seen]


def readings(entry: Entry) -> Iterable[Reading]:
    """Per row, what each rule (by rule set and name) read."""
    constants = {k: v for bound in entry.route.bound for k, v in bound.scope.constants.items()}
    rules = [r for program in entry.route.programs for r in program.rules]
    for index, row in enumerate(entry.rows):
        found: dict[tuple[str, str], Seen] = {}
        for bound in entry.route.pools:
            roots = judged_roots(entry, bound, index)
            pool_rules = bound.enter.rules if bound.enter else ()
            found |= {(r.rule.origin, r.name): seen(r, roots, bound.scope.constants) for r in pool_rules}
        roots = {**entry.shared, "endpoint": row}
        yield found | {(r.rule.origin, r.name): seen(r, roots, constants) for r in rules}


def judged_roots(entry: Entry, bound: Bound, index: int) -> dict[str, Facts]:
    """The facts that a binding's pool rules saw of one row: evidence folded in the binding's way."""
    view = entry.view
    return {"model": view.facts, "cohort": view.cohort[bound.fold], "endpoint": view.rows[bound.fold][index]}


def seen(rule: CheckedRule, roots: Mapping[str, Mapping[str, object]], params: Mapping[str, object]) -> Seen:
    """What one rule read of one row."""
    return tuple((path, value_of(path, roots, params)) for path in sorted(rule.reads))


def value_of(path: str, roots: Mapping[str, Mapping[str, object]], params: Mapping[str, object]) -> object:
    """One fact or parameter, `None` where it is absent."""
    root, _, name = path.partition(".")
    return params.get(path) if root == "params" else roots[root].get(name)


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


def all_of(reading: Reading) -> Seen:
    """Everything that any rule read, each path once."""
    return tuple(sorted({path: value for seen in reading.values() for path, value in seen}.items()))
