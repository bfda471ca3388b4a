"""The stage: requests come in, the provider they are for plays its part, and what was seen is taken down."""

from __future__ import annotations

import asyncio
import time
from random import Random

import msgspec
import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from assay.simulate.answers import Answer, answer, error
from assay.simulate.behaviour import Behaviour, Cast
from assay.simulate.faults import play, struck
from assay.simulate.seen import Book, Seen
from assay.simulate.wire import Wire


class Stage:
    """Who plays, how, and what they saw."""

    def __init__(self, cast: Cast) -> None:
        self.book = Book()
        self.seed = cast.seed
        self.open = cast.providers is None
        self.providers = dict(cast.providers or {})

    def behaviour(self, provider: str) -> Behaviour | None:
        """How a provider behaves; `None` for one who does not play."""
        return self.providers.get(provider, Behaviour() if self.open else None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for a completion, as its provider would."""
        wire = Wire(scope, receive, send)
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
        self, wire: Wire, seen: Seen, body: dict[str, object], behaviour: Behaviour
    ) -> None:
        """Play to the end, or until the caller has gone."""
        draw = Random(f"{self.seed}/{seen.provider}/{seen.number}")  # noqa: S311 - chance that can be repeated
        fault = struck(behaviour.faults, draw)
        whole = answer(body, behaviour, draw, int(time.time()))
        seen.fault = str(type(fault).__struct_config__.tag) if fault else None
        pace = Pace(behaviour, draw)
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


class Pace:
    """Waits, each a little off by chance."""

    def __init__(self, behaviour: Behaviour, draw: Random) -> None:
        self._jitter = behaviour.jitter
        self._draw = draw

    async def wait(self, seconds: float) -> None:
        """Wait about so long; not at all for none."""
        if seconds:
            await asyncio.sleep(seconds * (1 + self._jitter * self._draw.uniform(-1, 1)))


async def perform_well(wire: Wire, whole: Answer, behaviour: Behaviour, pace: Pace) -> None:
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


def refusal(behaviour: Behaviour | None, body: object) -> tuple[int, str] | None:
    """Why a request cannot be answered, with its status."""
    if behaviour is None:
        return 404, "no such provider plays here"
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        return 400, "a JSON object with `model` and `messages` was expected"
    return None


async def refuse(wire: Wire, status: int, words: str) -> None:
    """Say what is wrong with a request."""
    await wire.start(status, [("content-type", "application/json")])
    await wire.write(msgspec.json.encode(error(status, words)))
    await wire.end()
