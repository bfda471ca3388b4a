"""What the rules said of one endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

POOL_REASONS: Final = (
    "EVIDENCE_ABSENT", "EVIDENCE_THIN", "EVIDENCE_STALE", "ACCURACY", "PROPENSITY", "IGNORED_BY_USERS",
    "BENCHMARK", "HELD", "EVAL_ERROR",
)  # fmt: skip
REQUEST_REASONS: Final = (
    "geo", "data_region", "data_policy:zdr", "data_policy:training", "max_price", "context_length",
    "require_parameters", "quantization", "allowed_providers", "ignored", "only", "tools", "health", "policy",
    "EVAL_ERROR",
)  # fmt: skip


Seen = tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """A rule that a verdict lists: one it broke, one that abstained, or one that only runs as a shadow.

    `outcome` is `false`, `absent`, `error` or `not_asked`; `seen` holds the facts the rule read, where asked for.
    """

    rule: str
    reason: str
    message: str
    outcome: str
    rule_set: str
    seen: Seen = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules said of one endpoint of one requested model: admitted when it broke none."""

    endpoint_id: str
    model: str
    provider: str
    tag: str
    broken: tuple[RuleFinding, ...] = ()
    abstained: tuple[RuleFinding, ...] = ()
    shadow: tuple[RuleFinding, ...] = ()

    @property
    def admitted(self) -> bool:
        """Whether no enforced rule was broken."""
        return not self.broken
