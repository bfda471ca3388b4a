"""Errors as gRPC statuses: one table, and the interceptor that applies it to every call.

The nearest class in the table wins; errors that are not ours are logged and masked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Final, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from assay.decision_log.auditor import UnknownDecision
from assay.engine import errors

REASON_KEY: Final = "assay-reason"
RETRY_KEY: Final = "grpc-retry-pushback-ms"  # gRPC's own name: its clients heed it, too
MAX_STREAMS: Final = 32
QUERY_THREADS: Final = 4
_RETRY_MS: Final = 1000
_RETRIED: Final = "assay.v1.EvidenceService/"
_TRANSIENT: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_OURS: Final = "/assay."
_QUERIES: Final = (
    "assay.v1.AuditService/",
    "assay.v1.EvidenceService/SetPreference",
    "assay.v1.EvidenceService/ListPreferences",
)
"""Methods that wait for the database."""

_Parse = Callable[[bytes], Message]

STATUS_CODES: Final[dict[type[errors.AssayError], grpc.StatusCode]] = {
    errors.AssayError: grpc.StatusCode.INTERNAL,
    errors.CallerError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidField: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownModel: grpc.StatusCode.NOT_FOUND,
    errors.UnknownEndpoint: grpc.StatusCode.NOT_FOUND,
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
    """What a caller sees of an error: a code, one sentence for people, one word for programs.

    `retry_ms` is when to send the same request again, in milliseconds.
    """

    code: grpc.StatusCode
    message: str
    reason: str
    retry_ms: int | None = None


MASKED: Final = RpcStatus(
    grpc.StatusCode.INTERNAL, "internal error; the server's log has it", "internal"
)


def status_of(error: Exception, method: str) -> RpcStatus:
    """Return the status of an error; log an error that is not ours and mask its message."""
    if not isinstance(error, errors.AssayError):
        log.error("call failed", method=method, exc_info=error)
        return MASKED
    code = code_of(type(error))
    retry_ms = _RETRY_MS if method.startswith(_RETRIED) and code in _TRANSIENT else None
    return RpcStatus(code, str(error), reason_of(type(error)), retry_ms)


def code_of(kind: type[errors.AssayError]) -> grpc.StatusCode:
    """Return the code of the nearest class in the table."""
    return next(STATUS_CODES[base] for base in kind.__mro__ if base in STATUS_CODES)


def reason_of(kind: type[errors.AssayError]) -> str:
    """Return the class's name in kebab case: `unknown-model`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


class MalformedMessage(errors.CallerError):
    """The bytes of a request do not parse."""

    def __init__(self, size: int) -> None:
        super().__init__(f"request: {size} bytes are not a valid message of this method")


class ErrorInterceptor(grpc.ServerInterceptor):
    """Parses requests itself, so that malformed bytes are reported as the caller's error.

    Streams run on threads of their own: an open stream occupies a thread, and unary calls must not
    wait for it. So do calls that wait for the database: decisions must not wait for them.
    """

    def __init__(self) -> None:
        self._open: set[grpc.ServicerContext] = set()
        self._opening = Lock()
        # A few more threads than streams, to answer callers that exceed the limit.
        self._threads = ThreadPoolExecutor(MAX_STREAMS + 4, thread_name_prefix="assay-stream")
        self._queries = ThreadPoolExecutor(QUERY_THREADS, thread_name_prefix="assay-query")

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the methods of our own services, not those of health and reflection."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not (method.startswith(_OURS) and handler.request_deserializer):
            return handler
        parse = partial(_parse, handler.request_deserializer)
        name, serialize = method.removeprefix("/"), handler.response_serializer
        if handler.unary_unary:
            unary = _guard_call(handler.unary_unary, parse, name)
            if name.startswith(_QUERIES):
                pool = self._queries
                unary.experimental_thread_pool = pool  # type: ignore[attr-defined] # for grpcio
            return grpc.unary_unary_rpc_method_handler(unary, response_serializer=serialize)
        if handler.stream_stream:
            stream = self._guard_stream(handler.stream_stream, parse, name)
            return grpc.stream_stream_rpc_method_handler(stream, response_serializer=serialize)
        return handler

    def _guard_stream(
        self, answer: Callable[..., Iterator[Message]], parse: _Parse, name: str
    ) -> Callable[..., Iterator[Message]]:
        def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Message]:
            status = None
            try:
                with self._count(context):
                    yield from answer(map(parse, requests), context)
            except Exception as error:  # noqa: BLE001 - as for unary calls
                if context.is_active():  # otherwise the caller is gone, or the server stops
                    status = status_of(error, name)
            if status is not None:
                _abort(context, status)

        pool = self._threads
        stream.experimental_thread_pool = pool  # type: ignore[attr-defined] # read by grpcio
        return stream

    @contextmanager
    def _count(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Count an open stream; raises TooManyStreams."""
        with self._opening:
            if len(self._open) >= MAX_STREAMS:
                raise errors.TooManyStreams(MAX_STREAMS)
            self._open.add(context)
        try:
            yield
        finally:
            self._open.discard(context)

    def end_streams(self) -> None:
        """Cancel open streams, so that a graceful stop does not wait for idle callers."""
        for context in tuple(self._open):
            context.cancel()

    def close(self) -> None:
        """Release the threads, after the server has stopped."""
        self._threads.shutdown()
        self._queries.shutdown()


def _guard_call(answer: Callable[..., Message], parse: _Parse, name: str) -> Callable[..., Message]:
    def unary(data: bytes, context: grpc.ServicerContext) -> Message:
        try:
            return answer(parse(data), context)
        except Exception as error:  # noqa: BLE001 - status_of logs and masks errors not ours
            status = status_of(error, name)
        _abort(context, status)

    return unary


def _parse(deserialize: _Parse, data: bytes) -> Message:
    try:
        return deserialize(data)
    except DecodeError as error:
        raise MalformedMessage(len(data)) from error


def _abort(context: grpc.ServicerContext, status: RpcStatus) -> NoReturn:
    trailer = [(REASON_KEY, status.reason)]
    if status.retry_ms is not None:
        trailer.append((RETRY_KEY, str(status.retry_ms)))
    context.set_trailing_metadata(tuple(trailer))
    context.abort(status.code, status.message)
