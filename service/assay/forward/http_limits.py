"""HTTP as uvicorn speaks it, with what it leaves open: bounds for heads, and for bodies that nobody reads any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from assay.forward.errors import ErrorReply

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
MAX_BODY_BYTES: Final = 32 * 1024 * 1024
MAX_BODIES_BYTES: Final = 256 * 1024 * 1024
BODY_SECONDS: Final = 60.0
BODY_TOO_LARGE: Final = f"the body is larger than {MAX_BODY_BYTES // 1024 // 1024} MiB"


class BodyBudget:
    """How many bytes of bodies are held at the moment, by all requests."""

    def __init__(self) -> None:
        self.held = 0

    @contextmanager
    def body(self) -> Iterator[RequestBody]:
        """A place for one body, given back at the end of the context."""
        body = RequestBody(self)
        try:
            yield body
        finally:
            self.held -= body.size


class RequestBody:
    """One body on its way in; `size` is what it takes of the room."""

    def __init__(self, room: BodyBudget) -> None:
        self.size = 0
        self._room = room

    async def read(self, receive: Receive, length: bytes) -> bytes:
        """The whole body; raises Refused. One whose announced length is too large is not read at all."""
        self._hold(int(length[:16]) if length.isdigit() else 0)
        parts, more = bytearray(), True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise ErrorReply(
                            400, "the body broke off", "invalid_request"
                        )  # which nobody will hear
                    parts += message.get("body", b"")
                    more = message.get("more_body", False)
                    self._hold(len(parts))
        except TimeoutError:
            raise ErrorReply(408, "the body took too long", "request_timeout") from None
        return bytes(parts)

    def _hold(self, size: int) -> None:
        if size > MAX_BODY_BYTES:
            raise ErrorReply(413, BODY_TOO_LARGE, "payload_too_large")
        more = max(size - self.size, 0)
        if self._room.held + more > MAX_BODIES_BYTES:
            raise ErrorReply(503, "too many large requests at once", "overloaded", retry_after=1.0)
        self.size += more
        self._room.held += more


MAX_HEAD_BYTES: Final = 64 * 1024
HEAD_SECONDS: Final = 10.0
REST_SECONDS: Final = (
    5.0  # for the rest of a body that nobody reads any more: closing at once could lose the answer
)
HEAD_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
HEAD_TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)


class LimitedHttpProtocol(HttpToolsProtocol):
    """Connections that are silent end after the keep-alive time; a head once begun has to end in time and in size.

    A body whose request was answered before its end has to end soon.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's own business
        super().__init__(*arguments, **named)
        self._head = 0
        self._timer: asyncio.TimerHandle | None = (
            None  # of a head, or of what is left of an answered request
        )
        self._heading = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # asyncio has a wider type
        """Wait for a request as long as for the next one."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        """Take bytes, and count those of a head that has not ended."""
        super().data_received(data)
        if self._heading:
            self._head += len(data)
            if self._head > MAX_HEAD_BYTES:
                self._end(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Let the head's time begin."""
        super().on_message_begin()
        self._head, self._heading = 0, True
        self._start_timer(HEAD_SECONDS, HEAD_TOO_SLOW)

    def on_headers_complete(self) -> None:
        """Let the head's time end."""
        self._heading = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Let the time of an answered request end."""
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Let the time of an answered request begin, where it has not come to its end."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._start_timer(REST_SECONDS, b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind."""
        self._stop_timer()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that is silent, also one that does not take its answer."""
        self.transport.abort()

    def _start_timer(self, seconds: float, said: bytes) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._end, said)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, said: bytes) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.write(said)
            self.transport.close()
