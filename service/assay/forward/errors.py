"""What callers are told that no provider said: OpenRouter's error envelope, its availability, the metadata block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from assay.forward.taxonomy import CALLER_ERROR, FORBIDDEN, RATE_LIMITED, AttemptError
from assay.v1 import routing_pb2 as pb

RETRYABLE: Final = frozenset({429, 503})
RETRY_AFTER_SECONDS: Final = 1.0
MESSAGES: Final = {
    "no_endpoints": "no endpoint of the requested models is known",
    "constraint_filtered": "no endpoint of the requested models is left by the rules",
}


class AttemptResult(NamedTuple):
    """An attempt and how it failed; `None`: it answered."""

    attempt: pb.Attempt
    provider: str
    failed: AttemptError | None


@dataclass(eq=False)
class ErrorReply(Exception):
    """A request ends without an answer: everything that its error envelope says; `retry_after` in seconds."""

    status: int
    message: str
    error_type: str
    code: str | None = None
    retry_after: float | None = None
    requested: Sequence[str] = ()
    excluded_by: Sequence[str] = ()
    tried: Sequence[AttemptResult] = ()

    def error(self) -> dict[str, Any]:
        """The `error` object."""
        error: dict[str, Any] = {
            "code": self.status,
            "message": self.message,
            "metadata": self.metadata(),
        }
        if self.code is not None:
            error["availability"] = {
                "code": self.code,
                "retryable": self.status in RETRYABLE,
                "retry_after": None if self.retry_after is None else self.whole_seconds,
                "requested_models": list(self.requested),
                "affected_providers": list(dict.fromkeys(each.provider for each in self.tried)),
                "excluded_by": list(self.excluded_by),
            }
        return error

    def metadata(self) -> dict[str, Any]:
        """What is said besides, as OpenRouter says it."""
        failures = [(each.provider, each.failed) for each in self.tried if each.failed is not None]
        previous = [
            {"provider": name, "code": f.row.name, "status": f.status or None}
            for name, f in failures
        ]
        return {
            "error_type": self.error_type,
            **({"previous_errors": previous} if previous else {}),
        }

    @property
    def whole_seconds(self) -> int:
        """`Retry-After`, in whole seconds and rounded up."""
        return math.ceil(self.retry_after or 0.0)


def no_endpoint_error(decision: pb.DecideResponse, requested: Sequence[str]) -> ErrorReply:
    """A decision without attempts: 404, with what left each endpoint out."""
    code = decision.availability or "no_endpoints"
    reasons = [each.reason for each in decision.availability_reasons]
    message = MESSAGES.get(code, "no endpoint is available") + (
        f" ({', '.join(reasons)})" if reasons else ""
    )
    return ErrorReply(404, message, code, code=code, requested=requested, excluded_by=reasons)


def all_attempts_failed_error(
    tried: Sequence[AttemptResult], requested: Sequence[str]
) -> ErrorReply:
    """Every attempt failed: the caller's own fault as a provider told it, 429 if all were limited, else 503."""
    failures = [each.failed for each in tried if each.failed is not None]
    last = failures[-1] if failures else None
    if last is not None and last.row in (CALLER_ERROR, FORBIDDEN):
        message = last.told or "the provider refused the request"
        return ErrorReply(last.status, message, "provider_refused", tried=tried)
    hints = [each.retry_after for each in failures if each.retry_after is not None]
    wait = min(hints, default=RETRY_AFTER_SECONDS)
    if failures and all(each.row is RATE_LIMITED for each in failures):
        message, kind = (
            "every provider of the requested models is at its rate limit",
            "capacity_exhausted",
        )
        return ErrorReply(
            429, message, kind, code=kind, retry_after=wait, requested=requested, tried=tried
        )
    message, kind = "every attempt at a provider failed", "temporarily_unavailable"
    return ErrorReply(
        503, message, kind, code=kind, retry_after=wait, requested=requested, tried=tried
    )


def metadata_block(
    decision: pb.DecideResponse, requested: str, tried: Sequence[AttemptResult]
) -> dict[str, Any]:
    """`openrouter_metadata`: who was tried and how it went, who was admitted, who was left out and why."""
    served = {
        each.attempt.endpoint_id: place
        for place, each in enumerate(tried, 1)
        if each.failed is None
    }
    available = [
        {**named(each), "selected": each.endpoint_id in served} for each in decision.attempts
    ]
    excluded = [
        {**named(each), "reasons": list(dict.fromkeys(r.reason for r in each.reasons))}
        for each in decision.excluded
    ]
    return {
        "requested": requested,
        "strategy": "fallback" if len(tried) > 1 else "direct",
        "decision_id": decision.decision_id,
        "region": None,
        "is_byok": False,
        "attempt": next(iter(served.values()), 0),
        "summary": ", ".join(
            f"{each.provider}: {each.failed.row.name if each.failed else 'answered'}"
            for each in tried
        ),
        "endpoints": {
            "total": len(available) + len(excluded),
            "available": available,
            "excluded": excluded,
        },
        "attempts": [told(each) for each in tried],
    }


def named(value: pb.Attempt | pb.Findings) -> dict[str, Any]:
    """An endpoint by its names."""
    return {"provider": value.provider, "model": value.model, "endpoint_id": value.endpoint_id}


def told(each: AttemptResult) -> dict[str, Any]:
    """One attempt."""
    failed = each.failed
    outcome = (
        {"status": 200} if failed is None else {"status": failed.status, "failure": failed.row.name}
    )
    return {**named(each.attempt), **outcome}


def envelope(refused: ErrorReply, block: dict[str, Any] | None = None) -> bytes:
    """The body of an answer that is an error."""
    return orjson.dumps(
        {"error": refused.error(), **({"openrouter_metadata": block} if block else {})}
    )
