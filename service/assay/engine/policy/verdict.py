"""Findings of rules, and the verdict they add up to for one endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from assay.engine.canonical import canonical

POOL_REASONS: Final[Mapping[str, str]] = {
    "EVIDENCE_ABSENT": "nothing was observed; replaces the reason of a rule that lacks evidence",
    "EVIDENCE_THIN": "too little was observed",
    "EVIDENCE_NARROW": "what was observed comes from too few tenants",
    "EVIDENCE_STALE": (
        "all observations are older than `evidence.maxAge`; replaces the reason of a rule that"
        " lacks evidence"
    ),
    "ACCURACY": "the tool calls are not known to be accurate enough",
    "PROPENSITY": "the endpoint calls tools more or less often than is normal for the model",
    "USABILITY": "fewer attempts with tools end in sound calls than is normal for the model",
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
    "unsupported": "the endpoint is known not to support something that the request needs",
    "health": "the endpoint is failing at the moment",
    "policy": "any other reason; also used for all but the first if fallbacks are not allowed",
    "EVAL_ERROR": "an expression failed; rules may not use it",
}
FactsRead = tuple[tuple[str, object], ...]
"""Facts and parameters that rules read, by path."""


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """A rule that a verdict lists: it was broken, it abstained, or it only runs as a shadow.

    `outcome` is `false`, `absent`, `error` or `not_asked`; `seen` holds the facts that the rule
    read, in explanations.
    """

    rule: str
    reason: str
    message: str
    outcome: str
    rule_set: str
    seen: FactsRead = ()


@dataclass(frozen=True, slots=True)
class RuleFindings:
    """The rules that did not simply hold for one endpoint."""

    broken: tuple[RuleFinding, ...] = ()
    abstained: tuple[RuleFinding, ...] = ()
    shadow: tuple[RuleFinding, ...] = ()


NO_FINDINGS: Final = RuleFindings()


@lru_cache(maxsize=1 << 16)
def canonical_names(*names: str) -> bytes:
    """Return names as they appear inside a canonical list."""
    return canonical(names)[1:-1]


@lru_cache(maxsize=1 << 16)
def _canonical_finding(*names: str) -> bytes:
    return b"[%b]" % canonical_names(*names)


def _canonical_findings(findings: tuple[RuleFinding, ...]) -> bytes:
    if not findings:
        return b"[]"
    parts = [_canonical_finding(f.rule_set, f.rule, f.reason, f.outcome) for f in findings]
    return b"[%b]" % b",".join(parts)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings for one endpoint of one requested model; it is admitted if it broke no rule.

    `canonical` is its part of a plan's canonical bytes. It follows from the other fields and is
    made with them, since a snapshot's verdicts serve many requests.
    """

    endpoint_id: str
    model: str
    provider: str
    tag: str
    broken: tuple[RuleFinding, ...] = ()
    abstained: tuple[RuleFinding, ...] = ()
    shadow: tuple[RuleFinding, ...] = ()
    canonical: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        written = b"[%b,%b,%b,%b]" % (
            canonical_names(self.model, self.endpoint_id, self.provider),
            _canonical_findings(self.broken),
            _canonical_findings(self.abstained),
            _canonical_findings(self.shadow),
        )
        object.__setattr__(self, "canonical", written)

    @property
    def admitted(self) -> bool:
        """Whether no enforced rule was broken."""
        return not self.broken

    def with_findings(self, found: RuleFindings | Verdict) -> Verdict:
        """Return the verdict with further findings after its own."""
        return Verdict(
            self.endpoint_id,
            self.model,
            self.provider,
            self.tag,
            broken=self.broken + found.broken,
            abstained=self.abstained + found.abstained,
            shadow=self.shadow + found.shadow,
        )
