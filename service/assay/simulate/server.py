"""Simulated providers on a socket: their completions, and routes to watch and control them."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from http import HTTPStatus
from random import Random
from typing import Any, Final, Literal

import msgspec
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from assay.simulate.answers import answer_request
from assay.simulate.behavior import ProviderBehavior, SimulationSettings, apply_changes
from assay.simulate.connection import (
    Caller,
    SimulatedAnswer,
    TransportSharingProtocol,
    error_envelope,
)  # fmt: skip

_BACKLOG: Final = 4096
_GRACE_SECONDS: Final = 1
_MAX_RECORDS: Final = 20_000
_KEY_HEADERS: Final = frozenset(
    {"authorization", "api-key", "x-api-key", "proxy-authorization", "cookie"}
)
_NOT_RECORDED: Final = frozenset({"messages", "tools"})
End = Literal["open", "sent", "cancelled"]


class RequestRecord(msgspec.Struct, kw_only=True):
    """One request, without the value of its key and without its messages and tools."""

    provider: str
    number: int  # among the provider's requests, from 1
    method: str
    path: str
    headers: dict[str, str]
    model: str
    stream: bool
    fields: dict[str, Any]
    messages: int
    tools: int
    fault: str | None = None
    bad_calls: int = 0  # tool calls in the answer that are bad on purpose
    end: End = "open"
    began: float  # seconds since 1970
    ended: float | None = None

    def close(self, end: End) -> None:
        """Record how the request ended, and when."""
        self.end, self.ended = end, time.time()


class RequestLog:
    """The newest requests, oldest first."""

    def __init__(self) -> None:
        self._records: deque[RequestRecord] = deque(maxlen=_MAX_RECORDS)
        self._numbers: Counter[str] = Counter()

    def record(self, provider: str, request: Request, body: object) -> RequestRecord:
        """Record a request when it arrives."""
        fields = body if isinstance(body, Mapping) else {}
        self._numbers[provider] += 1
        record = RequestRecord(
            provider=provider,
            number=self._numbers[provider],
            method=request.method,
            path=request.url.path,
            headers={
                name: _hash_key(text) if name in _KEY_HEADERS else text
                for name, text in request.headers.items()
            },
            model=str(fields.get("model", "")),
            stream=bool(fields.get("stream")),
            fields={name: value for name, value in fields.items() if name not in _NOT_RECORDED},
            messages=_length(fields.get("messages")),
            tools=_length(fields.get("tools")),
            began=time.time(),
        )
        self._records.append(record)
        return record

    def of(self, provider: str | None) -> list[RequestRecord]:
        """Return the requests of a provider, or all."""
        return [record for record in self._records if provider in (None, record.provider)]

    def clear(self) -> None:
        """Delete all records; the numbers of the providers go on."""
        self._records.clear()


def _length(items: object) -> int:
    return len(items) if isinstance(items, list) else 0


def _hash_key(text: str) -> str:
    """Return the SHA-256 of a key, without its scheme."""
    return "sha256:" + hashlib.sha256(text.removeprefix("Bearer ").encode()).hexdigest()


class SimulatedProviders:
    """The ASGI application for completions; the control routes use `providers` and `log`."""

    def __init__(self, settings: SimulationSettings) -> None:
        self.log = RequestLog()
        self.providers = dict(settings.providers or {})
        self._seed = settings.seed
        self._accepts_any_name = settings.providers is None

    def behavior_of(self, provider: str) -> ProviderBehavior | None:
        """Return the behavior of a provider; `None` for an unknown one."""
        return self.providers.get(provider, ProviderBehavior() if self._accepts_any_name else None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for a completion as its provider would."""
        caller = Caller(scope, receive, send)
        request = Request(scope, receive)
        provider = request.path_params["provider"]
        behavior = self.behavior_of(provider)
        try:
            body = orjson.loads(await request.body())
        except orjson.JSONDecodeError:
            body = None
        except ClientDisconnect:
            return
        record = self.log.record(provider, request, body)
        if behavior is None:
            await _reject(caller, 404, f"there is no simulated provider {provider!r}")
        elif not isinstance(body, dict) or not isinstance(body.get("messages"), list):
            await _reject(caller, 400, "expected a JSON object with `model` and `messages`")
        else:
            await self._answer(caller, record, body, behavior)
            return
        record.close("sent")

    async def _answer(
        self,
        caller: Caller,
        record: RequestRecord,
        body: dict[str, object],
        behavior: ProviderBehavior,
    ) -> None:
        """Send the answer, or a fault, until its end or until the caller disconnects."""
        draw = Random(f"{self._seed}/{record.provider}/{record.number}")  # noqa: S311 - seeded
        fault = behavior.choose_fault(draw)
        answer = answer_request(body, behavior, draw, int(time.time()))
        record.fault = str(type(fault).__struct_config__.tag) if fault else None
        record.bad_calls = 0 if fault else answer.bad_calls

        async def send() -> None:
            await _pause(behavior.latency_s, behavior, draw)
            if fault:
                await fault.send(caller, answer)
            else:
                await _send_answer(caller, answer, behavior, draw)

        disconnect = asyncio.ensure_future(caller.wait_for_disconnect())
        sending = asyncio.ensure_future(send())
        await asyncio.wait((disconnect, sending), return_when=asyncio.FIRST_COMPLETED)
        record.close("sent" if sending.done() and sending.exception() is None else "cancelled")
        for task in (disconnect, sending):
            task.cancel()
        await asyncio.gather(disconnect, sending, return_exceptions=True)


