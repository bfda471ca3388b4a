"""Plans and verdicts as messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from assay.engine.decide.explanation import Explanation
from assay.engine.decide.plan import Plan, PlannedAttempt
from assay.engine.policy.verdict import FactsRead, RuleFinding, Verdict
from assay.v1 import routing_pb2 as pb


def decide_response(decision_id: str, plan: Plan, policy_digest: str) -> pb.DecideResponse:
    """A decision as answered: attempts, and what was said of endpoints left out or let pass for want of evidence."""
    return pb.DecideResponse(
        decision_id=decision_id,
        snapshot_id=plan.snapshot_id,
        policy_revision=pb.PolicyRevision(number=plan.policy_revision, digest=policy_digest),
        attempts=map(attempt, plan.attempts),
        excluded=[findings(v, v.broken) for v in plan.excluded],
        abstained=[findings(v, v.abstained) for v in plan.verdicts if v.abstained],
        availability=plan.availability,
        availability_reasons=availability_reasons(plan),
    )


def explain_response(explained: Explanation) -> pb.ExplainResponse:
    """A plan as explained: every verdict, with the values that rules saw."""
    plan = explained.plan
    return pb.ExplainResponse(
        snapshot_id=plan.snapshot_id,
        policy_revision=pb.PolicyRevision(
            number=plan.policy_revision, digest=explained.policy_digest
        ),
        attempts=map(attempt, plan.attempts),
        verdicts=[verdict(v, seen) for v, seen in zip(plan.verdicts, explained.seen, strict=True)],
        availability=plan.availability,
        availability_reasons=availability_reasons(plan),
    )


def attempt(value: PlannedAttempt) -> pb.Attempt:
    """One endpoint to try."""
    return pb.Attempt(
        rank=value.rank,
        model=value.model,
        endpoint_id=value.endpoint_id,
        provider=value.provider,
        tag=value.tag,
        rule_set=value.rule_set,
    )


def findings(value: Verdict, reasons: Iterable[RuleFinding]) -> pb.Findings:
    """What some rules said of one endpoint, without the values they saw."""
    return pb.Findings(
        model=value.model,
        endpoint_id=value.endpoint_id,
        provider=value.provider,
        tag=value.tag,
        reasons=[
            pb.Finding(
                rule=r.rule,
                rule_set=r.rule_set,
                reason=r.reason,
                message=r.message,
                outcome=r.outcome,
            )
            for r in reasons
        ],
    )


def verdict(value: Verdict, seen: FactsRead) -> pb.Verdict:
    """What all rules said of one endpoint, with the values they saw."""
    return pb.Verdict(
        model=value.model,
        endpoint_id=value.endpoint_id,
        provider=value.provider,
        tag=value.tag,
        admitted=value.admitted,
        broken=map(finding, value.broken),
        abstained=map(finding, value.abstained),
        shadow=map(finding, value.shadow),
        seen=facts(seen),
    )


def finding(value: RuleFinding) -> pb.Finding:
    """What one rule said, with the values it saw."""
    return pb.Finding(
        rule=value.rule,
        rule_set=value.rule_set,
        reason=value.reason,
        message=value.message,
        outcome=value.outcome,
        seen=facts(value.seen),
    )


def facts(values: Iterable[tuple[str, object]]) -> list[pb.Fact]:
    """Named values in the order of their names; one that is missing has no value set."""
    return [
        pb.Fact(name=name, value=fact_value(value))
        for name, value in sorted(values, key=lambda pair: pair[0])
    ]


def fact_value(value: object) -> pb.FactValue | None:
    """A value as rules see it; `None` where it is missing."""
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
            return pb.FactValue(
                list_value=pb.FactList(values=[fact_value(v) or pb.FactValue() for v in value])
            )
        case _:
            raise TypeError(f"rules see no {type(value).__name__}")


def availability_reasons(plan: Plan) -> list[pb.ReasonCount]:
    """How many endpoints each reason left out, most first; empty while there are attempts."""
    if plan.attempts:
        return []
    counted = Counter(reason for v in plan.verdicts for reason in {f.reason for f in v.broken})
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return [pb.ReasonCount(reason=reason, endpoints=endpoints) for reason, endpoints in ranked]
