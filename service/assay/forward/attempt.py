"""One attempt at one endpoint: sent, awaited within its times, handed on, and told as an outcome."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import perf_counter, time_ns
from typing import Any, Final

import aiohttp
import orjson

from assay.forward.answer_summary import AnswerSummary
from assay.forward.reply import SseReply
from assay.forward.request import ChatRequest, EndpointCapabilities
from assay.forward.settings import ProviderConnection
from assay.forward.stream import MAX_EVENT_BYTES, ChunkRelay, EventSplitter, EventTooLong
from assay.forward.taxonomy import (
    ANSWER_LATE,
    CANCELLED,
    CUT,
    DROPPED,
    EMPTY,
    FIRST_TOKEN_LATE,
    HEADERS_LATE,
    MALFORMED,
    OK,
    SILENT,
    AttemptError,
)
from assay.forward.upstream import ProviderSession, read_whole
from assay.v1 import evidence_pb2, routing_pb2 as pb

LAZY: Final = 0.25  # a limit that moves with every block is moved this seldom, in parts of itself
DRAIN_SECONDS: Final = 1.0


class ProviderAttempt:
    """Made once; `late` is the failure that running out of time means at the moment."""

    def __init__(
        self,
        asked: ChatRequest,
        planned: pb.Attempt,
        provider: ProviderConnection,
        offer: EndpointCapabilities,
    ) -> None:
        self.planned = planned
        self.provider = provider
        self.account = AnswerSummary()
        self.chunks = ChunkRelay(self.account, {"model": planned.model, "provider": provider.name})
        self._asked = asked
        self._offer = offer
        self._loop = asyncio.get_running_loop()
        self._began = perf_counter()  # the loop's own clock is coarse, and good for limits alone
        self._first: float | None = None
        self._late = HEADERS_LATE if asked.stream else ANSWER_LATE
        self._response: aiohttp.ClientResponse | None = None
        self._held = b""
        self._moved = 0.0

    async def whole(self, upstream: ProviderSession, seconds: float) -> dict[str, Any]:
        """An answer that is not streamed; raises Failed."""
        try:
            async with asyncio.timeout(min(self.provider.timeouts.answer, seconds)):
                body = await read_whole(await self._post(upstream))
        except TimeoutError:
            raise AttemptError(self._late) from None
        try:
            answer = self.account.take(orjson.loads(body), "message")
        except orjson.JSONDecodeError:
            raise AttemptError(MALFORMED, OK) from None
        if not answer["choices"]:
            raise AttemptError(EMPTY, OK)
        answer.update(model=self.planned.model, provider=self.provider.name)
        answer.setdefault("system_fingerprint", None)
        return answer

    async def streamed(self, upstream: ProviderSession, stream: SseReply, seconds: float) -> None:
        """Hand a stream on up to its end; raises Failed, after which the caller has heard only whole events."""
        limits, began = self.provider.timeouts, self._loop.time()
        try:
            async with asyncio.timeout(min(limits.headers, seconds)) as limit:
                response = await self._post(upstream)
                self._late = FIRST_TOKEN_LATE
                limit.reschedule(began + min(limits.first_token, seconds))
                await self._relay(response.content, stream, limit)
        except TimeoutError:
            raise AttemptError(self._late, OK if self._response else 0) from None
        except EventTooLong:
            raise AttemptError(MALFORMED, OK) from None
        except (aiohttp.ClientError, OSError):
            raise AttemptError(CUT if self.begun else DROPPED, OK) from None
        if self.chunks.failed:
            raise self.chunks.failed
        if not self.account.finished:
            raise AttemptError(CUT if self.begun else EMPTY, OK)

    async def drain(self) -> None:
        """Read up to the end of a stream that is done, so that its connection can be used again."""
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                if self._response is not None and not self._response.content.at_eof():
                    await self._response.content.readany()

    def close(self) -> None:
        """Let go of the connection: to be used again where its answer was read to the end, else at once."""
        if self._response is not None:
            self._response.close()

    async def _post(self, upstream: ProviderSession) -> aiohttp.ClientResponse:
        body = self._asked.body(
            self.provider.model_of(self.planned.endpoint_id, self.planned.model), self._offer
        )
        self._response = await upstream.post(self.provider, body)
        return self._response

    async def _relay(
        self, content: aiohttp.StreamReader, stream: SseReply, limit: asyncio.Timeout
    ) -> None:
        events, chunks = EventSplitter(), self.chunks
        async for data in content.iter_any():
            if events.rest or not (given := chunks.alike(data)):
                given = chunks.take(events.whole(data))
            if given:
                await self._give(given, stream, limit)
            if chunks.failed or chunks.done:
                return
        await self._give(chunks.take(events.last()), stream, limit)

    async def _give(self, data: bytes, stream: SseReply, limit: asyncio.Timeout) -> None:
        """Hand on what came; before the first token it is held back, since others may have to answer yet."""
        if self._first is None:
            self._held += data
            if len(self._held) > MAX_EVENT_BYTES:
                raise EventTooLong
            if not self.account.meaningful:
                return
            self._first, data = perf_counter(), self._held
            await stream.quiet()
        self._late = CANCELLED  # the caller does not read
        await stream.give(data)
        self._late = SILENT
        if (now := self._loop.time()) > self._moved:
            self._moved = now + LAZY * self.provider.timeouts.idle
            limit.reschedule(self._moved + self.provider.timeouts.idle)

    @property
    def begun(self) -> bool:
        """Whether tokens have gone out, so that nothing else may be spliced in."""
        return self._first is not None

    def outcome(self, decision_id: str, failed: AttemptError | None) -> evidence_pb2.Outcome:
        """What is reported; a decision's id is left out where its attempt was reported once already."""
        outcome = evidence_pb2.Outcome(
            endpoint_id=self.planned.endpoint_id,
            tenant=self._asked.question.tenant,
            result=evidence_pb2.RESULT_ANSWERED if failed is None else failed.row.result,
            decision_id=decision_id,
            attempt=self.planned.rank if decision_id else 0,
            first_token_s=None if self._first is None else self._first - self._began,
            duration_s=perf_counter() - self._began,
            completion_tokens=self.account.tokens,
            retry_after_s=None if failed is None else failed.retry_after,
            tools=self.account.tool_use(self._asked, self._offer, answered=failed is None),
        )
        now = time_ns()
        outcome.at.seconds, outcome.at.nanos = now // 10**9, now % 10**9
        return outcome
