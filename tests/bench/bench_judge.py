"""Judging twenty endpoints under the shipped exacto, against the same rules in plain Python."""

from __future__ import annotations

from tests.bench.exacto_by_hand import admit_by_hand
from tests.bench.ledger import Ledger
from tests.bench.measure import compared, measured
from tests.support.population import AS_OF, MODEL, policy, snapshot, world

from assay.engine.pool.judge import judge


def test_judging_takes_at_most_twice_as_long_as_by_hand(ledger: Ledger) -> None:
    bound, view = policy().bindings["exacto"], snapshot().models[MODEL]
    rows, shared = view.rows[bound.fold], {"model": view.facts, "cohort": view.cohort[bound.fold]}
    findings = bound.pool_findings(rows, shared)
    assert findings == admit_by_hand(rows)
    assert sum(not found.broken for found in findings) == 10
    found = compared(
        lambda: bound.pool_findings(rows, shared), lambda: admit_by_hand(rows), calls=20
    )
    ledger.slower("exacto rules on 20 endpoints, facts to verdicts", found, at_most=2.0)


def test_judging_a_model_under_all_bindings(ledger: Ledger) -> None:
    assert judge(world(), policy(), AS_OF).snapshot.snapshot_id == snapshot().snapshot_id
    ledger.took(
        "judge() of one model: all bindings, evidence to snapshot",
        measured(lambda: judge(world(), policy(), AS_OF), calls=3, rounds=15),
    )
