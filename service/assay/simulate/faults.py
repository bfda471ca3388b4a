"""Send the wrong answer of each kind of fault."""

from __future__ import annotations

import asyncio
from functools import singledispatch
from random import Random
from typing import Final

import orjson

from assay.simulate.answers import (
    COMMENT,
    DONE,
    SimulatedAnswer,
    encode_chunk,
    encode_event,
    error_envelope,
    streamed_choice,
)  # fmt: skip
from assay.simulate.behavior import (
    AnyFault,
    CutFault,
    DroppedFault,
    EmptyFault,
    EndlessLineFault,
    ErrorEventFault,
    ErrorFinishFault,
    GarbageFault,
    HalfClosedFault,
    InjectedFault,
    MalformedFault,
    NoHeadersFault,
    NotHttpFault,
    PartialAnswer,
    RedirectFault,
    StallFault,
    StatusFault,
)  # fmt: skip
from assay.simulate.connection import Caller

_COMMENT_SECONDS: Final = 0.05
_LINE_PART: Final = b"x" * 65_536
_NOISE: Final = Random(0).randbytes(4_096)  # noqa: S311 - the same bytes every time


def choose_fault(faults: tuple[AnyFault, ...], draw: Random) -> AnyFault | None:
    """Return the fault that a request gets, if any."""
    point = draw.random()
    for fault in faults:
        if point < fault.share:
            return fault
        point -= fault.share
    return None


@singledispatch
async def send_fault(fault: InjectedFault, _caller: Caller, _answer: SimulatedAnswer) -> None:
    """Send the wrong answer of a fault instead of `answer`."""
    raise TypeError(f"no way to send {type(fault).__name__}")


async def _start(caller: Caller, answer: SimulatedAnswer) -> None:
    await caller.start(200, [("content-type", answer.media_type)])


async def _send_beginning(fault: PartialAnswer, caller: Caller, answer: SimulatedAnswer) -> None:
    await caller.start(200, answer.headers)
    await caller.write(*answer.beginning(fault.after))


@send_fault.register
async def _status(fault: StatusFault, caller: Caller, _answer: SimulatedAnswer) -> None:
    wait = [] if fault.retry_after is None else [("retry-after", fault.retry_after)]
    await caller.start(fault.status, [("content-type", "application/json"), *wait])
    error = error_envelope(fault.status, f"{fault.words} {fault.status}")
    await caller.write(orjson.dumps(error))
    await caller.end()


@send_fault.register
async def _redirect(fault: RedirectFault, caller: Caller, _answer: SimulatedAnswer) -> None:
    await caller.start(307, [("location", fault.location)])
    await caller.end()


@send_fault.register
async def _no_headers(_: NoHeadersFault, caller: Caller, _answer: SimulatedAnswer) -> None:
    await caller.wait_for_disconnect()


@send_fault.register
async def _dropped(_: DroppedFault, caller: Caller, _answer: SimulatedAnswer) -> None:
    caller.transport.close()


@send_fault.register
async def _stall(fault: StallFault, caller: Caller, answer: SimulatedAnswer) -> None:
    await _send_beginning(fault, caller, answer)
    while fault.comments:
        await caller.write(COMMENT)
        await asyncio.sleep(_COMMENT_SECONDS)
    await caller.wait_for_disconnect()


@send_fault.register
async def _cut(fault: CutFault, caller: Caller, answer: SimulatedAnswer) -> None:
    await _send_beginning(fault, caller, answer)
    caller.transport.close()


@send_fault.register
async def _half_closed(fault: HalfClosedFault, caller: Caller, answer: SimulatedAnswer) -> None:
    await _send_beginning(fault, caller, answer)
    caller.transport.write_eof()
    await caller.wait_for_disconnect()


@send_fault.register
async def _error_event(fault: ErrorEventFault, caller: Caller, answer: SimulatedAnswer) -> None:
    error = error_envelope(fault.code, "simulated error")
    await _start(caller, answer)
    await caller.write(*answer.events(fault.after))
    await caller.write(encode_event(error) if answer.stream else orjson.dumps(error))
    await caller.end()


@send_fault.register
async def _error_finish(fault: ErrorFinishFault, caller: Caller, answer: SimulatedAnswer) -> None:
    await _start(caller, answer)
    if answer.stream:
        last = encode_chunk({"id": "chatcmpl-0"}, choices=[streamed_choice({}, "error")])
        await caller.write(*answer.events(fault.after), last, DONE)
    else:
        body = orjson.loads(answer.parts[0])
        body["choices"][0]["finish_reason"] = "error"
        await caller.write(orjson.dumps(body))
    await caller.end()


@send_fault.register
async def _empty(fault: EmptyFault, caller: Caller, answer: SimulatedAnswer) -> None:
    await _start(caller, answer)
    if fault.done and answer.stream:
        await caller.write(DONE)
    await caller.end()


@send_fault.register
async def _malformed(fault: MalformedFault, caller: Caller, answer: SimulatedAnswer) -> None:
    await _start(caller, answer)
    broken = answer.parts[min(fault.after, len(answer.parts) - 1)].rstrip()[:-1]
    await caller.write(*answer.events(fault.after), broken + b"\n\n" + DONE * answer.stream)
    await caller.end()


@send_fault.register
async def _garbage(_: GarbageFault, caller: Caller, answer: SimulatedAnswer) -> None:
    await _start(caller, answer)
    await caller.write(_NOISE)
    await caller.end()


@send_fault.register
async def _not_http(_: NotHttpFault, caller: Caller, _answer: SimulatedAnswer) -> None:
    caller.transport.write(_NOISE)
    caller.transport.close()


@send_fault.register
async def _endless_line(_: EndlessLineFault, caller: Caller, answer: SimulatedAnswer) -> None:
    await _start(caller, answer)
    await caller.write(b'data: {"id":"' if answer.stream else b'{"id":"')
    while True:
        await caller.write(_LINE_PART)
