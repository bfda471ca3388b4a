"""One attempt at one endpoint: send the request, read the answer within its timeouts, report it.

How it works
------------
`read_json` reads a whole answer within the timeout `answer`. `relay_stream` relays a stream while
it arrives, under one `asyncio.timeout` whose deadline and meaning move:

- until the headers: `headers`, then the failure is `headers_late`;
- until the first token: `first_token`, then it is `first_token_late`;
- while the caller reads: `idle` since the provider's last bytes, then it is `silent`;
- while the caller does not read: the same time, then it is `cancelled`, the caller's doing.

`_late` always holds the failure that a timeout would mean at that moment. Moving a deadline costs
as much as relaying a chunk, so it moves once per quarter of `idle` (`_RESCHEDULE_SHARE`).

Bytes before the first token (a role, comments) are held back, up to MAX_EVENT_BYTES. If the attempt
fails before the first token, the caller has seen nothing but our comments, and the next endpoint
can answer. With the first token `has_started` becomes true: from then on a failure ends the answer.

INVARIANT: every failure leaves this module as AttemptError, and `close` is called exactly once. It
returns the connection to the pool if the answer was read to its end, and closes it otherwise.
"""

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
from assay.forward.stream import MAX_EVENT_BYTES, ChunkRelay, EventTooLong
from assay.forward.taxonomy import (
    ANSWER_LATE,
    CANCELLED,
    CUT,
    DROPPED,
    EMPTY,
    FIRST_TOKEN_LATE,
    HEADERS_LATE,
    HTTP_OK,
    MALFORMED,
    SILENT,
    AttemptError,
)  # fmt: skip
from assay.forward.upstream import ProviderSession, read_body
from assay.v1 import evidence_pb2, routing_pb2 as pb

_RESCHEDULE_SHARE: Final = 0.25
_DRAIN_SECONDS: Final = 1.0


class ProviderAttempt:
    """One attempt; call `read_json` or `relay_stream` once, then `close`."""

    def __init__(
        self,
        request: ChatRequest,
        planned: pb.Attempt,
        provider: ProviderConnection,
        capabilities: EndpointCapabilities,
    ) -> None:
        self.planned = planned
        self.provider = provider
        self._summary = AnswerSummary()
        names = {"model": planned.model, "provider": provider.name}
        self._relay = ChunkRelay(self._summary, names)
        self._request = request
        self._capabilities = capabilities
        self._loop = asyncio.get_running_loop()
        self._began = perf_counter()  # the loop's clock is coarse: good enough for timeouts only
        self._first_token_at: float | None = None
        self._late = HEADERS_LATE if request.stream else ANSWER_LATE
        self._response: aiohttp.ClientResponse | None = None
        self._held = b""
        self._rescheduled = 0.0

    @property
    def has_started(self) -> bool:
        """Whether the caller has tokens of this attempt, so that no other may answer."""
        return self._first_token_at is not None

    @property
    def answer_fields(self) -> dict[str, Any]:
        """The fields that name this answer in chunks of our own."""
        return self._relay.answer_fields

    async def read_json(self, session: ProviderSession, seconds: float) -> dict[str, Any]:
        """Return the answer to a request that is not streamed; raise AttemptError."""
        try:
            async with asyncio.timeout(min(self.provider.timeouts.answer, seconds)):
                body = await read_body(await self._post(session))
        except TimeoutError:
            raise AttemptError(self._late) from None
        try:
            answer = self._summary.add(orjson.loads(body), "message")
        except orjson.JSONDecodeError:
            raise AttemptError(MALFORMED, HTTP_OK) from None
        if not answer["choices"]:
            raise AttemptError(EMPTY, HTTP_OK)
        answer.update(model=self.planned.model, provider=self.provider.name)
        answer.setdefault("system_fingerprint", None)
        return answer

    async def relay_stream(self, session: ProviderSession, reply: SseReply, seconds: float) -> None:
        """Relay a stream to its end; raise AttemptError, after complete events only."""
        timeouts, began = self.provider.timeouts, self._loop.time()
        try:
            async with asyncio.timeout(min(timeouts.headers, seconds)) as deadline:
                response = await self._post(session)
                self._late = FIRST_TOKEN_LATE
                deadline.reschedule(began + min(timeouts.first_token, seconds))
                await self._relay_content(response.content, reply, deadline)
        except TimeoutError:
            raise AttemptError(self._late, HTTP_OK if self._response else 0) from None
        except EventTooLong:
            raise AttemptError(MALFORMED, HTTP_OK) from None
        except (aiohttp.ClientError, OSError):
            raise AttemptError(CUT if self.has_started else DROPPED, HTTP_OK) from None
        if self._relay.error:
            raise self._relay.error
        if not self._summary.finished:
            raise AttemptError(CUT if self.has_started else EMPTY, HTTP_OK)

    async def drain(self) -> None:
        """Read to the end of a finished stream, so that its connection can be reused."""
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                if self._response is not None and not self._response.content.at_eof():
                    await self._response.content.readany()

    def close(self) -> None:
        """Release the connection."""
        if self._response is not None:
            self._response.close()

    async def _post(self, session: ProviderSession) -> aiohttp.ClientResponse:
        model = self.provider.model_of(self.planned.endpoint_id, self.planned.model)
        body = self._request.body(model, self._capabilities)
        self._response = await session.post(self.provider, body)
        return self._response

    async def _relay_content(
        self, content: aiohttp.StreamReader, reply: SseReply, deadline: asyncio.Timeout
    ) -> None:
        async for data in content.iter_any():
            if relayed := self._relay.relay(data):
                await self._write(relayed, reply, deadline)
            if self._relay.error or self._relay.done:
                return
        await self._write(self._relay.finish(), reply, deadline)

    async def _write(self, data: bytes, reply: SseReply, deadline: asyncio.Timeout) -> None:
        """Give bytes to the caller; before the first token hold them back."""
        if self._first_token_at is None:
            self._held += data
            if len(self._held) > MAX_EVENT_BYTES:
                raise EventTooLong
            if not self._summary.has_token:
                return
            self._first_token_at, data = perf_counter(), self._held
            await reply.stop_comments()
        self._late = CANCELLED  # a timeout while writing means that the caller does not read
        await reply.write(data)
        self._late = SILENT
        idle, now = self.provider.timeouts.idle, self._loop.time()
        if now > self._rescheduled:
            self._rescheduled = now + _RESCHEDULE_SHARE * idle
            deadline.reschedule(self._rescheduled + idle)

    def outcome(self, decision_id: str, error: AttemptError | None) -> evidence_pb2.Outcome:
        """Return the outcome to report; without a decision id it is not tied to the decision."""
        first = self._first_token_at
        outcome = evidence_pb2.Outcome(
            endpoint_id=self.planned.endpoint_id,
            tenant=self._request.question.tenant,
            result=evidence_pb2.RESULT_ANSWERED if error is None else error.kind.result,
            decision_id=decision_id,
            attempt=self.planned.rank if decision_id else 0,
            first_token_s=None if first is None else first - self._began,
            duration_s=perf_counter() - self._began,
            completion_tokens=self._summary.tokens,
            retry_after_s=None if error is None else error.retry_after,
            tools=self._summary.tool_use(self._request, self._capabilities, answered=error is None),
        )
        now = time_ns()
        outcome.at.seconds, outcome.at.nanos = now // 10**9, now % 10**9
        return outcome
