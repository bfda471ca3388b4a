"""Every way an attempt can fail, in one table: the report, the next step, the caller's status.

Once the caller has the first token of a stream, every failure ends the answer, whatever `next_step`
says: the text of two endpoints is never joined.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from time import time
from typing import Final

from assay.forward.provider_preferences import parse_decimal
from assay.forward.refusals import NO_FIELDS, ErrorFields, is_about_account, read_error_fields
from assay.v1 import evidence_pb2 as pb


class NextStep(StrEnum):
    """What the forwarder does after a failed attempt."""

    ENDPOINT = "next endpoint"
    CONFIRM = "one more endpoint, then next model"
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
    "401, 402, 404, other 4xx, and any message about keys, budgets or quotas: the account or the "
    "offer is at fault, not the request")
REFUSED: Final = FailureKind("refused", pb.RESULT_PROVIDER_ERROR, NextStep.ENDPOINT, 503,
    "415, or 400 or 422 with a body that is empty or not JSON: the endpoint does not say why",
    demotes=False)
TOO_LARGE: Final = FailureKind("too_large", pb.RESULT_CALLER_ERROR, NextStep.ENDPOINT, 413,
    "413, 414, 431: larger than this endpoint accepts", demotes=False)
FORBIDDEN: Final = FailureKind("forbidden", pb.RESULT_CALLER_ERROR, NextStep.ENDPOINT, 403,
    "403: moderation or region", demotes=False)
CALLER_ERROR: Final = FailureKind("caller_error", pb.RESULT_CALLER_ERROR, NextStep.CONFIRM, 400,
    "400 or 422 otherwise: the request is at fault once a second endpoint agrees", demotes=False)
REDIRECT: Final = FailureKind("redirect", pb.RESULT_PROVIDER_ERROR, NextStep.ENDPOINT, 503,
    "3xx: never followed")
MALFORMED: Final = FailureKind("malformed", pb.RESULT_MALFORMED, NextStep.ENDPOINT, 503,
    "not HTTP, not JSON, not a chunk, compressed, nested too deeply, or over a size limit")
EMPTY: Final = FailureKind("empty", pb.RESULT_MALFORMED, NextStep.ENDPOINT, 503,
    "2xx that shows nothing, unless a token limit or a filter ended it")
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
    REJECTED, REFUSED, TOO_LARGE, FORBIDDEN, CALLER_ERROR, REDIRECT, MALFORMED, EMPTY, ERROR_EVENT,
    CUT, SILENT, CANCELLED,
)
# fmt: on
HTTP_OK: Final = 200
_BY_STATUS: Final = {
    403: FORBIDDEN,
    415: REFUSED,
    429: RATE_LIMITED,
    **dict.fromkeys((400, 422), CALLER_ERROR),
    **dict.fromkeys((413, 414, 431), TOO_LARGE),
}
_BY_STATUS_CLASS: Final = {1: MALFORMED, 2: EMPTY, 3: REDIRECT, 4: REJECTED}
_MAX_RETRY_AFTER_S: Final = 86_400.0
_is_status: Final = re.compile("[45][0-9][0-9]").fullmatch


@dataclass(eq=False)
class AttemptError(Exception):
    """A failed attempt: its kind, the provider's status (0 if none), and what its error says.

    `message` is for the caller; it is empty if the provider's words are not.
    """

    kind: FailureKind
    status: int = 0
    retry_after: float | None = None
    message: str = ""
    fields: ErrorFields = NO_FIELDS


def kind_of_status(status: int) -> FailureKind:
    """Return the row of an HTTP status other than 200, as far as it alone decides."""
    return _BY_STATUS.get(status) or _BY_STATUS_CLASS.get(status // 100, SERVER_ERROR)


def status_error(
    status: int, fields: ErrorFields | None, request_body: bytes = b""
) -> AttemptError:
    """Return what a status means together with its body; `None` is an empty body or not JSON."""
    kind = kind_of_status(status)
    if fields is None:
        return AttemptError(REFUSED if kind is CALLER_ERROR else kind, status)
    if kind in (CALLER_ERROR, FORBIDDEN) and is_about_account(fields.text, request_body):
        kind = REJECTED
    return AttemptError(kind, status, message=_message_for_callers(fields), fields=fields)


def error_in_answer(error: object) -> AttemptError:
    """Return what an error inside a 200 means, by its code if that is an HTTP status."""
    fields = read_error_fields(error)
    code = next((int(each) for each in fields.kinds if _is_status(each)), None)
    if code is not None:
        return status_error(code, fields)
    message = _message_for_callers(fields)
    return AttemptError(ERROR_EVENT, HTTP_OK, message=message, fields=fields)


def _message_for_callers(fields: ErrorFields) -> str:
    return "" if is_about_account(fields.text) else fields.message


def parse_retry_after(header: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header, which is a number or a date."""
    text = (header or "").strip()
    seconds = parse_decimal(text)
    if seconds is None:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None
