"""What goes wrong, fault by fault: each is played on the wire in place of the answer that was to be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

import orjson

from assay.simulate import behaviour as kinds
from assay.simulate.answers import COMMENT, DONE, Answer, choice_of, chunk, error, event
from assay.simulate.wire import Wire

COMMENT_EVERY: Final = 0.05  # seconds
LUMP: Final = 65_536  # bytes
NOISE: Final = Random(0).randbytes(4_096)  # noqa: S311 - the same every time

Play = Callable[[Any, Wire, Answer], Awaitable[None]]


def struck(faults: tuple[kinds.AnyFault, ...], draw: Random) -> kinds.AnyFault | None:
    """The fault that strikes a request, if one does."""
    at = draw.random()
    for fault in faults:
        if at < fault.share:
            return fault
        at -= fault.share
    return None


async def play(fault: kinds.AnyFault, wire: Wire, whole: Answer) -> None:
    """Let a fault strike an answer."""
    await PLAYED[type(fault)](fault, wire, whole)


async def begin(fault: kinds.Partial, wire: Wire, whole: Answer) -> None:
    """Begin as if all were well."""
    length = [] if whole.stream else [("content-length", str(len(whole.parts[0])))]
    await wire.start(200, [("content-type", whole.media_type), *length])
    for part in whole.first(fault.after):
        await wire.write(part)


async def status(fault: kinds.Status, wire: Wire, _whole: Answer) -> None:
    """An error in place of an answer."""
    wait = [] if fault.retry_after is None else [("retry-after", fault.retry_after)]
    await wire.start(fault.status, [("content-type", "application/json"), *wait])
    await wire.write(orjson.dumps(error(fault.status, f"{fault.words} {fault.status}")))
    await wire.end()


async def redirect(fault: kinds.Redirect, wire: Wire, _whole: Answer) -> None:
    """An answer that lies elsewhere."""
    await wire.start(307, [("location", fault.location)])
    await wire.end()


async def no_headers(_fault: kinds.NoHeaders, wire: Wire, _whole: Answer) -> None:
    """Silence."""
    await wire.gone()


async def dropped(_fault: kinds.Dropped, wire: Wire, _whole: Answer) -> None:
    """The end of the connection in place of an answer."""
    wire.transport.close()


async def stall(fault: kinds.Stall, wire: Wire, whole: Answer) -> None:
    """Silence after a beginning, or comments."""
    await begin(fault, wire, whole)
    while fault.comments:
        await wire.write(COMMENT)
        await asyncio.sleep(COMMENT_EVERY)
    await wire.gone()


async def cut(fault: kinds.Cut, wire: Wire, whole: Answer) -> None:
    """The end of the connection after a beginning."""
    await begin(fault, wire, whole)
    wire.transport.close()


async def half_closed(fault: kinds.HalfClosed, wire: Wire, whole: Answer) -> None:
    """The end of one side of the connection after a beginning."""
    await begin(fault, wire, whole)
    wire.transport.write_eof()
    await wire.gone()


async def error_event(fault: kinds.ErrorEvent, wire: Wire, whole: Answer) -> None:
    """An error told in the answer."""
    told = error(fault.code, "simulated error")
    await wire.start(200, [("content-type", whole.media_type)])
    for part in whole.parts[: fault.after] if whole.stream else ():
        await wire.write(part)
    await wire.write(event(told) if whole.stream else orjson.dumps(told))
    await wire.end()


async def error_finish(fault: kinds.ErrorFinish, wire: Wire, whole: Answer) -> None:
    """An answer that ends in an error of its own."""
    await wire.start(200, [("content-type", whole.media_type)])
    if whole.stream:
        for part in (
            *whole.parts[: fault.after],
            chunk({"id": "chatcmpl-0"}, choices=[choice_of({}, "error")]),
            DONE,
        ):
            await wire.write(part)
    else:
        body = orjson.loads(whole.parts[0])
        body["choices"][0]["finish_reason"] = "error"
        await wire.write(orjson.dumps(body))
    await wire.end()


async def empty(fault: kinds.Empty, wire: Wire, whole: Answer) -> None:
    """Nothing under a status that promises something."""
    await wire.start(200, [("content-type", whole.media_type)])
    if fault.done and whole.stream:
        await wire.write(DONE)
    await wire.end()


async def malformed(fault: kinds.Malformed, wire: Wire, whole: Answer) -> None:
    """JSON that breaks off before its end."""
    await wire.start(200, [("content-type", whole.media_type)])
    for part in whole.parts[: fault.after] if whole.stream else ():
        await wire.write(part)
    broken = whole.parts[min(fault.after, len(whole.parts) - 1)].rstrip()[:-1]
    await wire.write(broken + b"\n\n" + DONE * whole.stream)
    await wire.end()


async def garbage(_fault: kinds.Garbage, wire: Wire, whole: Answer) -> None:
    """Noise under a status that promises something."""
    await wire.start(200, [("content-type", whole.media_type)])
    await wire.write(NOISE)
    await wire.end()


async def not_http(_fault: kinds.NotHttp, wire: Wire, _whole: Answer) -> None:
    """Noise in place of everything."""
    wire.transport.write(NOISE)
    wire.transport.close()


async def endless_line(_fault: kinds.EndlessLine, wire: Wire, whole: Answer) -> None:
    """A line that goes on as long as it is listened to."""
    await wire.start(200, [("content-type", whole.media_type)])
    await wire.write(b'data: {"id":"' if whole.stream else b'{"id":"')
    while True:
        await wire.write(b"x" * LUMP)


PLAYED: Final[dict[type, Play]] = {
    kinds.Status: status,
    kinds.Redirect: redirect,
    kinds.NoHeaders: no_headers,
    kinds.Dropped: dropped,
    kinds.Stall: stall,
    kinds.Cut: cut,
    kinds.HalfClosed: half_closed,
    kinds.ErrorEvent: error_event,
    kinds.ErrorFinish: error_finish,
    kinds.Empty: empty,
    kinds.Malformed: malformed,
    kinds.Garbage: garbage,
    kinds.NotHttp: not_http,
    kinds.EndlessLine: endless_line,
}
