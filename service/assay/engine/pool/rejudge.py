"""A snapshot judged again by another policy, from the facts it holds: what would have been decided then."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.evaluation import RuleFindings
from assay.engine.policy.policy import Policy
from assay.engine.policy.verdict import Verdict
from assay.engine.pool.judge import admit, judge_model, judged_keys
from assay.engine.pool.tick import REMEMBERED
from assay.engine.snapshot.parts import ModelView, Part, PoolView, read_pool, write_pool
from assay.engine.snapshot.pool_memory import MEMBER, PoolStanding, subtract_counts
from assay.engine.snapshot.snapshot import Snapshot


def rejudge(snapshot: Snapshot, policy: Policy, models: Iterable[str]) -> Snapshot:
    """The snapshot with its pools as `policy` would judge them, for these of its models.

    Evidence stays folded as it was: a way of folding that the snapshot does not hold is answered by one it does. What
    pools remembered stays too, by the names of their bindings: members are judged by `stay`, and who was held is held.
    """
    folds = {bound.fold for bound in policy.bound.values()}
    views = {
        name: folded(snapshot.models[name], folds) for name in models if name in snapshot.models
    }
    pools = {}
    for name, view in views.items():
        for bound in policy.bound.values():
            if bound.judged:
                pools[bound.name, name] = read_pool(
                    again(bound, view, snapshot.pools.get((bound.name, name))), view
                )
    return replace(snapshot, policy=policy, models={**snapshot.models, **views}, pools=pools)


def again(bound: CompiledBinding, view: ModelView, former: PoolView | None) -> Part:
    """A pool judged once more."""
    rows, shared = view.rows[bound.fold], {"model": view.facts, "cohort": view.cohort[bound.fold]}
    if bound.enter is None or former is None or not former.standings:
        return judge_model(bound, shared, rows, frozenset())
    standings = former.standings
    stayed = frozenset(n for n, s in zip(view.ids, standings, strict=True) if s.rules == "stay")
    read = [subtract_counts(row, s.forgotten) for row, s in zip(rows, standings, strict=True)]
    said = zip(admit(bound, read, shared, stayed), former.verdicts, standings, strict=True)
    return write_pool(
        bound.name,
        view.model,
        [held(*one) for one in said],
        judged_keys(bound, rows, shared),
        standings,
    )


def held(found: RuleFindings, former: Verdict, standing: PoolStanding) -> RuleFindings:
    """Findings beside what the memory said: a hold goes on, and what a member was not evicted for is borne again."""
    if standing.state != MEMBER:
        return replace(
            found, broken=(*(f for f in former.broken if f.rule in REMEMBERED), *found.broken)
        )
    borne = {(f.rule_set, f.rule) for f in former.abstained}
    return replace(
        found,
        broken=tuple(f for f in found.broken if (f.rule_set, f.rule) not in borne),
        abstained=(
            *(f for f in former.abstained if f.rule in REMEMBERED),
            *(f for f in found.broken if (f.rule_set, f.rule) in borne),
            *found.abstained,
        ),
    )


def folded(view: ModelView, folds: Iterable[str]) -> ModelView:
    """A model's view that has rows for every way of folding asked for."""
    held = next(iter(view.rows))
    return replace(
        view,
        rows={**view.rows, **{fold: view.rows.get(fold, view.rows[held]) for fold in folds}},
        cohort={
            **view.cohort,
            **{fold: view.cohort.get(fold, view.cohort[held]) for fold in folds},
        },
    )
