"""The shipped exacto pool rules in plain Python: rows in, findings out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

from scipy.special import betaincc

from assay.engine.policy.verdict import NO_FINDINGS, RuleFinding, RuleFindings

Row = Mapping[str, Any]

ACCURACY, CONFIDENCE = 0.95, 0.95
PRIOR_GOOD, PRIOR_BAD = 20.0 * 0.95, 20.0 * (1.0 - 0.95)
MINIMUM_EFFECTIVE = 60.0
SPREAD, SCALE_FLOOR, MINIMUM_ENDPOINTS = 3.0, 0.10, 5
IGNORE_LIMIT, MINIMUM_TENANTS = 0.20, 30
Z = NormalDist().inv_cdf(CONFIDENCE)


def admit_by_hand(rows: Sequence[Row]) -> list[RuleFindings]:
    return [judge_row(row) for row in rows]


def judge_row(row: Row) -> RuleFindings:
    broken: list[RuleFinding] = []
    abstained: list[RuleFinding] = []
    calls = row.get("tools.tool_call_requests")
    if calls is None:
        unobserved(row, broken, abstained)
    else:
        accuracy(row, calls, broken)
        sample_size(row, calls, broken)
        propensity(row, broken, abstained)
    ignore_rate(row, broken, abstained)
    if not broken and not abstained:
        return NO_FINDINGS
    return RuleFindings(tuple(broken), tuple(abstained))


def unobserved(row: Row, broken: list[RuleFinding], abstained: list[RuleFinding]) -> None:
    if row.get("observed.stale"):
        reason, message = "EVIDENCE_STALE", "all observations are older than the evidence limit"
    else:
        reason, message = "EVIDENCE_ABSENT", "its tool calling has not been observed"
    broken.append(RuleFinding("tool_accuracy", reason, message, "absent", "exacto"))
    broken.append(RuleFinding("sample_size", reason, message, "absent", "exacto"))
    abstained.append(RuleFinding("propensity_in_band", "PROPENSITY", message, "absent", "exacto"))


def accuracy(row: Row, calls: float, broken: list[RuleFinding]) -> None:
    errored, design_effect = row["tools.errored_requests"], row["tools.design_effect"]
    good = (calls - errored) / design_effect + PRIOR_GOOD
    bad = errored / design_effect + PRIOR_BAD
    probability = float(betaincc(good, bad, ACCURACY))
    if probability >= CONFIDENCE:
        return
    message = (
        f"{errored:.1f} of {calls:.1f} tool-call requests errored: "
        f"P(accuracy >= {ACCURACY * 100:.1f}%) is {probability * 100:.1f}%; "
        f"the rule requires {CONFIDENCE * 100:.1f}%"
    )
    broken.append(RuleFinding("tool_accuracy", "ACCURACY", message, "false", "exacto"))


def sample_size(row: Row, calls: float, broken: list[RuleFinding]) -> None:
    design_effect = row["tools.design_effect"]
    if calls >= MINIMUM_EFFECTIVE * design_effect:
        return
    effective = calls / design_effect
    message = (
        f"{effective:.1f} effective tool-call requests; the rule requires {MINIMUM_EFFECTIVE:.0f}"
    )
    broken.append(RuleFinding("sample_size", "EVIDENCE_THIN", message, "false", "exacto"))


def propensity(row: Row, broken: list[RuleFinding], abstained: list[RuleFinding]) -> None:
    share = row["propensity.share"]
    distance = propensity_distance(row, share)
    if distance is None:
        message = "the source observed too few endpoints of the model, and no reference endpoint"
        abstained.append(
            RuleFinding("propensity_in_band", "PROPENSITY", message, "absent", "exacto")
        )
    elif not distance <= SPREAD:
        source = row["propensity.source"]
        message = (
            f"{share * 100:.1f}% of requests end in tool calls, {distance:.1f} spreads from the "
            f"other endpoints of {source}; the rule allows {SPREAD:.1f}"
        )
        broken.append(RuleFinding("propensity_in_band", "PROPENSITY", message, "false", "exacto"))


def propensity_distance(row: Row, share: float) -> float | None:
    peers = row["propensity.peers"]
    if len(peers) + 1 >= MINIMUM_ENDPOINTS:
        logits = [logit(p) for p in peers]
        centre = median(logits)
        scale = max(1.4826 * median([abs(x - centre) for x in logits]), SCALE_FLOOR)
    elif (reference := row.get("propensity.reference")) is not None:
        centre, scale = logit(reference), SCALE_FLOOR
    else:
        return None
    return abs(logit(share) - centre) / scale


def ignore_rate(row: Row, broken: list[RuleFinding], abstained: list[RuleFinding]) -> None:
    tenants: int | None = row.get("ignores.tenants")
    if tenants is None or tenants < MINIMUM_TENANTS:
        outcome = "absent" if tenants is None else "not_asked"
        message = "too few eligible tenants requested tools of the model"
        abstained.append(RuleFinding("ignore_rate", "IGNORED_BY_USERS", message, outcome, "exacto"))
        return
    ignoring = row["ignores.ignoring"]
    if not wilson_lower(ignoring, tenants) <= IGNORE_LIMIT:
        message = f"{ignoring} of {tenants} eligible tenants ignore the endpoint"
        broken.append(RuleFinding("ignore_rate", "IGNORED_BY_USERS", message, "false", "exacto"))


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def wilson_lower(successes: float, trials: float) -> float:
    share = successes / trials
    scale = 1 + Z * Z / trials
    half = Z * math.sqrt(share * (1 - share) / trials + Z * Z / (4 * trials * trials)) / scale
    return max(0.0, (share + Z * Z / (2 * trials)) / scale - half)
