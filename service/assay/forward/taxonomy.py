"""Every way an attempt can fail, as one table: what it is reported as, what is done next, what the caller is told.

After the first meaningful token all of them end the answer, whatever `then` says: text is never spliced.
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
    """What is done after a failed attempt."""

    ENDPOINT = "next endpoint"
    MODEL = "next model"
    STOP = "give up"


@dataclass(frozen=True, slots=True)
class FailureKind:
    """One row; `status` is what the caller gets where this failure is the last word.

    `demotes` sends the report at once, so that the decider demotes the endpoint for the next request; `again` allows a
    second try where the plan holds no other endpoint.
    """

    name: str
    result: pb.Result.ValueType
    then: NextStep
    status: int
    when: str
    demotes: bool = True
    again: bool = False


# fmt: off
CONNECT: Final = FailureKind("connect", pb.RESULT_TRANSPORT_ERROR, NextStep.ENDPOINT, 503,
    "no connection in time: name, address, port or TLS", again=True)
DROPPED: Final = FailureKind("dropped", pb.RESULT_TRANSPORT_ERROR, NextStep.ENDPOINT, 503,
    "the connection broke before the answer, or the first token of a stream", again=True)
HEADERS_LATE: Final = FailureKind("headers_late", pb.RESULT_TIMEOUT, NextStep.ENDPOINT, 503,
    "no headers of a stream in time")
FIRST_TOKEN_LATE: Final = FailureKind("first_token_late", pb.RESULT_TIMEOUT, NextStep.ENDPOINT, 503,
    "no meaningful token of a stream in time")
ANSWER_LATE: Final = FailureKind("answer_late", pb.RESULT_TIMEOUT, NextStep.ENDPOINT, 503,
    "an answer that is not streamed did not end in time")
RATE_LIMITED: Final = FailureKind("rate_limited", pb.RESULT_RATE_LIMITED, NextStep.ENDPOINT, 429,
    "429")
SERVER_ERROR: Final = FailureKind("server_error", pb.RESULT_PROVIDER_ERROR, NextStep.ENDPOINT, 503,
    "5xx")
REJECTED: Final = FailureKind("rejected", pb.RESULT_PROVIDER_ERROR, NextStep.ENDPOINT, 503,
    "401, 402, 404, any other 4xx: the provider's account or offer is at fault, not the request")
FORBIDDEN: Final = FailureKind("forbidden", pb.RESULT_CALLER_ERROR, NextStep.ENDPOINT, 403,
    "403: moderation or region", demotes=False)
CALLER_ERROR: Final = FailureKind("caller_error", pb.RESULT_CALLER_ERROR, NextStep.MODEL, 400,
    "400, 413, 414, 415, 422, 431: no other endpoint of the model would take the request either", demotes=False)
REDIRECT: Final = FailureKind("redirect", pb.RESULT_PROVIDER_ERROR, NextStep.ENDPOINT, 503,
    "3xx: never followed")
MALFORMED: Final = FailureKind("malformed", pb.RESULT_MALFORMED, NextStep.ENDPOINT, 503,
    "no HTTP, no JSON, no chunk, compressed, or over a limit of size")
EMPTY: Final = FailureKind("empty", pb.RESULT_MALFORMED, NextStep.ENDPOINT, 503,
    "2xx without any choice, a stream without any token")
ERROR_EVENT: Final = FailureKind("error_event", pb.RESULT_PROVIDER_ERROR, NextStep.ENDPOINT, 503,
    "200 with an error inside; one that has an HTTP code goes by the row of that code")
CUT: Final = FailureKind("cut", pb.RESULT_CUT, NextStep.STOP, 502,
    "a stream broke off after its first token")
SILENT: Final = FailureKind("silent", pb.RESULT_CUT, NextStep.STOP, 502,
    "a stream stood still after its first token")
CANCELLED: Final = FailureKind("cancelled", pb.RESULT_CANCELLED, NextStep.STOP, 499,
    "the caller went away or stopped reading", demotes=False)
# fmt: on

TABLE: Final = (
    CONNECT, DROPPED, HEADERS_LATE, FIRST_TOKEN_LATE, ANSWER_LATE, RATE_LIMITED, SERVER_ERROR, REJECTED, FORBIDDEN,
    CALLER_ERROR, REDIRECT, MALFORMED, EMPTY, ERROR_EVENT, CUT, SILENT, CANCELLED,
)  # fmt: skip
OK: Final = 200
BY_STATUS: Final = {
    403: FORBIDDEN,
    429: RATE_LIMITED,
    **dict.fromkeys((400, 413, 414, 415, 422, 431), CALLER_ERROR),
}
BY_HUNDRED: Final = {1: MALFORMED, 2: EMPTY, 3: REDIRECT, 4: REJECTED}
ERRORS: Final = range(400, 600)
LONGEST_RETRY_S: Final = 86_400.0


@dataclass(eq=False)
class AttemptError(Exception):
    """An attempt failed: by which row, at which status of the provider's (0: none), with which words for the caller."""

    row: FailureKind
    status: int = 0
    retry_after: float | None = None
    told: str = ""


def by_status(status: int) -> FailureKind:
    """The row of an HTTP status other than 200."""
    return BY_STATUS.get(status) or BY_HUNDRED.get(status // 100, SERVER_ERROR)


def inside(error: object) -> AttemptError:
    """What an error inside an answer stands for: its code, where that is an HTTP status."""
    told = error if isinstance(error, dict) else {}
    code, message = str(told.get("code")), told.get("message")
    words = message if isinstance(message, str) else ""
    if code.isdecimal() and int(code[:9]) in ERRORS:
        return AttemptError(by_status(int(code)), int(code), told=words)
    return AttemptError(ERROR_EVENT, OK, told=words)


def retry_after(header: str | None) -> float | None:
    """Seconds that a `Retry-After` asks for, as a number or as a date."""
    try:
        seconds = float(header or "")
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header or "").timestamp() - time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_S) if math.isfinite(seconds) else None
