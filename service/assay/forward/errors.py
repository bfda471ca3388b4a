"""Error replies of the forwarder itself, in OpenRouter's envelope with its `availability`."""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from assay.forward.taxonomy import (
    CALLER_ERROR,
    FORBIDDEN,
    RATE_LIMITED,
    TOO_LARGE,
    AttemptError,
)
from assay.v1 import routing_pb2 as pb

RETRY_AFTER_SECONDS: Final = 1.0
_RETRYABLE: Final = frozenset({429, 503})
_MESSAGES: Final = {
    "no_endpoints": "the catalog has no endpoint of the requested models",
    "constraint_filtered": "the rules exclude every endpoint of the requested models",
}


class AttemptResult(NamedTuple):
    """An attempt, its error (`None` means that it answered), and the parameters not sent."""

    attempt: pb.Attempt
    provider: str
    error: AttemptError | None
    dropped: Sequence[str] = ()

    @property
    def outcome(self) -> str:
        """`answered`, or the name of the failure."""
        return self.error.kind.name if self.error else "answered"


@dataclass(eq=False)
class ErrorReply(Exception):
    """Ends a request without an answer; holds the content of the error envelope.

    `code` is the availability code; without one the envelope has no `availability`.
    `retry_after` is in seconds.
    """

    status: int
    message: str
    error_type: str
    code: str | None = None
    retry_after: float | None = None
    requested: Sequence[str] = ()
    excluded_by: Sequence[str] = ()
    results: Sequence[AttemptResult] = ()
    headers: Sequence[tuple[bytes, bytes]] = ()

    def error(self) -> dict[str, Any]:
        """Return the `error` object."""
        error: dict[str, Any]
        metadata: dict[str, Any] = {"error_type": self.error_type}
        previous = [
            {"provider": each.provider, "code": each.outcome, "status": each.error.status or None}
            for each in self.results
            if each.error
        ]
        if previous:
            metadata["previous_errors"] = previous
        error = {
            "code": self.status,
            "message": self.message,
            "type": self.error_type,
            "metadata": metadata,
        }
        if self.code is not None:
            error["availability"] = {
                "code": self.code,
                "retryable": self.status in _RETRYABLE,
                "retry_after": None if self.retry_after is None else self.retry_after_header,
                "requested_models": list(self.requested),
                "affected_providers": list(dict.fromkeys(each.provider for each in self.results)),
                "excluded_by": list(self.excluded_by),
            }
        return error

    @property
    def retry_after_header(self) -> int:
        """`Retry-After` in whole seconds, rounded up."""
        return math.ceil(self.retry_after or 0.0)

    @property
    def http_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the reply besides those of its content."""
        if self.retry_after is None:
            return list(self.headers)
        return [*self.headers, (b"retry-after", b"%d" % self.retry_after_header)]


def bug_fields(error: Exception) -> dict[str, str]:
    """Return what is logged of an unexpected exception: its message could hold a prompt."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return {"error": type(error).__name__, "at": f"{Path(frame.filename).name}:{frame.lineno}"}


def no_endpoint_error(decision: pb.DecideResponse, requested: Sequence[str]) -> ErrorReply:
    """Return the 404 for a decision without attempts, with the reasons of the exclusions."""
    code = decision.availability or "no_endpoints"
    reasons = [each.reason for each in decision.availability_reasons]
    message = _MESSAGES.get(code, "no endpoint is available")
    if reasons:
        message += f" ({', '.join(reasons)})"
    message = "; ".join((message, *(each.message for each in decision.warnings)))
    return ErrorReply(404, message, code, code=code, requested=requested, excluded_by=reasons)


def all_attempts_failed_error(
    results: Sequence[AttemptResult], requested: Sequence[str]
) -> ErrorReply:
    """Return the reply after the last attempt has failed.

    It is the provider's own 4xx if the last failure was the caller's fault, 413 if the request was
    too large for the last one, 429 if every provider was at its rate limit, and 503 otherwise.
    """
    errors = [each.error for each in results if each.error is not None]
    last = errors[-1] if errors else None
    if last is not None and last.kind in (CALLER_ERROR, FORBIDDEN):
        message = last.message or "the provider rejected the request"
        return ErrorReply(_own_status(last), message, "provider_refused", results=results)
    if last is not None and last.kind is TOO_LARGE:
        message = "the request is larger than the provider accepts"
        return ErrorReply(TOO_LARGE.status, message, "payload_too_large", results=results)
    hints = [each.retry_after for each in errors if each.retry_after is not None]
    if errors and all(each.kind is RATE_LIMITED for each in errors):
        status, code = 429, "capacity_exhausted"
        message = "every provider of the requested models is at its rate limit"
    else:
        status, code = 503, "temporarily_unavailable"
        message = "every attempt at a provider failed"
    return ErrorReply(
        status, message, code, code=code, retry_after=min(hints, default=RETRY_AFTER_SECONDS),
        requested=requested, results=results,
    )  # fmt: skip


def _own_status(error: AttemptError) -> int:
    """Return the provider's status if it is a 4xx; an override may have named another one."""
    return error.status if error.status // 100 == 4 else error.kind.status  # noqa: PLR2004 - 4xx
