"""Request bodies within limits: of size, of time, and of what all of them hold together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from assay.forward.answers import Refused

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
MAX_BODY_BYTES: Final = 32 * 1024 * 1024
MAX_BODIES_BYTES: Final = 256 * 1024 * 1024
BODY_SECONDS: Final = 60.0
TOO_LARGE: Final = f"the body is larger than {MAX_BODY_BYTES // 1024 // 1024} MiB"


class Room:
    """How many bytes of bodies are held at the moment, by all requests."""

    def __init__(self) -> None:
        self.held = 0

    @contextmanager
    def body(self) -> Iterator[Body]:
        """A place for one body, given back at the end of the context."""
        body = Body(self)
        try:
            yield body
        finally:
            self.held -= body.size


class Body:
    """One body on its way in; `size` is what it takes of the room."""

    def __init__(self, room: Room) -> None:
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
                        raise Refused(
                            400, "the body broke off", "invalid_request"
                        )  # which nobody will hear
                    parts += message.get("body", b"")
                    more = message.get("more_body", False)
                    self._hold(len(parts))
        except TimeoutError:
            raise Refused(408, "the body took too long", "request_timeout") from None
        return bytes(parts)

    def _hold(self, size: int) -> None:
        if size > MAX_BODY_BYTES:
            raise Refused(413, TOO_LARGE, "payload_too_large")
        more = max(size - self.size, 0)
        if self._room.held + more > MAX_BODIES_BYTES:
            raise Refused(503, "too many large requests at once", "overloaded", retry_after=1.0)
        self.size += more
        self._room.held += more
