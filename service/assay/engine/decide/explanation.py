"""Explanation: a plan with the facts that its rules read, for each endpoint and each finding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from assay.engine.decide.plan import (
    Moment,
    Plan,
    RequestedModel,
    judge_models,
    order_models,
)
from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.evaluation import Facts, facts_read
from assay.engine.policy.verdict import FactsRead, RuleFinding, Verdict
from assay.engine.snapshot.parts import JudgedEndpoint, ModelView
from assay.engine.snapshot.pool_memory import subtract_counts
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.request import Request

_FactsByRule = Mapping[tuple[str, str], FactsRead]
"""What each rule read of one endpoint, by rule set and name."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A plan whose findings hold what they saw; `seen` holds, per verdict, all that its rules read.

    Facts and parameters are named by their paths; the value is `None` if a fact was missing.
    """

    plan: Plan
    seen: tuple[FactsRead, ...]
    policy_digest: str


def explain(request: Request, snapshot: Snapshot, moment: Moment) -> Explanation:
    """Plan as `plan` does, and report what every rule read."""
    models = judge_models(request, snapshot, moment)
    plan = order_models(models, request, snapshot, moment)
    read = [facts for model in models for facts in _facts_by_rule(model, snapshot)]
    verdicts = [_with_facts(v, facts) for v, facts in zip(plan.verdicts, read, strict=True)]
    seen = tuple(_all_facts(facts) for facts in read)
    return Explanation(replace(plan, verdicts=tuple(verdicts)), seen, snapshot.policy.digest)


def _facts_by_rule(model: RequestedModel, snapshot: Snapshot) -> Iterable[_FactsByRule]:
    """Yield per endpoint what each rule read."""
    constants: dict[str, object] = {}
    for binding in model.route.bindings:
        constants |= binding.scope.constants
    rules = [rule for program in model.route.programs for rule in program.rules]
    for index, row in enumerate(model.rows):
        found: dict[tuple[str, str], FactsRead] = {}
        for binding in model.route.pools:
            judged = snapshot.pools[binding.name, model.view.model].endpoints[index]
            stored = model.view.rows[binding.fold][index]
            found |= _pool_facts(binding, model.view, judged, stored)
        roots = {**model.shared, "endpoint": row}
        for rule in rules:
            found[rule.rule.origin, rule.name] = facts_read(rule, roots, constants)
        yield found


def _pool_facts(
    binding: CompiledBinding, view: ModelView, judged: JudgedEndpoint, row: Facts
) -> _FactsByRule:
    """Return what a binding's pool rules read: `stay` for a former member, otherwise `enter`."""
    program = binding.enter
    if judged.standing:
        row = subtract_counts(row, judged.standing.forgotten)
        program = binding.stay if judged.standing.rules == "stay" else binding.enter
    roots = {**view.shared(binding.fold), "endpoint": row}
    rules, constants = program.rules if program else (), binding.scope.constants
    return {(r.rule.origin, r.name): facts_read(r, roots, constants) for r in rules}


def _with_facts(verdict: Verdict, read: _FactsByRule) -> Verdict:
    """Return a verdict whose findings hold what they saw."""

    def with_seen(findings: tuple[RuleFinding, ...]) -> tuple[RuleFinding, ...]:
        return tuple(replace(f, seen=read.get((f.rule_set, f.rule), ())) for f in findings)

    return replace(
        verdict,
        broken=with_seen(verdict.broken),
        abstained=with_seen(verdict.abstained),
        shadow=with_seen(verdict.shadow),
    )


def _all_facts(read: _FactsByRule) -> FactsRead:
    """Return everything that any rule read, each path once, sorted."""
    found: dict[str, object] = {}
    for facts in read.values():
        found |= facts
    return tuple(sorted(found.items()))
