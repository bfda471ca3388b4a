"""HTTP as uvicorn speaks it, with what it leaves open: how long a request's head may take and how large it may be."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 1024
HEAD_SECONDS: Final = 10.0
TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Guarded(HttpToolsProtocol):
    """Connections that are silent end after the keep-alive time; a head once begun has to end in time and in size."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's own business
        super().__init__(*arguments, **named)
        self._head = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # asyncio has a wider type
        """Wait for a request as long as for the next one."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and count those of a head that has not ended."""
        super().data_received(data)
        if self._head_timer is not None:
            self._head += len(data)
            if self._head > MAX_HEAD_BYTES:
                self._end(TOO_LARGE)

    def on_message_begin(self) -> None:
        """Let the head's time begin."""
        super().on_message_begin()
        self._head = 0
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end, TOO_SLOW)

    def on_headers_complete(self) -> None:
        """Let the head's time end."""
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind."""
        self._stop_timer()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that is silent, also one that does not take its answer."""
        self.transport.abort()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end(self, said: bytes) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.write(said)
            self.transport.close()
