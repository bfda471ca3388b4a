"""A snapshot judged again by another policy, from the facts it holds: what would have been decided then."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from assay.engine.parts import ModelView, pool_view
from assay.engine.policy import Policy
from assay.engine.pool import judge_model
from assay.engine.snapshot import Snapshot


def rejudge(snapshot: Snapshot, policy: Policy, models: Iterable[str]) -> Snapshot:
    """The snapshot with its pools as `policy` would judge them, for these of its models, without memory.

    Evidence stays folded as it was: a way of folding that the snapshot does not hold is answered by one it does.
    """
    folds = {bound.fold for bound in policy.bound.values()}
    views = {name: folded(snapshot.models[name], folds) for name in models if name in snapshot.models}
    pools = {}
    for name, view in views.items():
        for bound in policy.bound.values():
            if bound.judged:
                shared = {"model": view.facts, "cohort": view.cohort[bound.fold]}
                part = judge_model(bound, shared, view.rows[bound.fold], frozenset())
                pools[bound.name, name] = pool_view(part, view)
    return replace(snapshot, policy=policy, models={**snapshot.models, **views}, pools=pools)


def folded(view: ModelView, folds: Iterable[str]) -> ModelView:
    """A model's view that has rows for every way of folding asked for."""
    held = next(iter(view.rows))
    return replace(
        view,
        rows={**view.rows, **{fold: view.rows.get(fold, view.rows[held]) for fold in folds}},
        cohort={**view.cohort, **{fold: view.cohort.get(fold, view.cohort[held]) for fold in folds}},
    )
