"""Rules without statistical functions: ours against cel-python's interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import celpy
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError
from tests.bench.ledger import Ledger
from tests.bench.measure import compared
from tests.support.population import MODEL, snapshot

from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.rule_set import PolicySource
from assay.rule_files.compile import compile_source

# exacto with plain arithmetic instead of statistical functions, and with literal parameters.
RULES = {
    "tool_accuracy": (
        "(endpoint.tools.tool_call_requests - endpoint.tools.errored_requests)"
        " / endpoint.tools.design_effect + 19.0"
        " >= 0.95 * (endpoint.tools.tool_call_requests / endpoint.tools.design_effect + 20.0)"
    ),
    "sample_size": "endpoint.tools.tool_call_requests >= 60.0 * endpoint.tools.design_effect",
    "propensity_in_band": (
        "endpoint.propensity.peers"
        ".exists(p, p * 0.5 < endpoint.propensity.share && endpoint.propensity.share < p * 1.5)"
    ),
    "ignore_rate": "endpoint.ignores.ignoring * 5 <= endpoint.ignores.tenants",
}
RULE_FILE = """
apiVersion: assay/v1
kind: RuleSet
metadata: {{name: portable, description: Exacto by arithmetic alone.}}
spec:
  evidence:
    {{maxAge: 90d, halfLifeTarget: 2000.0, halfLifeMin: 12h, halfLifeMax: 168h, designEffect: 2.2}}
  pool:
    enter:
{rules}
    stay: []
  order: [{{name: price, expression: endpoint.price.blended}}]
"""
BINDINGS = """
apiVersion: assay/v1
kind: Bindings
metadata: {name: bindings, description: One rule set.}
spec:
  - {name: portable, variant: portable, ruleSet: portable}
  - {name: default, ruleSet: portable}
"""


def portable() -> CompiledBinding:
    rules = "\n".join(
        f"      - {{name: {name}, expression: '{text}', reason: ACCURACY, message: it fails}}"
        for name, text in RULES.items()
    )
    return compile_source(
        PolicySource({"portable.yaml": RULE_FILE.format(rules=rules), "bindings.yaml": BINDINGS})
    ).bindings["portable"]


def activation(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as cel-python reads it: each group of facts as a map."""
    endpoint: dict[str, Any] = {}
    for path, value in row.items():
        group, _, name = path.rpartition(".")
        place = endpoint.setdefault(group, {}) if group else endpoint
        place[name] = list(value) if isinstance(value, tuple) else value
    return {"endpoint": json_to_cel(endpoint)}


Programs = Mapping[str, Any]


def interpret(
    programs: Programs, activations: Sequence[dict[str, Any]]
) -> list[list[tuple[str, str]]]:
    return [
        [b for name, program in programs.items() if (b := outcome(name, program, a))]
        for a in activations
    ]


def outcome(name: str, program: Any, given: dict[str, Any]) -> tuple[str, str] | None:
    try:
        return None if program.evaluate(given) else (name, "false")
    except CELEvalError:
        return name, "absent"


def test_rules_run_a_thousand_times_faster_than_in_cel_python(ledger: Ledger) -> None:
    bound, view = portable(), snapshot().models[MODEL]
    rows, shared = view.rows[bound.fold], {"model": view.facts, "cohort": view.cohort[bound.fold]}
    environment = celpy.Environment(runner_class=celpy.InterpretedRunner)
    programs = {
        name: environment.program(environment.compile(text)) for name, text in RULES.items()
    }
    activations = [activation(row) for row in rows]
    ours = [
        [(b.rule, b.outcome) for b in found.broken] for found in bound.pool_findings(rows, shared)
    ]
    assert ours == interpret(programs, activations)
    assert 5 <= sum(not broken for broken in ours) <= 15
    found = compared(
        lambda: bound.pool_findings(rows, shared),
        lambda: interpret(programs, activations),
        calls=200,
        their_calls=1,
        rounds=15,
    )
    ledger.faster("portable rules on 20 endpoints, cel-python's interpreter", found, at_least=1000)
