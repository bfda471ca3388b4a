"""Limits on what callers send: size and time of heads and bodies, memory of all bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from assay.forward.errors import ErrorReply

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
REST_SECONDS: Final = 5.0  # for the rest of a body after its reply; closing at once could lose it
_MAX_HEAD_BYTES: Final = 64 * 1024
_HEAD_SECONDS: Final = 10.0
_MAX_BODY_BYTES: Final = 32 * 1024 * 1024
_MAX_BODIES_BYTES: Final = 256 * 1024 * 1024
_BODY_SECONDS: Final = 60.0
_CLOSE: Final = b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_HEAD_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large" + _CLOSE
_HEAD_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout" + _CLOSE


class BodyBudget:
    """The bytes that the bodies of all requests hold at the moment."""

    def __init__(self) -> None:
        self.used = 0

    @contextmanager
    def body(self) -> Iterator[RequestBody]:
        """Yield a body; its bytes are released at the end of the context."""
        body = RequestBody(self)
        try:
            yield body
        finally:
            self.used -= body.reserved


class RequestBody:
    """One body while it arrives; `reserved` bytes of the budget are its own."""

    def __init__(self, budget: BodyBudget) -> None:
        self.reserved = 0
        self._budget = budget

    async def read(self, receive: Receive, length: bytes) -> bytes:
        """Return the body; raise ErrorReply, before reading if its stated length is too large."""
        self._reserve(int(length[:16]) if length.isdigit() else 0)
        data, more = bytearray(), True
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":  # the caller is gone: no one reads this
                        raise ErrorReply(400, "the body is incomplete", "invalid_request")
                    data += message.get("body", b"")
                    more = message.get("more_body", False)
                    self._reserve(len(data))
        except TimeoutError:
            problem = f"the body did not arrive within {_BODY_SECONDS:.0f} seconds"
            raise ErrorReply(408, problem, "request_timeout") from None
        return bytes(data)

    def _reserve(self, size: int) -> None:
        if size > _MAX_BODY_BYTES:
            message = f"the body is larger than {_MAX_BODY_BYTES // 1024 // 1024} MiB"
            raise ErrorReply(413, message, "payload_too_large")
        more = max(size - self.reserved, 0)
        if self._budget.used + more > _MAX_BODIES_BYTES:
            message = "too many large requests at once"
            raise ErrorReply(503, message, "overloaded", retry_after=1.0)
        self.reserved += more
        self._budget.used += more


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP with the limits that it lacks.

    A connection without a request ends after the keep-alive time. A head must end in time and in
    size. After a reply to an incomplete request, the rest of its body must end soon.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's arguments
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._in_head = False
        self._timer: asyncio.TimerHandle | None = None  # of a head or of the rest of a body

    def connection_made(  # type: ignore[override] # asyncio has a wider type
        self, transport: asyncio.Transport
    ) -> None:
        """Wait for the first request no longer than for the next one."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        """Process bytes, and count those of an incomplete head."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._close(_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Start the time limit of the head."""
        super().on_message_begin()
        self._head_bytes, self._in_head = 0, True
        self._start_timer(_HEAD_SECONDS, _HEAD_TOO_SLOW)

    def on_headers_complete(self) -> None:
        """Stop the time limit of the head."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the time limit of the rest of a body."""
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the time limit of the rest of a body if the request is incomplete."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._start_timer(REST_SECONDS, b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even if the caller does not read what it was sent."""
        self.transport.abort()

    def _start_timer(self, seconds: float, reply: bytes) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._close, reply)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self, reply: bytes) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.write(reply)
            self.transport.close()
