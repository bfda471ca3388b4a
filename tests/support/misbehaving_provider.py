"""Misbehaving providers: one server, in which the name of each provider says how it behaves."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64decode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

DEADLINE_SECONDS = 20.0
KEY = "canary-key-of-the-provider"


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {
        "id": "c-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "theirs",
        "choices": [choice],
        **more,
    }
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def answer(message: dict[str, Any], finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    value = {
        "id": "c-1",
        "object": "chat.completion",
        "created": 7,
        "model": "theirs",
        "choices": [choice],
    }
    return json.dumps({**value, "usage": usage}).encode()


def call(arguments: str, name: str = "add") -> dict[str, Any]:
    return {
        "content": None,
        "tool_calls": [
            {"id": "t", "type": "function", "function": {"name": name, "arguments": arguments}}
        ],
    }


ROLE = chunk({"role": "assistant", "content": ""})
TEXT = (chunk({"content": "Hel"}), chunk({"content": 'lo "you"'}), chunk({"content": " there"}))
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
LAST = (
    chunk({}, "stop"),
    chunk({}, None, usage=USAGE).replace(b'[{"index":0,"delta":{},"finish_reason":null}]', b"[]"),
)
DONE = b"data: [DONE]\n\n"
GOOD = (ROLE, *TEXT, *LAST, DONE)
PIECES = ('{"a"', ": 1", "}")
CALLS = (
    chunk(
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "t",
                    "type": "function",
                    "function": {"name": "add", "arguments": ""},
                }
            ]
        }
    ),
    *(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in PIECES),
    chunk({}, "tool_calls"),
)


@dataclass
class Exchange:
    """One request at a provider."""

    provider: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter
    gone: threading.Event

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    async def head(self, status: int, *headers: str) -> None:
        self.writer.write("\r\n".join([f"HTTP/1.1 {status} Status", *headers, "", ""]).encode())
        await self.writer.drain()

    async def whole(
        self, status: int, body: bytes, *headers: str, kind: str = "application/json"
    ) -> None:
        await self.head(status, f"content-type: {kind}", f"content-length: {len(body)}", *headers)
        self.writer.write(body)

    async def begin(self) -> None:
        await self.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")

    async def events(self, *events: bytes) -> None:
        for event in events:
            self.writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")

    async def streamed(self, *events: bytes) -> None:
        await self.begin()
        await self.events(*events)
        await self.end()


async def good(x: Exchange) -> None:
    await (x.streamed(*GOOD) if x.stream else x.whole(200, answer({"content": "Hello"})))


async def hang(x: Exchange) -> None:
    await asyncio.to_thread(x.gone.wait, DEADLINE_SECONDS)


async def stall(x: Exchange) -> None:
    await x.begin()
    await x.events(ROLE)
    await hang(x)


async def cut(x: Exchange) -> None:
    if x.stream:
        await x.begin()
        await x.events(ROLE, *TEXT, b'data: {"id": "half')
    else:
        await x.head(200, "content-length: 1000")
        x.writer.write(b'{"choices": [')
    x.writer.close()


async def silent(x: Exchange) -> None:
    await x.begin()
    await x.events(ROLE, *TEXT)
    await hang(x)


async def drop(x: Exchange) -> None:
    x.writer.close()


ANSWERED_ONCE: WeakSet[asyncio.StreamWriter] = WeakSet()


async def once(x: Exchange) -> None:
    """Answer the first request of a connection, and close it at the next one."""
    if x.writer in ANSWERED_ONCE:
        x.writer.close()
        return
    ANSWERED_ONCE.add(x.writer)
    await good(x)


async def nothttp(x: Exchange) -> None:
    x.writer.write(b"garbage\r\n\r\n")


async def slow(x: Exchange) -> None:
    await asyncio.sleep(0.5)
    await good(x)


async def endless(x: Exchange) -> None:
    await x.begin()
    with suppress(ConnectionError):
        while not x.gone.is_set():
            await x.events(*TEXT * 50)


Behavior = Callable[[Exchange], Awaitable[None]]


def status(code: int, *headers: str, message: str = f"no: {KEY}") -> Behavior:
    return lambda x: x.whole(code, json.dumps({"error": {"message": message}}).encode(), *headers)


def both(events: tuple[bytes, ...], body: bytes) -> Behavior:
    async def behave(x: Exchange) -> None:
        await (x.streamed(*events) if x.stream else x.whole(200, body))

    return behave


async def scripted(x: Exchange) -> None:
    """Send the bytes that the request asks for."""
    data = b64decode(x.body["x_sends"])
    await (x.streamed(data) if x.stream else x.whole(200, data))


async def broken(x: Exchange) -> None:
    """Send the bytes that the request asks for as a stream, and break off."""
    await x.begin()
    await x.events(b64decode(x.body["x_sends"]))
    x.writer.close()


async def quiet(x: Exchange) -> None:
    """Send the bytes that the request asks for as a stream, and no end."""
    await x.begin()
    await x.events(b64decode(x.body["x_sends"]))
    await hang(x)


ERROR = {"error": {"message": "overloaded", "code": "overloaded_error"}}
ERROR_429 = {"error": {"message": "slow down", "code": 429}}
KEY_ERROR = {"error": {"message": f"API key not valid: {KEY}", "code": 400}}
BEHAVIORS: dict[str, Behavior] = {
    "good": good,
    "other": good,
    "hang": hang,
    "stall": stall,
    "cut": cut,
    "silent": silent,
    "slow": slow,
    "endless": endless,
    "flood": endless,
    "forever": hang,
    "mute": stall,
    "drop": drop,
    "once": once,
    "s400": status(400, message="the context is too long"),
    "blank400": lambda x: x.whole(400, b""),
    "html400": lambda x: x.whole(400, b"<html>Bad Request</html>", kind="text/html"),
    "html413": lambda x: x.whole(413, b"<html>Too Large</html>", kind="text/html"),
    "key400": status(400, message=f"API key not valid: {KEY}"),
    "quota403": status(403, message="insufficient_user_quota"),
    "key_in_answer": both(
        (b"data: " + json.dumps(KEY_ERROR).encode() + b"\n\n",), json.dumps(KEY_ERROR).encode()
    ),
    "noseed": status(422, message="extra fields not permitted: seed"),
    "s401": status(401),
    "s402": status(402),
    "s403": status(403, message="moderated"),
    "s404": status(404),
    "s413": status(413, message="too long"),
    "s422": status(422, message="odd"),
    "s429": status(429, "retry-after: 7"),
    "s429b": status(429, "retry-after: 3"),
    "s500": status(500),
    "s529": status(529),
    "redirect": lambda x: x.whole(307, b"", "location: http://127.0.0.1:1/"),
    "garbage": both((b"data: {nonsense\n\n", DONE), b'{"choices": ['),
    "nothttp": nothttp,
    "gzip": lambda x: x.whole(200, b"\x1f\x8b", "content-encoding: gzip"),
    "empty": both(
        (), answer({"content": "x"}).replace(b'"choices": [{', b'"choices": [], "x": [{')
    ),
    "onlydone": both((DONE,), b"{}"),
    "error": both((b"data: " + json.dumps(ERROR).encode() + b"\n\n",), json.dumps(ERROR).encode()),
    "error429": both(
        (b"data: " + json.dumps(ERROR_429).encode() + b"\n\n",), json.dumps(ERROR_429).encode()
    ),
    "jsonerror": lambda x: x.whole(200, json.dumps(ERROR_429, indent=1).encode()),
    "unstreamed": lambda x: x.whole(200, answer({"content": "Hello"})),
    "late_error": both((ROLE, *TEXT, b"data: " + json.dumps(ERROR).encode() + b"\n\n"), b"{}"),
    "late_garbage": both((ROLE, *TEXT, b"data: {nonsense\n\n", *LAST), b"{}"),
    "unended": both((ROLE, *TEXT, *LAST), answer({"content": "Hello"})),
    "crlf": both(
        tuple(event.replace(b"\n", b"\r\n") for event in GOOD), answer({"content": "Hello"})
    ),
    "calls": both((ROLE, *CALLS, DONE), answer(call('{"a": 1}'), "tool_calls")),
    "badcalls": both(
        (ROLE, *(c.replace(b": 1", b"= 1") for c in CALLS), DONE), answer(call("{"), "tool_calls")
    ),
    "scripted": scripted,
    "broken": broken,
    "quiet": quiet,
    "huge": both((ROLE, b"data: " + b"x" * 1_200_000), b'"' + b"x" * 34_000_000 + b'"'),
}


class Provider:
    """All providers on one port; the path selects one, and requests are recorded."""

    def __init__(self) -> None:
        self.seen: list[Exchange] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.port = 0
        ready = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(ready,))
        self.thread.start()
        assert ready.wait(DEADLINE_SECONDS)

    def run(self, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:
            runner.run(self.listen(ready))

    async def listen(self, ready: threading.Event) -> None:
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.connected, "127.0.0.1", 0, limit=1 << 26)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self.stopped.wait()
        server.close()
        for writer in self.writers:
            writer.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for writer in self.writers:
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.tasks.append(asyncio.current_task())  # type: ignore[arg-type] # inside a task
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                x = Exchange(first.split("/")[1], headers, body, writer, threading.Event())
                self.seen.append(x)
                watch = asyncio.ensure_future(self.watch(reader, x))
                self.tasks.append(watch)
                await BEHAVIORS[x.provider](x)
                if writer.is_closing():
                    return
                watch.cancel()
                with suppress(asyncio.CancelledError):
                    await watch

    async def watch(self, reader: asyncio.StreamReader, x: Exchange) -> None:
        while not reader.at_eof() and not reader.exception():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        x.gone.set()

    def stop(self) -> None:
        for x in self.seen:
            x.gone.set()
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join(DEADLINE_SECONDS)
