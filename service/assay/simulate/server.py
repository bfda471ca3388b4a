"""The stage: requests come in, the provider they are for plays its part, and what was seen is taken down."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable, Mapping
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

from assay.simulate.answers import SimulatedAnswer, answer, error
from assay.simulate.behavior import ProviderBehavior, SimulationSettings, apply_changes
from assay.simulate.connection import CallerConnection, TransportSharingProtocol
from assay.simulate.faults import play, struck

KEPT: Final = 20_000  # requests; the oldest give way
KEY_HEADERS: Final = frozenset(
    {"authorization", "api-key", "x-api-key", "proxy-authorization", "cookie"}
)
UNSAID: Final = frozenset({"messages", "tools"})

End = Literal["open", "sent", "cancelled"]


class RequestRecord(msgspec.Struct, kw_only=True):
    """One request; the fields of its body save what was said and what was offered."""

    provider: str
    number: int  # among the provider's, from 1
    method: str
    path: str
    headers: dict[str, str]
    model: str
    stream: bool
    fields: dict[str, Any]
    messages: int
    tools: int
    fault: str | None = None
    end: End = "open"
    began: float  # seconds since 1970
    ended: float | None = None

    def close(self, end: End) -> None:
        """How it ended, and when."""
        self.end, self.ended = end, time.time()


class RequestLog:
    """Every request seen, oldest first."""

    def __init__(self) -> None:
        self._seen: deque[RequestRecord] = deque(maxlen=KEPT)
        self._numbers: dict[str, int] = {}

    def note(
        self,
        provider: str,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]],
        body: object,
    ) -> RequestRecord:
        """Take down a request as it comes in."""
        fields = body if isinstance(body, Mapping) else {}
        number = self._numbers[provider] = self._numbers.get(provider, 0) + 1
        seen = RequestRecord(
            provider=provider,
            number=number,
            method=method,
            path=path,
            headers={name: hashed(text) if name in KEY_HEADERS else text for name, text in headers},
            model=str(fields.get("model", "")),
            stream=bool(fields.get("stream")),
            fields={name: one for name, one in fields.items() if name not in UNSAID},
            messages=counted(fields.get("messages")),
            tools=counted(fields.get("tools")),
            began=time.time(),
        )
        self._seen.append(seen)
        return seen

    def of(self, provider: str | None) -> list[RequestRecord]:
        """The requests of a provider, or all."""
        return [seen for seen in self._seen if provider in (None, seen.provider)]

    def forget(self) -> None:
        """Let go of what was seen; numbers go on."""
        self._seen.clear()


def counted(items: object) -> int:
    """How many items a list has; none where there is no list."""
    return len(items) if isinstance(items, list) else 0


def hashed(text: str) -> str:
    """The SHA-256 of a key, without the scheme before it."""
    return "sha256:" + hashlib.sha256(text.removeprefix("Bearer ").encode()).hexdigest()


class SimulatedProviders:
    """Who plays, how, and what they saw."""

    def __init__(self, cast: SimulationSettings) -> None:
        self.book = RequestLog()
        self.seed = cast.seed
        self.open = cast.providers is None
        self.providers = dict(cast.providers or {})

    def behaviour(self, provider: str) -> ProviderBehavior | None:
        """How a provider behaves; `None` for one who does not play."""
        return self.providers.get(provider, ProviderBehavior() if self.open else None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for a completion, as its provider would."""
        wire = CallerConnection(scope, receive, send)
        request = Request(scope, receive)
        provider = request.path_params["provider"]
        behaviour = self.behaviour(provider)
        try:
            body = parsed(await request.body())
        except ClientDisconnect:
            return
        seen = self.book.note(
            provider, request.method, request.url.path, request.headers.items(), body
        )
        wrong = refusal(behaviour, body)
        if behaviour is None or not isinstance(body, dict) or wrong:
            await refuse(wire, *(wrong or (400, "the request has no body")))
            seen.close("sent")
            return
        await self.perform(wire, seen, body, behaviour)

    async def perform(
        self,
        wire: CallerConnection,
        seen: RequestRecord,
        body: dict[str, object],
        behaviour: ProviderBehavior,
    ) -> None:
        """Play to the end, or until the caller has gone."""
        draw = Random(f"{self.seed}/{seen.provider}/{seen.number}")  # noqa: S311 - chance that can be repeated
        fault = struck(behaviour.faults, draw)
        whole = answer(body, behaviour, draw, int(time.time()))
        seen.fault = str(type(fault).__struct_config__.tag) if fault else None
        pace = JitteredPause(behaviour, draw)
        gone = asyncio.ensure_future(wire.gone())

        async def part() -> None:
            await pace.wait(behaviour.latency_s)
            await (
                play(fault, wire, whole) if fault else perform_well(wire, whole, behaviour, pace)
            )

        playing = asyncio.ensure_future(part())
        await asyncio.wait((gone, playing), return_when=asyncio.FIRST_COMPLETED)
        seen.close("sent" if playing.done() and playing.exception() is None else "cancelled")
        for task in (gone, playing):
            task.cancel()
        await asyncio.gather(gone, playing, return_exceptions=True)


