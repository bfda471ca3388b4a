"""What the rules said of one endpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from assay.engine.canonical import canonical

POOL_REASONS: Final = (
    "EVIDENCE_ABSENT", "EVIDENCE_THIN", "EVIDENCE_STALE", "ACCURACY", "PROPENSITY", "IGNORED_BY_USERS",
    "BENCHMARK", "HELD", "HELD_BY_MINIMUM", "EVAL_ERROR",
)  # fmt: skip
REQUEST_REASONS: Final = (
    "geo", "data_region", "data_policy:zdr", "data_policy:training", "max_price", "context_length",
    "require_parameters", "quantization", "allowed_providers", "ignored", "only", "tools", "health", "policy",
    "EVAL_ERROR",
)  # fmt: skip


@lru_cache(maxsize=1 << 16)
def listed_names(*names: str) -> bytes:
    """Names as they stand in a canonical list; kept, since the same few occur in every plan."""
    return canonical(names)[1:-1]


def spelled_findings(findings: tuple[RuleFinding, ...]) -> bytes:
    """Findings as they stand in a plan's canonical bytes."""
    if not findings:
        return b"[]"
    return b"[%b]" % b",".join(
        [spelled_finding(f.rule_set, f.rule, f.reason, f.outcome) for f in findings]
    )


@lru_cache(maxsize=1 << 16)
def spelled_finding(*names: str) -> bytes:
    """One finding as it stands there."""
    return b"[%b]" % listed_names(*names)


FactsRead = tuple[tuple[str, object], ...]


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
    seen: FactsRead = ()


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
    spelling: bytes = field(default=b"", init=False, repr=False, compare=False)

    def spelled(self) -> bytes:
        """Its part of a plan's canonical bytes; kept in `spelling`, since the same verdict serves many requests."""
        spelling = b"[%b,%b,%b,%b]" % (
            listed_names(self.model, self.endpoint_id, self.provider),
            spelled_findings(self.broken),
            spelled_findings(self.abstained),
            spelled_findings(self.shadow),
        )
        object.__setattr__(
            self, "spelling", spelling
        )  # INVARIANT: derived from the other fields alone
        return spelling

    @property
    def kinds(self) -> tuple[tuple[RuleFinding, ...], ...]:
        """Broken, abstained and shadow findings."""
        return (self.broken, self.abstained, self.shadow)

    @property
    def admitted(self) -> bool:
        """Whether no enforced rule was broken."""
        return not self.broken
