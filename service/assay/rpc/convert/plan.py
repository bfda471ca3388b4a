"""Decisions, explanations and verdicts as messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from assay.engine.decide.explanation import Explanation
from assay.engine.decide.plan import Decision, Plan, PlannedAttempt
from assay.engine.policy.verdict import FactsRead, RuleFinding, Verdict
from assay.rpc.convert.copying import copied
from assay.v1 import routing_pb2 as pb


def decide_response(decision: Decision) -> pb.DecideResponse:
    """Convert a decision: attempts, and the findings about excluded and abstained endpoints."""
    plan = decision.plan
    return pb.DecideResponse(
        **_shared_fields(decision),
        decision_id=decision.decision_id,
        excluded=[findings(v, v.broken) for v in plan.excluded],
        abstained=[findings(v, v.abstained) for v in plan.verdicts if v.abstained],
    )


def explain_response(explained: Explanation) -> pb.ExplainResponse:
    """Convert an explanation: every verdict, with the values that rules read."""
    plan = explained.plan
    return pb.ExplainResponse(
        **_shared_fields(explained),
        verdicts=[_verdict(v, seen) for v, seen in zip(plan.verdicts, explained.seen, strict=True)],
    )


def _shared_fields(answer: Decision | Explanation) -> dict[str, Any]:
    """Return the fields that both responses have."""
    plan, policy_digest = answer.plan, answer.policy_digest
    return {
        "snapshot_id": plan.snapshot_id,
        "policy_revision": pb.PolicyRevision(number=plan.policy_revision, digest=policy_digest),
        "attempts": map(attempt, plan.attempts),
        "availability": plan.availability,
        "availability_reasons": _availability_reasons(plan),
        "warnings": [copied(each, pb.Warning()) for each in plan.warnings],
        "affinity": plan.affinity,
    }


def attempt(value: PlannedAttempt) -> pb.Attempt:
    """Convert one attempt."""
    return pb.Attempt(
        rank=value.rank,
        model=value.model,
        endpoint_id=value.endpoint_id,
        provider=value.provider,
        tag=value.tag,
        rule_set=value.rule_set,
    )


def findings(value: Verdict, reasons: Iterable[RuleFinding]) -> pb.Findings:
    """Convert some findings of one endpoint, without the values that rules read."""
    return pb.Findings(
        model=value.model,
        endpoint_id=value.endpoint_id,
        provider=value.provider,
        tag=value.tag,
        reasons=[finding(each, with_facts=False) for each in reasons],
    )


def _verdict(value: Verdict, seen: FactsRead) -> pb.Verdict:
    message = pb.Verdict(
        admitted=value.admitted,
        broken=map(finding, value.broken),
        abstained=map(finding, value.abstained),
        shadow=map(finding, value.shadow),
        seen=facts(seen),
    )
    return copied(value, message)


def finding(value: RuleFinding, *, with_facts: bool = True) -> pb.Finding:
    """Convert one finding, with the values that its rule read unless they are not wanted."""
    message = pb.Finding(
        rule=value.rule,
        rule_set=value.rule_set,
        reason=value.reason,
        message=value.message,
        outcome=value.outcome,
    )
    if with_facts:
        message.seen.extend(facts(value.seen))
    return message


def facts(values: Iterable[tuple[str, object]]) -> list[pb.Fact]:
    """Convert named values, sorted by name; a missing one has no value set."""
    return [
        pb.Fact(name=name, value=fact_value(value))
        for name, value in sorted(values, key=lambda pair: pair[0])
    ]


def fact_value(value: object) -> pb.FactValue | None:
    """Convert a value as rules read it; None if it is missing."""
    match value:
        case None:
            return None
        case bool():
            return pb.FactValue(bool_value=value)
        case int():
            return pb.FactValue(int_value=value)
        case float():
            return pb.FactValue(double_value=value)
        case str():
            return pb.FactValue(string_value=value)
        case tuple() | list():
            members = [fact_value(member) or pb.FactValue() for member in value]
            return pb.FactValue(list_value=pb.FactList(values=members))
        case _:
            raise TypeError(f"{type(value).__name__} is not a type of fact")


def _availability_reasons(plan: Plan) -> list[pb.ReasonCount]:
    """Count the endpoints that each reason excludes, most first; empty while there are attempts."""
    if plan.attempts:
        return []
    counts: Counter[str] = Counter()
    for verdict in plan.verdicts:
        counts.update({finding.reason for finding in verdict.broken})
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [pb.ReasonCount(reason=reason, endpoints=endpoints) for reason, endpoints in ranked]
