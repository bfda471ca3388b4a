"""The shipped exacto pool rules in plain Python: rows in, findings out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

from scipy.special import betaincc

from assay.engine.evidence.statistics import peer_band
from assay.engine.policy.verdict import NO_FINDINGS, RuleFinding, RuleFindings

Row = Mapping[str, Any]

ACCURACY, CONFIDENCE = 0.95, 0.95
PRIOR_GOOD, PRIOR_BAD = 20.0 * 0.93, 20.0 * (1.0 - 0.93)
MINIMUM_EFFECTIVE = 60.0
SPREAD, SCALE_FLOOR, MINIMUM_ENDPOINTS = 3.0, 0.10, 5
SHORTFALL, USABLE_SPREAD, USABLE_FLOOR, USABLE_ENDPOINTS = 0.05, 2.5, 0.05, 3
IGNORE_LIMIT, IGNORE_MARGIN, MINIMUM_TENANTS = 0.35, 0.10, 30
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
        usable(row, broken, abstained)
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
    abstained.append(RuleFinding("usable", "USABILITY", message, "absent", "exacto"))


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
    found = propensity_distance(row, share)
    if found is None:
        message = "the source observed too few endpoints of the model, and no reference endpoint"
        abstained.append(
            RuleFinding("propensity_in_band", "PROPENSITY", message, "absent", "exacto")
        )
    elif not found[0] <= found[1]:
        source = row["propensity.source"]
        message = (
            f"{share * 100:.1f}% of requests end in tool calls, {found[0]:.2f} logits from the "
            f"other endpoints of {source}; the rule allows {found[1]:.2f}"
        )
        broken.append(RuleFinding("propensity_in_band", "PROPENSITY", message, "false", "exacto"))


def propensity_distance(row: Row, share: float) -> tuple[float, float] | None:
    logits, reference = [logit(p) for p in row["propensity.peers"]], row.get("propensity.reference")
    band, error = SPREAD * SCALE_FLOOR, row["propensity.error"]
    if len(logits) + 1 >= MINIMUM_ENDPOINTS:
        band = peer_band(logits, SPREAD, math.hypot(SCALE_FLOOR, row["propensity.peers_error"]))
    elif reference is None:
        return None
    if reference is not None:
        error = math.hypot(error, row["propensity.reference_error"])
    centre = median(logits) if reference is None else logit(reference)
    return abs(logit(share) - centre), math.hypot(SPREAD * error, band)


def usable(row: Row, broken: list[RuleFinding], abstained: list[RuleFinding]) -> None:
    peers, share, source = row["usable.peers"], row["usable.share"], row["propensity.source"]
    if len(peers) + 1 < USABLE_ENDPOINTS:
        message = "the source observed too few endpoints of the model"
        abstained.append(RuleFinding("usable", "USABILITY", message, "not_asked", "exacto"))
        return
    centre = min(median(peers), row.get("usable.reference", 1.0))
    scale = math.hypot(USABLE_FLOOR, row["usable.peers_error"])
    band = math.hypot(
        USABLE_SPREAD * row["usable.error"],
        peer_band([logit(p) for p in peers], USABLE_SPREAD, scale),
    )
    if share / centre < 1.0 - SHORTFALL and logit(centre) - logit(share) > band:
        message = (
            f"{share * 100:.1f}% of attempts end in sound tool calls, against "
            f"{centre * 100:.1f}% at the other endpoints of {source}"
        )
        broken.append(RuleFinding("usable", "USABILITY", message, "false", "exacto"))


def ignore_rate(row: Row, broken: list[RuleFinding], abstained: list[RuleFinding]) -> None:
    tenants: int | None = row.get("ignores.tenants")
    if tenants is None or tenants < MINIMUM_TENANTS:
        outcome = "absent" if tenants is None else "not_asked"
        message = "too few eligible tenants requested tools of the model"
        abstained.append(RuleFinding("ignore_rate", "IGNORED_BY_USERS", message, outcome, "exacto"))
        return
    ignoring = row["ignores.ignoring"]
    limit = max(IGNORE_LIMIT, row.get("ignores.others", 0.0) + IGNORE_MARGIN)
    if not wilson_lower(ignoring, tenants) <= limit:
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
