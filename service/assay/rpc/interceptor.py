"""The interceptor that turns every error of our services into a status with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message

from assay.engine.errors import CallerError, TooManyStreams
from assay.rpc.status import REASON_KEY, RpcStatus, status_of

OURS = "/assay."
MAX_STREAMS = 32

Answer = Callable[[Any, grpc.ServicerContext], Message]
StreamAnswer = Callable[[Any, grpc.ServicerContext], Iterator[Message]]


class MalformedMessage(CallerError):
    """The bytes of a request do not parse."""

    def __init__(self, size: int) -> None:
        super().__init__(f"request: {size} bytes are not a valid message of this method")
        self.size = size


class ErrorInterceptor(grpc.ServerInterceptor):
    """Parses requests itself, so that malformed bytes are reported as the caller's error.

    Streams run on threads of their own: an open stream occupies a thread, and unary calls must not
    wait for it.
    """

    def __init__(self, *, max_streams: int = MAX_STREAMS) -> None:
        self._max_streams = max_streams
        self._open: set[grpc.ServicerContext] = set()
        self._opening = Lock()
        # A few more threads than streams, to answer callers that exceed the limit.
        self._threads = ThreadPoolExecutor(max_streams + 4, thread_name_prefix="assay-stream")

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the methods of our own services, not those of health and reflection."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not (method.startswith(OURS) and handler.request_deserializer):
            return handler
        parse: Callable[[bytes], Message] = handler.request_deserializer
        name, serialize = method.removeprefix("/"), handler.response_serializer
        if handler.unary_unary:
            unary = _guarded(handler.unary_unary, parse, name)
            return grpc.unary_unary_rpc_method_handler(
                unary, request_deserializer=None, response_serializer=serialize
            )
        if handler.stream_stream:
            stream = self._guarded_stream(handler.stream_stream, parse, name)
            return grpc.stream_stream_rpc_method_handler(
                stream, request_deserializer=None, response_serializer=serialize
            )
        return handler

    def _guarded_stream(
        self, answer: StreamAnswer, parse: Callable[[bytes], Message], name: str
    ) -> StreamAnswer:
        def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Message]:
            status = None
            try:
                with self._counted(context):
                    yield from answer((_parsed(parse, data) for data in requests), context)
            except Exception as error:  # noqa: BLE001 - as for unary calls
                if context.is_active():  # otherwise the caller is gone, or the server stops
                    status = status_of(error, name)
            if status is not None:
                _abort(context, status)

        pool = self._threads
        stream.experimental_thread_pool = pool  # type: ignore[attr-defined] # read by grpcio
        return stream

    @contextmanager
    def _counted(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Count an open stream; raises TooManyStreams."""
        with self._opening:
            if len(self._open) >= self._max_streams:
                raise TooManyStreams(self._max_streams)
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


def _guarded(
    answer: Answer, parse: Callable[[bytes], Message], name: str
) -> Callable[..., Message]:

    def unary(data: bytes, context: grpc.ServicerContext) -> Message:
        try:
            return answer(_parsed(parse, data), context)
        except Exception as error:  # noqa: BLE001 - status_of logs and masks errors not ours
            status = status_of(error, name)
        _abort(context, status)

    return unary


def _parsed(parse: Callable[[bytes], Message], data: bytes) -> Message:
    try:
        return parse(data)
    except DecodeError as error:
        raise MalformedMessage(len(data)) from error


def _abort(context: grpc.ServicerContext, status: RpcStatus) -> NoReturn:
    context.set_trailing_metadata(((REASON_KEY, status.reason),))
    context.abort(status.code, status.message)
