"""What the rules said of one endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from assay.engine.canonical import canonical

POOL_REASONS: Final[Mapping[str, str]] = {
    "EVIDENCE_ABSENT": "nothing was observed; replaces the reason of a rule that lacks evidence",
    "EVIDENCE_THIN": "too little was observed",
    "EVIDENCE_STALE": (
        "all observations are older than `evidence.maxAge`; replaces the reason of a rule that"
        " lacks evidence"
    ),
    "ACCURACY": "the tool calls are not known to be accurate enough",
    "PROPENSITY": "the endpoint calls tools more or less often than is normal for the model",
    "IGNORED_BY_USERS": "too many tenants ignore the endpoint",
    "BENCHMARK": "the score in a benchmark is too low",
    "HELD": "the endpoint was evicted and may not enter yet",
    "HELD_BY_MINIMUM": (
        "`pool.minimum` keeps a member that would be evicted; listed as abstaining, rules may not"
        " use it"
    ),
    "EVAL_ERROR": "an expression failed; rules may not use it",
}
REQUEST_REASONS: Final[Mapping[str, str]] = {
    "geo": "the endpoint may not serve the caller's country",
    "data_region": "the data would leave the region",
    "data_policy:zdr": "the endpoint is not known to retain no data",
    "data_policy:training": "the endpoint is not known to collect no data",
    "max_price": "a price is above the limit or unknown",
    "context_length": "the prompt or the completion is longer than the endpoint accepts",
    "require_parameters": "the endpoint does not support a parameter",
    "quantization": "the request does not ask for the endpoint's quantization",
    "allowed_providers": "the operator does not allow the endpoint to the tenant",
    "ignored": "the request, the tenant or the operator ignores the endpoint",
    "only": "`only` does not name the endpoint, or `order` does not and fallbacks are not allowed",
    "tools": "the endpoint does not support tools",
    "health": "the endpoint is failing at the moment",
    "policy": "any other reason; also used for all but the first if fallbacks are not allowed",
    "EVAL_ERROR": "an expression failed; rules may not use it",
}


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
