"""The one interceptor: every error of our services becomes a status with a reason, and nothing else gets out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message

from assay.engine.errors import CallerError
from assay.rpc.status import REASON_KEY, Status, status_of

OURS = "/assay."


class MalformedMessage(CallerError):
    """The bytes are not the message that the method takes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"request: {size} bytes are not the message that this method takes")
        self.size = size


class Guard(grpc.ServerInterceptor):
    """Parses inside the guarded part too, so that malformed bytes are the caller's fault and not ours."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap unary methods of our own services; health and reflection keep their own ways."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not (method.startswith(OURS) and handler.unary_unary and handler.request_deserializer):
            return handler
        answer: Callable[[Message, grpc.ServicerContext], Message] = handler.unary_unary
        parse: Callable[[bytes], Message] = handler.request_deserializer

        def guarded(data: bytes, context: grpc.ServicerContext) -> Message:
            try:
                return answer(parsed(parse, data), context)
            except Exception as error:  # noqa: BLE001 - the last line: what is not ours is logged and masked
                status = status_of(error, method.removeprefix("/"))
            abort(context, status)

        return grpc.unary_unary_rpc_method_handler(
            guarded, request_deserializer=None, response_serializer=handler.response_serializer
        )


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
