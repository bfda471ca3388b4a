"""The one interceptor: every error of our services becomes a status with a reason, and nothing else gets out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message

from assay.engine.errors import CallerError, TooManyStreams
from assay.rpc.status import REASON_KEY, Status, status_of

OURS = "/assay."
MOST_STREAMS = 32

Answer = Callable[[Any, grpc.ServicerContext], Message]
StreamAnswer = Callable[[Any, grpc.ServicerContext], Iterator[Message]]


class MalformedMessage(CallerError):
    """The bytes are not the message that the method takes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"request: {size} bytes are not the message that this method takes")
        self.size = size


class Guard(grpc.ServerInterceptor):
    """Parses inside the guarded part too, so that malformed bytes are the caller's fault and not ours.

    Streams have threads of their own: as long as one is open it takes a thread, and unary calls must not wait for it.
    """

    def __init__(self, *, most_streams: int = MOST_STREAMS) -> None:
        self._most = most_streams
        self._open: set[grpc.ServicerContext] = set()
        self._opening = Lock()
        # a few more threads than streams, for those who are told that there are too many
        self._threads = ThreadPoolExecutor(most_streams + 4, thread_name_prefix="assay-stream")

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the methods of our own services; health and reflection keep their own ways."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not (method.startswith(OURS) and handler.request_deserializer):
            return handler
        parse: Callable[[bytes], Message] = handler.request_deserializer
        name, serialize = method.removeprefix("/"), handler.response_serializer
        if handler.unary_unary:
            unary = guarded(handler.unary_unary, parse, name)
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
                    yield from answer((parsed(parse, data) for data in requests), context)
            except Exception as error:  # noqa: BLE001 - as for unary calls
                if context.is_active():  # else the caller went away, or we are stopping
                    status = status_of(error, name)
            if status is not None:
                abort(context, status)

        stream.experimental_thread_pool = self._threads  # type: ignore[attr-defined] # how grpcio takes a pool
        return stream

    @contextmanager
    def _counted(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Count an open stream; raises TooManyStreams."""
        with self._opening:
            if len(self._open) >= self._most:
                raise TooManyStreams(self._most)
            self._open.add(context)
        try:
            yield
        finally:
            self._open.discard(context)

    def end_streams(self) -> None:
        """Break open streams off, so that an orderly stop does not wait for callers who have nothing to say."""
        for context in tuple(self._open):
            context.cancel()

    def close(self) -> None:
        """Give the threads back, after the server has stopped."""
        self._threads.shutdown()


def guarded(answer: Answer, parse: Callable[[bytes], Message], name: str) -> Callable[..., Message]:
    """Answer, or end the call with a status."""

    def unary(data: bytes, context: grpc.ServicerContext) -> Message:
        try:
            return answer(parsed(parse, data), context)
        except Exception as error:  # noqa: BLE001 - the last line: what is not ours is logged and masked
            status = status_of(error, name)
        abort(context, status)

    return unary


def parsed(parse: Callable[[bytes], Message], data: bytes) -> Message:
    """The message in the bytes."""
    try:
        return parse(data)
    except DecodeError as error:
        raise MalformedMessage(len(data)) from error


def abort(context: grpc.ServicerContext, status: Status) -> NoReturn:
    """End the call with the status and its reason."""
    context.set_trailing_metadata(((REASON_KEY, status.reason),))
    context.abort(status.code, status.message)
