"""Errors as gRPC statuses: one table, the nearest class wins; errors not ours are masked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import grpc
import structlog

from assay.decision_log.auditor import UnknownDecision
from assay.engine import errors
from assay.rpc.catalog_view import UnknownEndpoint

REASON_KEY: Final = "assay-reason"

STATUS_CODES: Final[dict[type[errors.AssayError], grpc.StatusCode]] = {
    errors.AssayError: grpc.StatusCode.INTERNAL,
    errors.CallerError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidField: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownModel: grpc.StatusCode.NOT_FOUND,
    UnknownEndpoint: grpc.StatusCode.NOT_FOUND,
    UnknownDecision: grpc.StatusCode.NOT_FOUND,
    errors.UnknownVariant: grpc.StatusCode.INVALID_ARGUMENT,
    errors.PolicyBehind: grpc.StatusCode.FAILED_PRECONDITION,
    errors.TooManyStreams: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.AuthorError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.OperatorError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SnapshotUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.StoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DecisionNotLogged: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.EvidenceNotKept: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.BadData: grpc.StatusCode.FAILED_PRECONDITION,
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """What a caller sees of an error: a code, one sentence for people, one word for programs."""

    code: grpc.StatusCode
    message: str
    reason: str


MASKED: Final = RpcStatus(
    grpc.StatusCode.INTERNAL, "internal error; the server's log has it", "internal"
)


def status_of(error: Exception, method: str) -> RpcStatus:
    """Return the status of an error; log an error that is not ours and mask its message."""
    if not isinstance(error, errors.AssayError):
        log.error("call failed", method=method, exc_info=error)
        return MASKED
    return RpcStatus(code_of(type(error)), str(error), reason_of(type(error)))


def code_of(kind: type[errors.AssayError]) -> grpc.StatusCode:
    """Return the code of the nearest class in the table."""
    return next(STATUS_CODES[base] for base in kind.__mro__ if base in STATUS_CODES)


def reason_of(kind: type[errors.AssayError]) -> str:
    """Return the class's name in kebab case: `unknown-model`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()
