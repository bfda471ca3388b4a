"""Request bodies within limits: of size, of time, and of what all of them hold together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, Self

from assay.forward.answers import Refused

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
MAX_BODIES_BYTES: Final = 256 * 1024 * 1024
BODY_SECONDS: Final = 60.0
TOO_LARGE: Final = f"the body is larger than {MAX_BODY_BYTES // 1024 // 1024} MiB"


class Room:
    """How many bytes of bodies are held at the moment, by all requests."""

    def __init__(self) -> None:
        self.held = 0

    def lent(self) -> Lent:
        """A place for one body, given back at the end of its context."""
        return Lent(self)


class Lent:
    """What one body takes of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held = 0

    def __enter__(self) -> Self:
        """Begin with nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give everything back."""
        self._room.held -= self._held

    def hold(self, size: int) -> None:
        """Hold a body of this size; raises Refused where it is too much for one, or for all."""
        if size > MAX_BODY_BYTES:
            raise Refused(413, TOO_LARGE, "payload_too_large")
        more = max(size - self._held, 0)
        if self._room.held + more > MAX_BODIES_BYTES:
            raise Refused(503, "too many large requests at once", "overloaded", retry_after=1.0)
        self._held += more
        self._room.held += more


async def read_body(
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]], headers: Mapping[bytes, bytes], lent: Lent
) -> bytes:
    """The whole body; raises Refused. One that is announced as too large is not read at all."""
    length = headers.get(b"content-length", b"")
    if length.isdigit():
        lent.hold(int(length[:16]))
    message = await received(receive)
    if not message.get("more_body"):
        body: bytes = message.get("body", b"")
        lent.hold(len(body))
        return body
    parts = bytearray(message["body"])
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while message.get("more_body"):
                message = await received(receive)
                parts += message.get("body", b"")
                lent.hold(len(parts))
    except TimeoutError:
        raise Refused(408, "the body took too long", "request_timeout") from None
    return bytes(parts)


async def received(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> MutableMapping[str, Any]:
    """The next piece; raises Refused, which nobody will hear, where the caller has gone."""
    message = await receive()
    if message["type"] != "http.request":
        raise Refused(400, "the body broke off", "invalid_request")
    return message