class JitteredPause:
    """Waits, each a little off by chance."""

    def __init__(self, behaviour: ProviderBehavior, draw: Random) -> None:
        self._jitter = behaviour.jitter
        self._draw = draw

    async def wait(self, seconds: float) -> None:
        """Wait about so long; not at all for none."""
        if seconds:
            await asyncio.sleep(seconds * (1 + self._jitter * self._draw.uniform(-1, 1)))


async def perform_well(
    wire: CallerConnection, whole: SimulatedAnswer, behaviour: ProviderBehavior, pace: JitteredPause
) -> None:
    """Send a whole answer."""
    length = [] if whole.stream else [("content-length", str(len(whole.parts[0])))]
    await wire.start(200, [("content-type", whole.media_type), *length])
    await pace.wait(behaviour.first_token_s)
    for number, part in enumerate(whole.parts):
        if number:
            await pace.wait(behaviour.chunk_s)
        await wire.write(part)
    await wire.end()


def parsed(raw: bytes) -> object:
    """A body's JSON; `None` for what is none."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def refusal(behaviour: ProviderBehavior | None, body: object) -> tuple[int, str] | None:
    """Why a request cannot be answered, with its status."""
    if behaviour is None:
        return 404, "no such provider plays here"
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        return 400, "a JSON object with `model` and `messages` was expected"
    return None


async def refuse(wire: CallerConnection, status: int, words: str) -> None:
    """Say what is wrong with a request."""
    await wire.start(status, [("content-type", "application/json")])
    await wire.write(msgspec.json.encode(error(status, words)))
    await wire.end()


def application(stage: SimulatedProviders) -> Starlette:
    """Everything that one process answers."""

    async def providers(_request: Request) -> Response:
        return json(stage.providers)

    async def change(request: Request) -> Response:
        name = request.path_params["provider"]
        try:
            stage.providers[name] = apply_changes(
                stage.behaviour(name) or ProviderBehavior(), await request.body()
            )
        except ValueError as fault:
            return json(error(HTTPStatus.BAD_REQUEST, str(fault)), HTTPStatus.BAD_REQUEST)
        return json(stage.providers[name])

    async def requests(request: Request) -> Response:
        return json(stage.book.of(request.query_params.get("provider")))

    async def forget(_request: Request) -> Response:
        stage.book.forget()
        return json([])

    return Starlette(
        routes=[
            Route("/control/providers", providers),
            Route("/control/providers/{provider}", change, methods=["PATCH"]),
            Route("/control/requests", requests),
            Route("/control/requests", forget, methods=["DELETE"]),
            Route("/{provider}/v1/chat/completions", stage, methods=["POST"]),
        ]
    )


def json(value: object, status: int = HTTPStatus.OK) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


BACKLOG = 4096  # connections that may wait to be accepted
GRACE = 1  # seconds that answers under way have at the end


def listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections from now on; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def perform(cast: SimulationSettings, taken: socket.socket) -> None:
    """Play until SIGTERM or Ctrl-C."""
    config = uvicorn.Config(
        application(SimulatedProviders(cast)),
        http=TransportSharingProtocol,
        ws="none",
        lifespan="off",
        backlog=BACKLOG,
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    before = signal.signal(
        signal.SIGTERM, lambda *_: None
    )  # uvicorn raises it once more when it is done
    try:
        uvicorn.Server(config).run(sockets=[taken])
    finally:
        signal.signal(signal.SIGTERM, before)
