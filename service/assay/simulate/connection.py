"""One answer on its way to the caller, and the socket below it for faults that no server makes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class TransportSharingProtocol(HttpToolsProtocol):
    """uvicorn's protocol; the application gets its transport with each request."""

    def connection_made(  # type: ignore[override] # asyncio has a wider type
        self, transport: asyncio.Transport
    ) -> None:
        """Put the transport into the state of each request."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class CallerDisconnected(Exception):
    """The caller closed the connection before the answer had ended."""


class Caller:
    """The caller of one request, who gets the answer part by part."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.transport: asyncio.Transport = scope["state"]["transport"]

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send status and headers."""
        raw = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})

    async def write(self, *parts: bytes) -> None:
        """Send parts of the body; raise CallerDisconnected."""
        for part in parts:
            if self.transport.is_closing():
                raise CallerDisconnected
            await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self) -> None:
        """End the body."""
        await self._send({"type": "http.response.body", "body": b""})

    async def wait_for_disconnect(self) -> None:
        """Return once the caller has closed the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
