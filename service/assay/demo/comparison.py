"""Compare arms by their tool-call errors: plain requests, `auto-exacto` and `:exacto`.

Requests with tools get the rule set `auto-exacto` by default. The arm `plain` shows what they would
get without it: the rule set `default`, through a binding of its tenant.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, variance
from typing import Final

from assay.demo.agents import AgentRequest, Arm
from assay.engine.evidence.statistics import count_interval, odds_interval
from assay.engine.world.catalog import Prices
from assay.server.settings import policy_dir

PLAIN: Final = Arm("plain", "plain")
AUTO: Final = Arm("auto-exacto", "auto")
EXACTO: Final = Arm(":exacto", "exacto", ":exacto")
ARMS: Final = (PLAIN, AUTO, EXACTO)
CONFIDENCE: Final = 0.95
_PLAIN_BINDING: Final = (
    "  - {name: auto-plain, tenants: [plain], ruleSet: default,\n"
    '     when: "request.tools > 0 && !request.explicit_order"}\n'
)
Interval = tuple[float, float]


def write_policy(folder: Path) -> Path:
    """Write the shipped rule files with the binding of the arm `plain`; return their directory.

    The binding comes first, because the first `when` binding that applies orders the endpoints.
    """
    policy = folder / "policy"
    shutil.copytree(policy_dir(), policy)
    bindings = policy / "bindings.yaml"
    text = bindings.read_text(encoding="utf-8")
    bindings.write_text(text.replace("\nspec:\n", f"\nspec:\n{_PLAIN_BINDING}"), encoding="utf-8")
    return policy


def write_clients(folder: Path) -> Path:
    """Write the client keys of the arms, one for each tenant."""
    keys = {arm.tenant: arm.key for arm in ARMS}
    spec = [
        {"tenant": tenant, "sha256": hashlib.sha256(key.encode()).hexdigest()}
        for tenant, key in keys.items()
    ]
    path = folder / "clients.yaml"
    path.write_text(json.dumps({"apiVersion": "assay/v1", "kind": "Clients", "spec": spec}))
    return path


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """How many of the answered requests had bad tool calls.

    Errors cluster by conversation: n requests tell as much as n / effect independent ones.
    """

    errored: int
    requests: int
    effect: float

    @property
    def rate(self) -> float:
        """Errored requests per request; NaN without any."""
        return self.errored / self.requests if self.requests else math.nan

    @property
    def interval(self) -> Interval:
        """The limits of the rate; see service/STATISTICS.md#error-rates-of-agents."""
        if not self.requests:
            return 0.0, math.inf
        low, high = count_interval(self.errored / self.effect, CONFIDENCE)
        requests = self.requests / self.effect
        return low / requests, high / requests


@dataclass(frozen=True, slots=True)
class RateRatio:
    """How many times as high one error rate is as another, with limits; any may be infinite."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """What the requests of one arm have in common."""

    requests: int
    unanswered: int
    errors: ErrorRate
    retries_per_request: float
    usd_per_request: float | None
    latency_p50_s: float


def error_rate(requests: Sequence[AgentRequest]) -> ErrorRate:
    """Count the errors of answered requests, and estimate the effect of their clustering."""
    answered = [each for each in requests if each.endpoint_id is not None]
    errored: Counter[int] = Counter({each.task.number: 0 for each in answered})
    errored.update(each.task.number for each in answered if each.errored)
    counts = list(errored.values())
    clustered = len(counts) > 1 and any(counts)
    effect = max(1.0, variance(counts) / mean(counts)) if clustered else 1.0
    return ErrorRate(sum(counts), len(answered), effect)


def rate_ratio(one: ErrorRate, other: ErrorRate) -> RateRatio:
    """Return the ratio of two rates; see service/STATISTICS.md#error-rates-of-agents."""
    if not (one.requests and other.requests):
        return RateRatio(math.nan, 0.0, math.inf)
    exposure = (other.requests / other.effect) / (one.requests / one.effect)
    counts = one.errored / one.effect, other.errored / other.effect
    low, high = odds_interval(*counts, CONFIDENCE)
    return RateRatio(_divide(one.rate, other.rate), low * exposure, high * exposure)


def _divide(over: float, under: float) -> float:
    if under:
        return over / under
    return math.inf if over else math.nan


def arm_figures(requests: Sequence[AgentRequest], prices: Mapping[str, Prices]) -> ArmFigures:
    """Summarize the requests of one arm; prices are those of the catalog, by endpoint."""
    answered = [each for each in requests if each.endpoint_id is not None]
    costs = [cost for each in answered if (cost := _cost(each, prices)) is not None]
    return ArmFigures(
        requests=len(requests),
        unanswered=len(requests) - len(answered),
        errors=error_rate(requests),
        retries_per_request=sum(max(each.attempts - 1, 0) for each in requests) / len(requests),
        usd_per_request=mean(costs) if costs else None,
        latency_p50_s=median(each.seconds for each in requests),
    )


def _cost(request: AgentRequest, prices: Mapping[str, Prices]) -> float | None:
    """Return what a request costs in USD; `None` if its endpoint states no price."""
    price = prices.get(request.endpoint_id or "", Prices())
    if price.prompt is None or price.completion is None:
        return None
    tokens = request.prompt_tokens * price.prompt + request.completion_tokens * price.completion
    return tokens / 1e6
