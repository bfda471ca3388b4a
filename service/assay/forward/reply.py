"""The caller's end of a request: an answer in one piece, or a stream that hears comments while there are no tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import orjson

from assay.forward.errors import ErrorReply, envelope

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Block = dict[str, Any] | None
COMMENT: Final = b": ASSAY PROCESSING\n\n"
DONE: Final = b"data: [DONE]\n\n"


class JsonReply:
    """An answer in one piece; `over(status)` is told once it is on its way."""

    def __init__(self, send: Send, over: Callable[[int], None]) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.over = over
        self.send = send

    async def answer(self, answer: dict[str, Any], block: Block) -> None:
        """Give an answer, with the metadata block where it is wanted."""
        await self.respond(200, orjson.dumps(with_block(answer, block)))

    async def refuse(self, refused: ErrorReply, block: Block) -> None:
        """Give an error in its envelope."""
        if refused.retry_after is not None:
            self.headers.append((b"retry-after", b"%d" % refused.whole_seconds))
        await self.respond(refused.status, envelope(refused, block))

    async def respond(self, status: int, body: bytes) -> None:
        """Give a body in JSON."""
        self.over(status)
        fixed = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self.send(
            {"type": "http.response.start", "status": status, "headers": [*fixed, *self.headers]}
        )
        await self.send({"type": "http.response.body", "body": body})


class SseReply:
    """Begins with the first bytes given; until `quiet` a comment is sent every so often. Giving waits for who reads."""

    def __init__(self, whole: JsonReply, keep_alive: float) -> None:
        self.begun = False
        self._whole = whole
        self._send = whole.send
        self._keep_alive = keep_alive
        self._loop = asyncio.get_running_loop()
        self._comment: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(keep_alive, self._tick)

    def _tick(self) -> None:
        if self._comment is None or self._comment.done():
            self._comment = self._loop.create_task(self.give(COMMENT))
        self._timer = self._loop.call_later(self._keep_alive, self._tick)

    async def quiet(self) -> None:
        """No more comments; returns once none is on its way."""
        self._timer.cancel()
        if self._comment is not None:
            await self._comment

    async def give(self, data: bytes) -> None:
        """Hand bytes to the caller."""
        if not self.begun:
            self.begun = True
            fixed = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
            headers = [*fixed, *self._whole.headers]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, about: dict[str, Any], block: Block) -> None:
        """End a whole answer, with the metadata block where it is wanted."""
        await self._end((event({**about, "choices": []}, block) if block else b"") + DONE)

    async def refuse(
        self, refused: ErrorReply, block: Block, about: dict[str, Any] | None = None
    ) -> None:
        """Give an error: in its envelope where nothing has gone out, else as the last event of the stream."""
        await self.quiet()
        if not self.begun:
            return await self._whole.refuse(refused, block)
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "finish_reason": "error",
        }
        named = {
            "id": "",
            "created": int(time.time()),
            "model": "",
            "provider": "",
            **(about or {}),
        }
        return await self._end(
            event({**named, "error": refused.error(), "choices": [choice]}, block)
        )

    async def _end(self, data: bytes) -> None:
        self._whole.over(200)
        await self.give(data)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def close(self) -> None:
        """Let go of the timer, whatever happened."""
        self._timer.cancel()


def event(chunk: dict[str, Any], block: Block) -> bytes:
    """A chunk of our own."""
    return (
        b"data: "
        + orjson.dumps(with_block({"object": "chat.completion.chunk", **chunk}, block))
        + b"\n\n"
    )


def with_block(value: dict[str, Any], block: Block) -> dict[str, Any]:
    """An answer, chunk or error with the metadata block where it is wanted."""
    return value if block is None else {**value, "openrouter_metadata": block}
