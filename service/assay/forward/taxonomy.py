"""Every way an attempt can fail, in one table: the report, the next step, the caller's status.

Once the caller has the first token of a stream, every failure ends the answer, whatever `next_step`
says: the text of two endpoints is never joined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from time import time
from typing import Final

from assay.v1 import evidence_pb2 as pb


class NextStep(StrEnum):
    """What the forwarder does after a failed attempt."""

    ENDPOINT = "next endpoint"
    MODEL = "next model"
    STOP = "give up"


@dataclass(frozen=True, slots=True)
class FailureKind:
    """One row of the table.

    `status` is the HTTP status of the reply if this failure determines it. With `demotes`, the
    report is sent at once, so that the decider can demote the endpoint before the next request.
    With `retries_alone`, the plan's only endpoint gets a second attempt.
    """

    name: str
    result: pb.Result.ValueType
    next_step: NextStep
    status: int
    when: str
    demotes: bool = True
    retries_alone: bool = False


# fmt: off
CONNECT: Final = FailureKind("connect", pb.RESULT_TRANSPORT_ERROR, NextStep.ENDPOINT, 503,
    "no connection in time: name, address, port or TLS", retries_alone=True)
DROPPED: Final = FailureKind("dropped", pb.RESULT_TRANSPORT_ERROR, NextStep.ENDPOINT, 503,
    "the connection broke before the answer or the first token of a stream", retries_alone=True)
HEADERS_LATE: Final = FailureKind("headers_late", pb.RESULT_TIMEOUT, NextStep.ENDPOINT, 503,
    "no headers of a stream in time")
FIRST_TOKEN_LATE: Final = FailureKind("first_token_late", pb.RESULT_TIMEOUT, NextStep.ENDPOINT, 503,
    "no meaningful token of a stream in time")
ANSWER_LATE: Final = FailureKind("answer_late", pb.RESULT_TIMEOUT, NextStep.ENDPOINT, 503,
    "a JSON answer did not end in time")
RATE_LIMITED: Final = FailureKind("rate_limited", pb.RESULT_RATE_LIMITED, NextStep.ENDPOINT, 429,
    "429")
SERVER_ERROR: Final = FailureKind("server_error", pb.RESULT_PROVIDER_ERROR, NextStep.ENDPOINT, 503,
    "5xx")
REJECTED: Final = FailureKind("rejected", pb.RESULT_PROVIDER_ERROR, NextStep.ENDPOINT, 503,
    "401, 402, 404, other 4xx: the provider's account or offer is at fault, not the request")
FORBIDDEN: Final = FailureKind("forbidden", pb.RESULT_CALLER_ERROR, NextStep.ENDPOINT, 403,
    "403: moderation or region", demotes=False)
CALLER_ERROR: Final = FailureKind("caller_error", pb.RESULT_CALLER_ERROR, NextStep.MODEL, 400,
    "400, 413, 414, 415, 422, 431: every endpoint of the model would reject the request",
    demotes=False)
REDIRECT: Final = FailureKind("redirect", pb.RESULT_PROVIDER_ERROR, NextStep.ENDPOINT, 503,
    "3xx: never followed")
MALFORMED: Final = FailureKind("malformed", pb.RESULT_MALFORMED, NextStep.ENDPOINT, 503,
    "not HTTP, not JSON, not a chunk, compressed, or over a size limit")
EMPTY: Final = FailureKind("empty", pb.RESULT_MALFORMED, NextStep.ENDPOINT, 503,
    "2xx without a choice, or a stream without a token")
ERROR_EVENT: Final = FailureKind("error_event", pb.RESULT_PROVIDER_ERROR, NextStep.ENDPOINT, 503,
    "200 with an error inside; an error that has an HTTP code counts as that status")
CUT: Final = FailureKind("cut", pb.RESULT_CUT, NextStep.STOP, 502,
    "a stream broke off after its first token")
SILENT: Final = FailureKind("silent", pb.RESULT_CUT, NextStep.STOP, 502,
    "a stream stopped without ending after its first token")
CANCELLED: Final = FailureKind("cancelled", pb.RESULT_CANCELLED, NextStep.STOP, 499,
    "the caller disconnected or stopped reading", demotes=False)

TABLE: Final = (
    CONNECT, DROPPED, HEADERS_LATE, FIRST_TOKEN_LATE, ANSWER_LATE, RATE_LIMITED, SERVER_ERROR,
    REJECTED, FORBIDDEN, CALLER_ERROR, REDIRECT, MALFORMED, EMPTY, ERROR_EVENT, CUT, SILENT,
    CANCELLED,
)
# fmt: on
HTTP_OK: Final = 200
_BY_STATUS: Final = {
    403: FORBIDDEN,
    429: RATE_LIMITED,
    **dict.fromkeys((400, 413, 414, 415, 422, 431), CALLER_ERROR),
}
_BY_STATUS_CLASS: Final = {1: MALFORMED, 2: EMPTY, 3: REDIRECT, 4: REJECTED}
_ERROR_STATUSES: Final = range(400, 600)
_MAX_RETRY_AFTER_S: Final = 86_400.0


@dataclass(eq=False)
class AttemptError(Exception):
    """A failed attempt: its kind, the provider's status (0 if none) and the provider's message."""

    kind: FailureKind
    status: int = 0
    retry_after: float | None = None
    message: str = ""


def kind_of_status(status: int) -> FailureKind:
    """Return the row of an HTTP status other than 200."""
    return _BY_STATUS.get(status) or _BY_STATUS_CLASS.get(status // 100, SERVER_ERROR)


def error_in_answer(error: object) -> AttemptError:
    """Return what an error inside a 200 means, by its code if that is an HTTP status."""
    fields = error if isinstance(error, dict) else {}
    code, text = str(fields.get("code")), fields.get("message")
    message = text if isinstance(text, str) else ""
    if code.isdecimal() and int(code[:9]) in _ERROR_STATUSES:
        return AttemptError(kind_of_status(int(code)), int(code), message=message)
    return AttemptError(ERROR_EVENT, HTTP_OK, message=message)


def parse_retry_after(header: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header, which is a number or a date."""
    try:
        seconds = float(header or "")
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header or "").timestamp() - time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None
