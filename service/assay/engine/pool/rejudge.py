"""Rejudge a snapshot by another policy, from the facts that it holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.policy import Policy
from assay.engine.policy.verdict import RuleFindings, Verdict
from assay.engine.pool.judge import judge_pools
from assay.engine.pool.tick import MEMORY_RULES, PoolEvaluation
from assay.engine.snapshot.parts import ModelView
from assay.engine.snapshot.pool_memory import MEMBER, PoolStanding, subtract_counts
from assay.engine.snapshot.snapshot import Snapshot


def rejudge(snapshot: Snapshot, policy: Policy, models: Iterable[str]) -> Snapshot:
    """Return the snapshot with the pools of these models as `policy` would judge them.

    Evidence stays folded as it was; a way of folding that the snapshot does not hold is replaced by
    one that it does. What pools remembered stays too, by the names of their bindings: members are
    judged by `stay`, and holds continue.
    """
    folds = {binding.fold for binding in policy.bindings.values()}
    known = [snapshot.models[name] for name in models if name in snapshot.models]
    views = [_with_folds(view, folds) for view in known]
    pools = judge_pools(policy, views, _StoredStandings(snapshot).evaluate)
    return replace(
        snapshot,
        policy=policy,
        models={**snapshot.models, **{view.model: view for view in views}},
        pools={(pool.binding, pool.model): pool for pool in pools},
    )


@dataclass(frozen=True, slots=True)
class _StoredStandings:
    """Evaluates pools with the standings that a snapshot holds."""

    snapshot: Snapshot

    def evaluate(self, binding: CompiledBinding, view: ModelView) -> PoolEvaluation:
        rows, shared = view.rows[binding.fold], view.shared(binding.fold)
        former = self.snapshot.pools.get((binding.name, view.model))
        if former is None or not former.has_memory:
            found = binding.pool_findings(rows, shared)
            return PoolEvaluation([(findings, None) for findings in found])
        standings = [e.standing for e in former.endpoints if e.standing is not None]
        stayed = [
            v.endpoint_id
            for v, s in zip(former.verdicts, standings, strict=True)
            if s.rules == "stay"
        ]
        read = [subtract_counts(r, s.forgotten) for r, s in zip(rows, standings, strict=True)]
        found = binding.pool_findings(read, shared, frozenset(stayed))
        judged = zip(found, former.verdicts, standings, strict=True)
        return PoolEvaluation(
            [(_with_memory(findings, verdict, s), s) for findings, verdict, s in judged],
            has_memory=True,
        )


def _with_memory(found: RuleFindings, former: Verdict, standing: PoolStanding) -> RuleFindings:
    """Return findings with those of the memory: holds and tolerated rules continue."""
    if standing.state != MEMBER:
        hold_findings = tuple(f for f in former.broken if f.rule in MEMORY_RULES)
        return replace(found, broken=(*hold_findings, *found.broken))
    tolerated = {(f.rule_set, f.rule) for f in former.abstained}
    minimum_findings = tuple(f for f in former.abstained if f.rule in MEMORY_RULES)
    still_tolerated = tuple(f for f in found.broken if (f.rule_set, f.rule) in tolerated)
    return replace(
        found,
        broken=tuple(f for f in found.broken if (f.rule_set, f.rule) not in tolerated),
        abstained=(*minimum_findings, *still_tolerated, *found.abstained),
    )


def _with_folds(view: ModelView, folds: Iterable[str]) -> ModelView:
    """Return a model's view with rows for every one of these ways of folding."""
    rows, cohort = dict(view.rows), dict(view.cohort)
    substitute = next(iter(view.rows))
    for fold in folds:
        rows.setdefault(fold, view.rows[substitute])
        cohort.setdefault(fold, view.cohort[substitute])
    return replace(view, rows=rows, cohort=cohort)
