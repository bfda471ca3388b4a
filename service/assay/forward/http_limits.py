"""What uvicorn lacks: limits on heads and bodies, compressed bodies, replies without chunks."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from assay.engine.errors import quoted
from assay.forward.errors import ErrorReply

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Application = Callable[[Any, Any, Any], Awaitable[None]]
REST_SECONDS: Final = 5.0  # for the rest of a body after its reply; closing at once could lose it
_MAX_HEAD_BYTES: Final = 64 * 1024
_HEAD_SECONDS: Final = 10.0
_MAX_BODY_BYTES: Final = 32 * 1024 * 1024
_MAX_BODIES_BYTES: Final = 256 * 1024 * 1024
_BODY_SECONDS: Final = 60.0
_CODINGS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # zlib's `wbits`
_HTTP_1_0: Final = "1.0"
_UNCODED: Final = (b"", b"identity")
_ACCEPTED: Final = (b"accept-encoding", b"gzip, deflate")
_HEAD_TOO_LARGE: Final = ErrorReply(431, "the head is larger than 64 KiB", "head_too_large")
_HEAD_TOO_SLOW: Final = ErrorReply(
    408, "the head did not arrive within 10 seconds", "request_timeout"
)
_NOT_HTTP: Final = ErrorReply(400, "not a valid HTTP request", "invalid_request")
_request_id: Final = re.compile(rb"[ -~]{1,256}").fullmatch


def request_id_of(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the caller's id of a request if it can be a header, or else a new one."""
    given = headers.get(b"x-request-id", b"").strip()
    return given if _request_id(given) else uuid4().hex.encode()


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

    async def read(self, receive: Receive, length: bytes, coding: bytes = b"") -> bytes:
        """Return the body, decompressed; raise ErrorReply.

        A body is rejected before it is read if its stated length is too large or its coding
        unknown, and while it is read if it turns out to be too large.
        """
        inflater = _inflater(coding)
        self._reserve(int(length[:16]) if length.isdigit() else 0)
        data, more = bytearray(), True
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":  # the caller is gone: no one reads this
                        raise ErrorReply(400, "the body is incomplete", "invalid_request")
                    part = message.get("body", b"")
                    data += (
                        inflater.inflate(part, _MAX_BODY_BYTES - len(data)) if inflater else part
                    )
                    more = message.get("more_body", False)
                    self._reserve(len(data))
        except TimeoutError:
            problem = f"the body did not arrive within {_BODY_SECONDS:.0f} seconds"
            raise ErrorReply(408, problem, "request_timeout") from None
        if inflater is not None and not inflater.is_complete:
            raise ErrorReply(400, "the compressed body is incomplete", "invalid_request")
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


class _Inflater:
    """Decompresses a body while it arrives."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._decompressor = zlib.decompressobj(wbits)

    @property
    def is_complete(self) -> bool:
        """Whether the last member has ended."""
        return self._decompressor.eof

    def inflate(self, data: bytes, room: int) -> bytes:
        """Return decompressed bytes, at most one more than there is room for."""
        inflated = bytearray()
        try:
            while data and len(inflated) <= room:
                if self._decompressor.eof:  # gzip allows several members
                    self._decompressor = zlib.decompressobj(self._wbits)
                inflated += self._decompressor.decompress(data, room - len(inflated) + 1)
                data = self._decompressor.unconsumed_tail or self._decompressor.unused_data
        except zlib.error:
            message = "the body is not compressed as its Content-Encoding says"
            raise ErrorReply(400, message, "invalid_request") from None
        return bytes(inflated)


def _inflater(coding: bytes) -> _Inflater | None:
    """Return a decompressor for a Content-Encoding; raise ErrorReply for an unknown one."""
    coding = coding.strip().lower()
    if coding in _UNCODED:
        return None
    if coding not in _CODINGS:
        message = f"Content-Encoding {quoted(coding.decode('latin-1'))} is not supported; send gzip"
        raise ErrorReply(415, message, "unsupported_encoding", headers=(_ACCEPTED,))
    return _Inflater(_CODINGS[coding])


def _bare_reply(reply: ErrorReply) -> bytes:
    """Return a reply as bytes, for a request that reached no application."""
    body = orjson.dumps({"error": reply.error()})
    head = (
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {uuid4().hex}\r\n\r\n"
    )
    return head.encode() + body


def _without_chunks(application: Application, cycle: RequestResponseCycle) -> Application:
    """Return the application for a caller of HTTP/1.0, which cannot read chunks.

    Where a reply states no length, the end of the connection is the end of its body. uvicorn always
    sends chunks then, so each part is declared as the whole content.
    """

    async def answer(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        has_length = True

        async def send_part(message: MutableMapping[str, Any]) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                has_length = any(name == b"content-length" for name, _ in message["headers"])
                if not has_length:
                    cycle.chunked_encoding = False
            elif not has_length:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await application(scope, receive, send_part)

    return answer


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

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Application) -> None:
        if cycle.scope["http_version"] == _HTTP_1_0:
            app = _without_chunks(app, cycle)
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """Reply to bytes that are not HTTP; uvicorn's own words are plain text."""
        del msg
        self._close(_NOT_HTTP)

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
            self._start_timer(REST_SECONDS, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even if the caller does not read what it was sent."""
        self.transport.abort()

    def _start_timer(self, seconds: float, reply: ErrorReply | None) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._close, reply)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self, reply: ErrorReply | None) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            if reply is not None:
                self.transport.write(_bare_reply(reply))
            self.transport.close()