async def _pause(seconds: float, behavior: ProviderBehavior, draw: Random) -> None:
    if seconds:
        await asyncio.sleep(seconds * (1 + behavior.jitter * draw.uniform(-1, 1)))


async def _send_answer(
    caller: Caller, answer: SimulatedAnswer, behavior: ProviderBehavior, draw: Random
) -> None:
    await caller.start(200, answer.headers)
    await _pause(behavior.first_token_s, behavior, draw)
    for number, part in enumerate(answer.parts):
        if number:
            await _pause(behavior.chunk_s, behavior, draw)
        await caller.write(part)
    await caller.end()


async def _reject(caller: Caller, status: int, message: str) -> None:
    await caller.start(status, [("content-type", "application/json")])
    await caller.write(orjson.dumps(error_envelope(status, message)))
    await caller.end()


def _application(providers: SimulatedProviders) -> Starlette:
    async def list_providers(_request: Request) -> Response:
        return _json(providers.providers)

    async def change_provider(request: Request) -> Response:
        name = request.path_params["provider"]
        behavior = providers.behavior_of(name) or ProviderBehavior()
        try:
            changed = apply_changes(behavior, await request.body())
        except ValueError as error:
            envelope = error_envelope(HTTPStatus.BAD_REQUEST, str(error))
            return _json(envelope, HTTPStatus.BAD_REQUEST)
        providers.providers[name] = changed
        return _json(changed)

    async def list_requests(request: Request) -> Response:
        return _json(providers.log.of(request.query_params.get("provider")))

    async def clear_requests(_request: Request) -> Response:
        providers.log.clear()
        return _json([])

    return Starlette(
        routes=[
            Route("/control/providers", list_providers),
            Route("/control/providers/{provider}", change_provider, methods=["PATCH"]),
            Route("/control/requests", list_requests),
            Route("/control/requests", clear_requests, methods=["DELETE"]),
            Route("/{provider}/v1/chat/completions", providers, methods=["POST"]),
        ]
    )


def _json(value: object, status: int = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def serve(
    settings: SimulationSettings, listening: socket.socket, ready: Callable[[], None]
) -> None:
    """Answer requests until SIGTERM or Ctrl-C; from the call of `ready`, these stop it cleanly."""
    config = uvicorn.Config(
        _application(SimulatedProviders(settings)), http=TransportSharingProtocol, ws="none",
        lifespan="off", backlog=_BACKLOG, log_config=None, log_level="critical", access_log=False,
        server_header=False, timeout_graceful_shutdown=_GRACE_SECONDS,
    )  # fmt: skip
    server = uvicorn.Server(config)
    # uvicorn handles signals only while it serves: one must not get lost before, and uvicorn raises
    # it once more at its end.
    before = {
        number: signal.signal(number, server.handle_exit)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        ready()
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
