"""One answer on its way to the caller, and the socket beneath it for what no server would do on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class TransportSharingProtocol(HttpToolsProtocol):
    """uvicorn's protocol, its transport within reach of the application."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # asyncio has a wider type
        """Hand the transport on with each request."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class CallerDisconnected(Exception):
    """The caller went away before the answer had ended."""


class CallerConnection:
    """Sends an answer part by part; `gone` returns once the caller has gone."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.transport: asyncio.Transport = scope["state"]["transport"]

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send status and headers."""
        raw = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})

    async def write(self, part: bytes) -> None:
        """Send a part of the body; raises Gone."""
        if self.transport.is_closing():
            raise CallerDisconnected
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self) -> None:
        """End the body."""
        await self._send({"type": "http.response.body", "body": b""})

    async def gone(self) -> None:
        """Wait for the caller to go away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
