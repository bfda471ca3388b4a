"""Faults of simulated providers, and how each sends its wrong answer."""

# ruff: noqa: ARG002, D102 - each class says what it sends, and few faults need the answer

from __future__ import annotations

import asyncio
from random import Random
from typing import Annotated, Final

import msgspec
import orjson
from msgspec import Meta

from assay.simulate.connection import (
    COMMENT,
    DONE,
    Caller,
    SimulatedAnswer,
    encode_chunk,
    encode_event,
    error_envelope,
    streamed_choice,
)  # fmt: skip

_COMMENT_SECONDS: Final = 0.05
_LINE_PART: Final = b"x" * 65_536
_NOISE: Final = Random(0).randbytes(4_096)  # noqa: S311 - the same bytes every time
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=0, le=100_000)]


class InjectedFault(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"
):
    """A fault that a share of the requests gets; each kind sends its wrong answer in `send`."""

    share: Share = 1.0


class StatusFault(InjectedFault, frozen=True, tag="status"):
    """Answers with an error status and message, and optionally with `Retry-After`."""

    status: Annotated[int, Meta(ge=400, le=599)]
    retry_after: str | None = None
    words: str = "simulated status"

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        wait = [] if self.retry_after is None else [("retry-after", self.retry_after)]
        await caller.start(self.status, [("content-type", "application/json"), *wait])
        error = error_envelope(self.status, f"{self.words} {self.status}")
        await caller.write(orjson.dumps(error))
        await caller.end()


class RedirectFault(InjectedFault, frozen=True, tag="redirect"):
    """Redirects the caller."""

    location: str

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        await caller.start(307, [("location", self.location)])
        await caller.end()


class NoHeadersFault(InjectedFault, frozen=True, tag="no_headers"):
    """Accepts the request and sends nothing."""

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        await caller.wait_for_disconnect()


class DroppedFault(InjectedFault, frozen=True, tag="dropped"):
    """Accepts the request and closes the connection."""

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        caller.transport.close()


class PartialAnswer(InjectedFault, frozen=True):
    """Sends `after` events first, or half of a JSON answer if `after` is not zero."""

    after: Count = 0

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        await caller.start(200, answer.headers)
        await caller.write(*answer.beginning(self.after))


class StallFault(PartialAnswer, frozen=True, tag="stall"):
    """Stops without ending; with `comments` it sends keep-alive comments forever."""

    comments: bool = False

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        await PartialAnswer.send(self, caller, answer)
        while self.comments:
            await caller.write(COMMENT)
            await asyncio.sleep(_COMMENT_SECONDS)
        await caller.wait_for_disconnect()


class CutFault(PartialAnswer, frozen=True, tag="cut"):
    """Closes the connection."""

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        await PartialAnswer.send(self, caller, answer)
        caller.transport.close()


class HalfClosedFault(PartialAnswer, frozen=True, tag="half_closed"):
    """Closes only its own side of the connection."""

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        await PartialAnswer.send(self, caller, answer)
        caller.transport.write_eof()
        await caller.wait_for_disconnect()


class ErrorEventFault(PartialAnswer, frozen=True, tag="error_event"):
    """Sends an error with status 200: as an event, or instead of the whole JSON answer."""

    code: int | None = None

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        error = error_envelope(self.code, "simulated error")
        await caller.start(200, [("content-type", answer.media_type)])
        await caller.write(*answer.events(self.after))
        await caller.write(encode_event(error) if answer.stream else orjson.dumps(error))
        await caller.end()


class ErrorFinishFault(PartialAnswer, frozen=True, tag="error_finish"):
    """Ends with `finish_reason: error`."""

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        await caller.start(200, [("content-type", answer.media_type)])
        if answer.stream:
            last = encode_chunk({"id": "chatcmpl-0"}, choices=[streamed_choice({}, "error")])
            await caller.write(*answer.events(self.after), last, DONE)
        else:
            body = orjson.loads(answer.parts[0])
            body["choices"][0]["finish_reason"] = "error"
            await caller.write(orjson.dumps(body))
        await caller.end()


class EmptyFault(InjectedFault, frozen=True, tag="empty"):
    """Sends status 200 without a body; with `done` a stream still ends with `[DONE]`."""

    done: bool = False

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        await caller.start(200, [("content-type", answer.media_type)])
        if self.done and answer.stream:
            await caller.write(DONE)
        await caller.end()


class MalformedFault(PartialAnswer, frozen=True, tag="malformed"):
    """Sends incomplete JSON."""

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        await caller.start(200, [("content-type", answer.media_type)])
        broken = answer.parts[min(self.after, len(answer.parts) - 1)].rstrip()[:-1]
        await caller.write(*answer.events(self.after), broken + b"\n\n" + DONE * answer.stream)
        await caller.end()


class GarbageFault(InjectedFault, frozen=True, tag="garbage"):
    """Sends random bytes as the body."""

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        await caller.start(200, [("content-type", answer.media_type)])
        await caller.write(_NOISE)
        await caller.end()


class NotHttpFault(InjectedFault, frozen=True, tag="not_http"):
    """Sends random bytes instead of status and headers."""

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        caller.transport.write(_NOISE)
        caller.transport.close()


class EndlessLineFault(InjectedFault, frozen=True, tag="endless_line"):
    """Sends a line, or a JSON body, that never ends."""

    async def send(self, caller: Caller, answer: SimulatedAnswer) -> None:
        await caller.start(200, [("content-type", answer.media_type)])
        await caller.write(b'data: {"id":"' if answer.stream else b'{"id":"')
        while True:
            await caller.write(_LINE_PART)


AnyFault = (
    StatusFault | RedirectFault | NoHeadersFault | DroppedFault | StallFault | CutFault
    | HalfClosedFault | ErrorEventFault | ErrorFinishFault | EmptyFault | MalformedFault
    | GarbageFault | NotHttpFault | EndlessLineFault
)  # fmt: skip
