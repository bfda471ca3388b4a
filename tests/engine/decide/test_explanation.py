"""`explain` returns the same plan as `plan`, with every value that the rules read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.pool_timelines import BINDING, run_ticks
from tests.support.worlds import (
    AS_OF,
    MODEL,
    OTHER,
    endpoint,
    judge_world,
    make_moment,
    make_observation,
    make_request,
    mixed_snapshot,
    policy,
    shipped_policy,
    world,
)

from assay.engine.decide.explanation import Explanation, explain
from assay.engine.decide.plan import plan
from assay.engine.policy.verdict import RuleFinding
from assay.engine.snapshot.pool_memory import DecayedCounts, PoolStanding
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.request import MaxPrice, Request

REQUESTS = [
    pytest.param(make_request(), id="plain"),
    pytest.param(
        make_request(f"{MODEL}:exacto", OTHER, tools=2, partition="none"),
        id="exacto and another model",
    ),
    pytest.param(make_request(f"{MODEL}:exacto", allow_fallbacks=False), id="without fallbacks"),
    pytest.param(make_request(f"{MODEL}:nitro", only=("unlisted",)), id="no endpoint left"),
]


def explained(request: Request) -> Explanation:
    return explain(request, mixed_snapshot(), make_moment())


def finding(explanation: Explanation, tag: str, rule: str) -> RuleFinding:
    verdict = next(v for v in explanation.plan.verdicts if v.tag == tag)
    return next(f for f in (*verdict.broken, *verdict.abstained) if f.rule == rule)


@pytest.mark.parametrize("request_", REQUESTS)
def test_explaining_returns_the_same_plan(request_: Request) -> None:
    decided = plan(request_, mixed_snapshot(), make_moment())
    explanation = explained(request_)
    assert explanation.plan.canonical() == decided.canonical()
    assert explanation.plan.attempts == decided.attempts
    assert len(explanation.seen) == len(decided.verdicts)
    assert explanation.policy_digest == shipped_policy().digest
    assert all(f.seen == () for v in decided.verdicts for f in (*v.broken, *v.abstained, *v.shadow))


def test_a_broken_rule_reports_the_values_that_it_read() -> None:
    request = make_request(f"{MODEL}:exacto", max_price=MaxPrice(prompt=0.15))
    explanation = explained(request)
    assert finding(explanation, "weak2/fp8", "max_price_prompt").seen == (
        ("endpoint.price.prompt", 0.2),
        ("request.provider.max_price.prompt", 0.15),
    )
    accuracy = dict(finding(explanation, "weak1", "tool_accuracy").seen)
    assert accuracy["params.accuracy_enter"] == 0.95
    assert accuracy["endpoint.tools.design_effect"] == 2.2
    errored = accuracy["endpoint.tools.errored_requests"]
    assert 0 < errored <= 400  # type: ignore[operator] # a count


def test_an_absent_fact_is_shown_as_absent() -> None:
    accuracy = dict(
        finding(explained(make_request(f"{MODEL}:exacto")), "unseen", "tool_accuracy").seen
    )
    assert accuracy["endpoint.tools.tool_call_requests"] is None


def test_an_abstaining_rule_reports_the_missing_facts() -> None:
    abstained = dict(
        finding(explained(make_request(f"{OTHER}:exacto")), "good1", "propensity_in_band").seen
    )
    assert abstained["endpoint.propensity.peers"] == ()
    assert abstained["endpoint.propensity.reference"] is None


def test_members_report_the_values_that_their_rules_read() -> None:
    explanation = explained(make_request(f"{MODEL}:exacto"))
    (seen,) = (
        dict(seen)
        for verdict, seen in zip(explanation.plan.verdicts, explanation.seen, strict=True)
        if verdict.tag == "good2"
    )
    assert seen["endpoint.propensity.share"] == pytest.approx(2000.5 / 3001)
    assert seen["params.confidence"] == 0.95
    assert list(seen) == sorted(seen)


def test_with_memory_members_report_stay_rules_and_others_enter_rules() -> None:
    first, second, third = run_ticks({"a": "bgg", "b": "gmm", "c": "gbb"})
    assert limits_read(first.snapshot) == {"a": {"high"}, "b": {"high"}, "c": {"high"}}
    assert limits_read(second.snapshot) == {"a": {"high"}, "b": {"low"}, "c": {"low"}}
    assert limits_read(third.snapshot) == {"a": {"low"}, "b": {"low"}, "c": {"high"}}


def limits_read(snapshot: Snapshot) -> dict[str, set[str]]:
    explanation = explain(make_request(f"{MODEL}:{BINDING}"), snapshot, make_moment())
    explanations = zip(explanation.plan.verdicts, explanation.seen, strict=True)
    return {
        verdict.tag: {path.removeprefix("params.") for path, _ in seen} & {"high", "low"}
        for verdict, seen in explanations
    }


def test_rules_do_not_read_forgotten_evidence() -> None:
    pool = mixed_snapshot().pools["exacto", MODEL]
    standing = PoolStanding("probation", AS_OF, "enter", forgotten=DecayedCounts(calls=1000.0))
    reduced = replace(
        pool,
        endpoints=tuple(replace(endpoint, standing=standing) for endpoint in pool.endpoints),
    )
    explanations = explain(
        make_request(f"{MODEL}:exacto"),
        replace(mixed_snapshot(), pools={**mixed_snapshot().pools, ("exacto", MODEL): reduced}),
        make_moment(),
    )
    whole, rest = (
        dict(finding(e, "weak1", "tool_accuracy").seen)
        for e in (explained(make_request(f"{MODEL}:exacto")), explanations)
    )
    counts = [each["endpoint.tools.tool_call_requests"] for each in (whole, rest)]
    assert counts[1] == counts[0] - 1000.0  # type: ignore[operator] # a count


def test_pool_rules_report_the_evidence_of_their_own_binding() -> None:
    strict = """
    evidence: {maxAge: 1h}
    pool:
      enter:
        - name: fresh
          expression: endpoint.tools.tool_call_requests > 0.0
          reason: EVIDENCE_THIN
    """
    quick = "order: [{name: price, expression: endpoint.price.prompt}]"
    bindings = (
        "- {name: strict, variant: strict, ruleSet: strict}\n"
        "- {name: quick, variant: quick, ruleSet: quick}"
    )
    of = world(
        endpoint("a"),
        observations=[
            make_observation(
                "a",
                age=2 * (make_observation("a").observed_to - make_observation("a").observed_from),
            )
        ],
    )
    snapshot = judge_world(of, policy(bindings, strict=strict, quick=quick))
    (verdict,) = explain(
        make_request(f"{MODEL}:strict:quick"), snapshot, make_moment()
    ).plan.verdicts
    (broken,) = verdict.broken
    assert broken.reason == "EVIDENCE_STALE"
    assert broken.seen == (("endpoint.tools.tool_call_requests", None),)
