"""Errors as gRPC statuses: one table, nearest class wins; what is not ours is masked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import grpc
import structlog

from assay.decision_log.auditor import UnknownDecision
from assay.engine import errors
from assay.rpc.view import UnknownEndpoint

REASON_KEY: Final = "assay-reason"

STATUS: Final[dict[type[errors.AssayError], grpc.StatusCode]] = {
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
class Status:
    """What a caller is told of an error: code, one sentence for people, one word for programs."""

    code: grpc.StatusCode
    message: str
    reason: str


MASKED: Final = Status(
    grpc.StatusCode.INTERNAL, "internal error; the server's log has it", "internal"
)


def status_of(error: Exception, method: str) -> Status:
    """Tell our errors as they are; log any other as a fault of ours and say no more than that."""
    if not isinstance(error, errors.AssayError):
        log.error("call failed", method=method, exc_info=error)
        return MASKED
    return Status(code_of(type(error)), str(error), reason_of(type(error)))


def code_of(kind: type[errors.AssayError]) -> grpc.StatusCode:
    """The code of the nearest class in the table."""
    return next(STATUS[base] for base in kind.__mro__ if base in STATUS)


def reason_of(kind: type[errors.AssayError]) -> str:
    """The class's name in kebab case: `unknown-model`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()
