"""What goes wrong, fault by fault: each is played on the wire in place of the answer that was to be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

import orjson

from assay.simulate import behavior as kinds
from assay.simulate.answers import COMMENT, DONE, SimulatedAnswer, choice_of, chunk, error, event
from assay.simulate.connection import CallerConnection

COMMENT_EVERY: Final = 0.05  # seconds
LUMP: Final = 65_536  # bytes
NOISE: Final = Random(0).randbytes(4_096)  # noqa: S311 - the same every time

Play = Callable[[Any, CallerConnection, SimulatedAnswer], Awaitable[None]]


def struck(faults: tuple[kinds.AnyFault, ...], draw: Random) -> kinds.AnyFault | None:
    """The fault that strikes a request, if one does."""
    at = draw.random()
    for fault in faults:
        if at < fault.share:
            return fault
        at -= fault.share
    return None


async def play(fault: kinds.AnyFault, wire: CallerConnection, whole: SimulatedAnswer) -> None:
    """Let a fault strike an answer."""
    await PLAYED[type(fault)](fault, wire, whole)


async def begin(fault: kinds.PartialAnswer, wire: CallerConnection, whole: SimulatedAnswer) -> None:
    """Begin as if all were well."""
    length = [] if whole.stream else [("content-length", str(len(whole.parts[0])))]
    await wire.start(200, [("content-type", whole.media_type), *length])
    for part in whole.first(fault.after):
        await wire.write(part)


async def status(fault: kinds.StatusFault, wire: CallerConnection, _whole: SimulatedAnswer) -> None:
    """An error in place of an answer."""
    wait = [] if fault.retry_after is None else [("retry-after", fault.retry_after)]
    await wire.start(fault.status, [("content-type", "application/json"), *wait])
    await wire.write(orjson.dumps(error(fault.status, f"{fault.words} {fault.status}")))
    await wire.end()


async def redirect(
    fault: kinds.RedirectFault, wire: CallerConnection, _whole: SimulatedAnswer
) -> None:
    """An answer that lies elsewhere."""
    await wire.start(307, [("location", fault.location)])
    await wire.end()


async def no_headers(
    _fault: kinds.NoHeadersFault, wire: CallerConnection, _whole: SimulatedAnswer
) -> None:
    """Silence."""
    await wire.gone()


async def dropped(
    _fault: kinds.DroppedFault, wire: CallerConnection, _whole: SimulatedAnswer
) -> None:
    """The end of the connection in place of an answer."""
    wire.transport.close()


async def stall(fault: kinds.StallFault, wire: CallerConnection, whole: SimulatedAnswer) -> None:
    """Silence after a beginning, or comments."""
    await begin(fault, wire, whole)
    while fault.comments:
        await wire.write(COMMENT)
        await asyncio.sleep(COMMENT_EVERY)
    await wire.gone()


async def cut(fault: kinds.CutFault, wire: CallerConnection, whole: SimulatedAnswer) -> None:
    """The end of the connection after a beginning."""
    await begin(fault, wire, whole)
    wire.transport.close()


async def half_closed(
    fault: kinds.HalfClosedFault, wire: CallerConnection, whole: SimulatedAnswer
) -> None:
    """The end of one side of the connection after a beginning."""
    await begin(fault, wire, whole)
    wire.transport.write_eof()
    await wire.gone()


async def error_event(
    fault: kinds.ErrorEventFault, wire: CallerConnection, whole: SimulatedAnswer
) -> None:
    """An error told in the answer."""
    told = error(fault.code, "simulated error")
    await wire.start(200, [("content-type", whole.media_type)])
    for part in whole.parts[: fault.after] if whole.stream else ():
        await wire.write(part)
    await wire.write(event(told) if whole.stream else orjson.dumps(told))
    await wire.end()


async def error_finish(
    fault: kinds.ErrorFinishFault, wire: CallerConnection, whole: SimulatedAnswer
) -> None:
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


async def empty(fault: kinds.EmptyFault, wire: CallerConnection, whole: SimulatedAnswer) -> None:
    """Nothing under a status that promises something."""
    await wire.start(200, [("content-type", whole.media_type)])
    if fault.done and whole.stream:
        await wire.write(DONE)
    await wire.end()


async def malformed(
    fault: kinds.MalformedFault, wire: CallerConnection, whole: SimulatedAnswer
) -> None:
    """JSON that breaks off before its end."""
    await wire.start(200, [("content-type", whole.media_type)])
    for part in whole.parts[: fault.after] if whole.stream else ():
        await wire.write(part)
    broken = whole.parts[min(fault.after, len(whole.parts) - 1)].rstrip()[:-1]
    await wire.write(broken + b"\n\n" + DONE * whole.stream)
    await wire.end()


async def garbage(
    _fault: kinds.GarbageFault, wire: CallerConnection, whole: SimulatedAnswer
) -> None:
    """Noise under a status that promises something."""
    await wire.start(200, [("content-type", whole.media_type)])
    await wire.write(NOISE)
    await wire.end()


async def not_http(
    _fault: kinds.NotHttpFault, wire: CallerConnection, _whole: SimulatedAnswer
) -> None:
    """Noise in place of everything."""
    wire.transport.write(NOISE)
    wire.transport.close()


async def endless_line(
    _fault: kinds.EndlessLineFault, wire: CallerConnection, whole: SimulatedAnswer
) -> None:
    """A line that goes on as long as it is listened to."""
    await wire.start(200, [("content-type", whole.media_type)])
    await wire.write(b'data: {"id":"' if whole.stream else b'{"id":"')
    while True:
        await wire.write(b"x" * LUMP)


PLAYED: Final[dict[type, Play]] = {
    kinds.StatusFault: status,
    kinds.RedirectFault: redirect,
    kinds.NoHeadersFault: no_headers,
    kinds.DroppedFault: dropped,
    kinds.StallFault: stall,
    kinds.CutFault: cut,
    kinds.HalfClosedFault: half_closed,
    kinds.ErrorEventFault: error_event,
    kinds.ErrorFinishFault: error_finish,
    kinds.EmptyFault: empty,
    kinds.MalformedFault: malformed,
    kinds.GarbageFault: garbage,
    kinds.NotHttpFault: not_http,
    kinds.EndlessLineFault: endless_line,
}
