"""Replies to callers: one JSON body, or a stream with comments while there is no token yet.

A stream sends its headers with the first bytes that it is given. Until then an error can still be
a JSON body with a status of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

import orjson

from assay.forward.errors import AttemptResult, ErrorReply
from assay.forward.stream import encode_event
from assay.v1 import routing_pb2 as pb

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
MetadataBlock = dict[str, Any] | None
_COMMENT: Final = b": ASSAY PROCESSING\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold chunks back
)
_ERROR_CHOICE: Final = {
    "index": 0,
    "delta": {"role": "assistant", "content": ""},
    "finish_reason": "error",
}


class JsonReply:
    """A reply in one piece; it calls `on_end` with the status just before sending it."""

    def __init__(self, send: Send, on_end: Callable[[int], None]) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.on_end = on_end
        self.send = send

    async def answer(self, answer: bytes, block: MetadataBlock) -> None:
        """Send a provider's answer, a JSON object, with the metadata block if there is one."""
        if block is not None:
            answer = b'%b,"openrouter_metadata":%b}' % (answer[:-1], orjson.dumps(block))
        await self._respond(200, answer)

    async def fail(self, reply: ErrorReply, block: MetadataBlock) -> None:
        """Send an error in its envelope."""
        self.headers += reply.http_headers
        await self._respond(reply.status, error_body(reply, block))

    async def _respond(self, status: int, body: bytes) -> None:
        self.on_end(status)
        fixed = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers = [*fixed, *self.headers]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class SseReply:
    """A stream of events. `write` waits while the caller does not read.

    Until `stop_comments` is called, the caller gets a comment every `keep_alive` seconds.
    """

    def __init__(self, json_reply: JsonReply, keep_alive: float) -> None:
        self._started = False
        self._json_reply = json_reply
        self._send = json_reply.send
        self._keep_alive = keep_alive
        self._loop = asyncio.get_running_loop()
        self._comment: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(keep_alive, self._write_comment)

    def _write_comment(self) -> None:
        if self._comment is None or self._comment.done():
            self._comment = self._loop.create_task(self.write(_COMMENT))
        self._timer = self._loop.call_later(self._keep_alive, self._write_comment)

    async def stop_comments(self) -> None:
        """Send no more comments; return once none is being sent."""
        self._timer.cancel()
        if self._comment is not None:
            await self._comment

    async def write(self, data: bytes) -> None:
        """Send bytes to the caller, after the headers if these are the first."""
        if not self._started:
            self._started = True
            headers = [*_STREAM_HEADERS, *self._json_reply.headers]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(
        self, answer_fields: dict[str, Any], usage_event: bytes, block: MetadataBlock
    ) -> None:
        """End a complete answer, after a chunk with the metadata block if there is one.

        The usage comes last: clients look for it in the last chunk.
        """
        last = _encode_chunk({**answer_fields, "choices": []}, block) if block else b""
        await self._end(last + usage_event + _DONE)

    async def fail(
        self, reply: ErrorReply, block: MetadataBlock, answer_fields: dict[str, Any] | None = None
    ) -> None:
        """Send an error: as JSON if nothing has been sent, otherwise as the last event."""
        await self.stop_comments()
        if not self._started:
            return await self._json_reply.fail(reply, block)
        fields = {"id": "", "created": int(time.time()), "model": "", "provider": ""}
        chunk = {
            **fields,
            **(answer_fields or {}),
            "error": reply.error(),
            "choices": [_ERROR_CHOICE],
        }
        return await self._end(_encode_chunk(chunk, block))

    async def _end(self, data: bytes) -> None:
        self._json_reply.on_end(200)
        await self.write(data)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def close(self) -> None:
        """Cancel the timer of the comments."""
        self._timer.cancel()


def error_body(reply: ErrorReply, block: MetadataBlock = None) -> bytes:
    """Return the JSON body of an error reply."""
    return orjson.dumps(_with_block({"error": reply.error()}, block))


def metadata_block(
    decision: pb.DecideResponse, requested: str, results: Sequence[AttemptResult]
) -> dict[str, Any]:
    """Return `openrouter_metadata`: the attempts with their results, and each excluded endpoint."""
    answered = [place for place, each in enumerate(results, 1) if each.error is None]
    selected = {each.attempt.endpoint_id for each in results if each.error is None}
    available = [
        {**_names(each), "selected": each.endpoint_id in selected} for each in decision.attempts
    ]
    excluded = [
        {**_names(each), "reasons": list(dict.fromkeys(r.reason for r in each.reasons))}
        for each in decision.excluded
    ]
    return {
        "requested": requested,
        "strategy": "fallback" if len(results) > 1 else "direct",
        "decision_id": decision.decision_id,
        "region": None,
        "is_byok": False,
        "attempt": answered[0] if answered else 0,
        "summary": ", ".join(f"{each.provider}: {each.outcome}" for each in results),
        "endpoints": {
            "total": len(available) + len(excluded),
            "available": available,
            "excluded": excluded,
        },
        "attempts": [_describe(each) for each in results],
        "affinity": decision.affinity or None,
        "warnings": [
            {field.name: getattr(each, field.name) for field in each.DESCRIPTOR.fields}
            for each in decision.warnings
        ],
    }


def _names(value: pb.Attempt | pb.Findings) -> dict[str, Any]:
    return {"provider": value.provider, "model": value.model, "endpoint_id": value.endpoint_id}


def _describe(result: AttemptResult) -> dict[str, Any]:
    names, error = _names(result.attempt), result.error
    if result.dropped:
        names["dropped_parameters"] = list(result.dropped)
    if error is None:
        return {**names, "status": 200}
    return {**names, "status": error.status, "failure": error.kind.name}


def _encode_chunk(chunk: dict[str, Any], block: MetadataBlock) -> bytes:
    return encode_event(_with_block({"object": "chat.completion.chunk", **chunk}, block))


def _with_block(value: dict[str, Any], block: MetadataBlock) -> dict[str, Any]:
    return value if block is None else {**value, "openrouter_metadata": block}
