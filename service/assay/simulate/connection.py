"""The bytes of an answer, its way to the caller, and the socket for faults that no server makes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Json = Mapping[str, Any]
DONE: Final = b"data: [DONE]\n\n"
COMMENT: Final = b": PROCESSING\n\n"


@dataclass(frozen=True, slots=True)
class SimulatedAnswer:
    """A complete answer: the events of a stream, or one part with the JSON body."""

    stream: bool
    parts: tuple[bytes, ...]
    bad_calls: int = 0

    @property
    def media_type(self) -> str:
        """The content type."""
        return "text/event-stream" if self.stream else "application/json"

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers of the complete answer."""
        length = [] if self.stream else [("content-length", str(len(self.parts[0])))]
        return [("content-type", self.media_type), *length]

    def events(self, count: int) -> tuple[bytes, ...]:
        """Return the first events of a stream; nothing of a JSON body."""
        return self.parts[:count] if self.stream else ()

    def beginning(self, count: int) -> tuple[bytes, ...]:
        """Return the first events of a stream, or half of a JSON body if count is not zero."""
        if self.stream or not count:
            return self.events(count)
        return (self.parts[0][: len(self.parts[0]) // 2],)


def streamed_choice(delta: Json, finish: str | None) -> Json:
    """Return the one choice of an event."""
    return {"index": 0, "delta": delta, "finish_reason": finish}


def encode_chunk(head: Json, **fields: object) -> bytes:
    """Return one chunk as an event."""
    return encode_event({**head, "object": "chat.completion.chunk", **fields})


def encode_event(value: object) -> bytes:
    """Return a JSON value as an event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def error_envelope(code: int | None, message: str) -> Json:
    """Return OpenAI's envelope of an error."""
    return {"error": {"message": message, "type": "simulated_error", "param": None, "code": code}}


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
