"""One chat request: get a decision, make its attempts, answer and report.

How it works
------------
`ChatExchange` walks the attempts of one request: `ProviderAttempt` makes each, and its result goes
to the reporter, the metrics and the caller. The failure says which attempt is next.

`read_json` of an attempt reads a whole answer within the timeout `answer`. `relay_stream` relays a
stream while it arrives, under one `asyncio.timeout` whose deadline and meaning move:

- until the headers: `headers`, then the failure is `headers_late`;
- until the first token: `first_token`, then it is `first_token_late`;
- while the caller reads: `idle` since the provider's last bytes, then it is `silent`;
- while the caller does not read: the same time, then it is `cancelled`, the caller's doing.

`_late` always holds the failure that a timeout would mean at that moment. Moving a deadline costs
as much as relaying a chunk, so it moves once per quarter of `idle` (`_RESCHEDULE_SHARE`).

Bytes before the first token (a role, comments) are held back, up to _MAX_HELD_BYTES. If the attempt
fails before the first token, the caller has seen nothing but our comments, and the next endpoint
can answer. With the first token `has_started` becomes true: from then on a failure ends the answer.

INVARIANT: every failure leaves `ProviderAttempt.run` as AttemptError, so that it is reported and
the next step of its row follows. An exception that no row expects comes from the provider's bytes
and is `malformed`: a provider that could end the request would hide its failures. Answers are read,
checked and serialized before an attempt counts as answered.

INVARIANT: `close` is called exactly once. It returns the connection to the pool if the answer was
read to its end, and closes it otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter, time_ns
from typing import Any, Final

import aiohttp
import structlog

from assay.engine.errors import InvalidField
from assay.forward import taxonomy
from assay.forward.answer_summary import AnswerSummary
from assay.forward.decider import DeciderClient
from assay.forward.errors import (
    AttemptResult,
    ErrorReply,
    all_attempts_failed_error,
    bug_fields,
    no_endpoint_error,
)
from assay.forward.metrics import Metrics
from assay.forward.model_listing import ModelListing
from assay.forward.refusals import unsupported_capability
from assay.forward.reply import JsonReply, MetadataBlock, Send, SseReply, metadata_block
from assay.forward.reporting import OutcomeReporter
from assay.forward.request import ChatRequest, EndpointCapabilities
from assay.forward.sessions import SessionMemory
from assay.forward.settings import Clients, ProviderConnection, ProviderConnections
from assay.forward.stream import ChunkRelay, EventTooLong
from assay.forward.taxonomy import HTTP_OK, AttemptError, NextStep
from assay.forward.upstream import ProviderSession, read_body
from assay.toolcalls.json_values import decode_json, encode_json
from assay.v1 import evidence_pb2, routing_pb2 as pb

_SHARE_OF_TIME: Final = 0.5  # of the time left, for an attempt that others can follow
_RESCHEDULE_SHARE: Final = 0.25
_DRAIN_SECONDS: Final = 1.0
_MAX_HELD_BYTES: Final = 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
_MAY_NAME_CAPABILITY: Final = (
    evidence_pb2.RESULT_PROVIDER_ERROR, evidence_pb2.RESULT_CALLER_ERROR,
)  # fmt: skip
log = structlog.get_logger("assay.forward")


@dataclass(frozen=True, slots=True)
class ForwarderParts:
    """What every request needs."""

    providers: ProviderConnections
    clients: Clients
    decider: DeciderClient
    session: ProviderSession
    reporter: OutcomeReporter
    listing: ModelListing
    metrics: Metrics
    sessions: SessionMemory


class AttemptQueue:
    """Attempts in the order of the decision; it is false once none is left.

    An endpoint that rejects a request as the caller's fault may be wrong. So one more endpoint of
    the model is asked, and the model is given up when that one agrees.
    """

    def __init__(self, attempts: Sequence[pb.Attempt]) -> None:
        self._left = list(attempts)
        self._may_repeat = len(attempts) == 1
        self._rejected_once: set[str] = set()

    def __len__(self) -> int:
        return len(self._left)

    def take(self) -> pb.Attempt:
        """Remove and return the next attempt."""
        return self._left.pop(0)

    def apply(self, failed: pb.Attempt, error: AttemptError) -> None:
        """Remove what the failure of an attempt rules out, or repeat it if it was the only one."""
        match error.kind.next_step:
            case NextStep.STOP:
                self._left = []
            case NextStep.CONFIRM if failed.model in self._rejected_once:
                self._left = [each for each in self._left if each.model != failed.model]
            case NextStep.CONFIRM:
                self._rejected_once.add(failed.model)
            case NextStep.ENDPOINT if self._may_repeat and error.kind.retries_alone:
                self._left.append(failed)
                self._may_repeat = False


class ChatExchange:
    """One request and its reply; `done` is set just before the last of the reply is sent."""

    def __init__(
        self, parts: ForwarderParts, headers: Mapping[bytes, bytes], own_id: bytes, send: Send
    ) -> None:
        self.done = False
        self._parts = parts
        self._json_reply = JsonReply(send, self._on_end)
        self._json_reply.headers.append((b"x-request-id", own_id))
        self._sse_reply: SseReply | None = None
        self._wants_block = headers.get(b"x-openrouter-metadata", b"").lower() == b"enabled"
        self._deadline = asyncio.get_running_loop().time() + parts.providers.deadline
        self._decision = pb.DecideResponse()
        self._question = pb.DecideRequest()
        self._requested: tuple[str, ...] = ()
        self._results: list[AttemptResult] = []

    async def answer(self, request: ChatRequest) -> None:
        """Answer; raise ErrorReply if no attempt did."""
        queue = AttemptQueue(await self._decide(request))
        providers = self._parts.providers
        if request.stream:
            self._sse_reply = SseReply(self._json_reply, providers.keep_alive)
        while queue and not self.done and self._seconds_left() > 0:
            planned = queue.take()
            provider = providers.by_slug[planned.provider]
            capabilities = self._parts.listing.capabilities(planned.endpoint_id)
            attempt = ProviderAttempt(request, planned, provider, capabilities)
            seconds = self._seconds_left() * (_SHARE_OF_TIME if queue else 1.0)
            error = await self._attempt(attempt, seconds)
            if error is not None:
                queue.apply(planned, error)
        if not self.done:
            raise all_attempts_failed_error(self._results, self._requested)

    async def _decide(self, request: ChatRequest) -> list[pb.Attempt]:
        """Return one attempt per endpoint of configured providers; raise ErrorReply without any."""
        self._requested = (request.question.model, *request.question.models)
        self._question = request.question
        self._parts.sessions.recall(self._question)
        began = perf_counter()
        decision = await self._parts.decider.decide(request.question, self._seconds_left())
        self._decision = decision
        self._parts.metrics.observe_decision(began)
        self._json_reply.headers.append((b"x-assay-decision-id", decision.decision_id.encode()))
        if not decision.attempts:
            raise no_endpoint_error(decision, self._requested)
        known = self._parts.providers.by_slug
        by_endpoint: dict[str, pb.Attempt] = {}
        for each in decision.attempts:
            if each.provider in known:
                by_endpoint.setdefault(each.endpoint_id, each)
        if not by_endpoint:
            message = "no provider of the requested models is configured at this gateway"
            code = "no_endpoints"
            raise ErrorReply(404, message, code, code=code, requested=self._requested)
        return list(by_endpoint.values())

    async def _attempt(self, attempt: ProviderAttempt, seconds: float) -> AttemptError | None:
        """Make an attempt, report it, and send its answer; return its error."""
        reply, session = self._sse_reply, self._parts.session
        try:
            answer = await attempt.run(session, reply, seconds)
        except AttemptError as error:
            attempt.provider.classify(error)
            self._report(attempt, error)
            if reply and attempt.has_started:
                message = "the provider's answer broke off"
                kind, results = error.kind, self._results
                broken = ErrorReply(kind.status, message, kind.name, results=results)
                await reply.fail(broken, self._block(), attempt.answer_fields)
            return error
        except asyncio.CancelledError:
            self._report(attempt, AttemptError(taxonomy.CANCELLED))
            raise
        else:
            self._report(attempt, None)
            if reply is None:
                await self._json_reply.answer(answer, self._block())
            else:
                await reply.finish(attempt.answer_fields, attempt.usage_event, self._block())
                await attempt.drain()
            return None
        finally:
            attempt.close()

    def _report(self, attempt: ProviderAttempt, error: AttemptError | None) -> None:
        """Report an attempt; a second one at the same rank without the decision's id."""
        is_repeated = any(each.attempt.rank == attempt.planned.rank for each in self._results)
        decision_id = "" if is_repeated else self._decision.decision_id
        outcome = attempt.outcome(decision_id, error)
        self._parts.reporter.report(outcome, at_once=error is not None and error.kind.demotes)
        dropped = attempt.dropped_parameters if self._wants_block else ()
        result = AttemptResult(attempt.planned, attempt.provider.name, error, dropped)
        self._results.append(result)
        self._parts.metrics.attempts[attempt.provider.slug, result.outcome] += 1
        if error is None:
            endpoint_id = attempt.planned.endpoint_id
            self._parts.sessions.remember(self._question, endpoint_id, self._decision.decision_id)
        else:
            log.info(
                "attempt failed", failure=result.outcome, status=error.status,
                endpoint=attempt.planned.endpoint_id, decision=decision_id,
            )  # fmt: skip

    async def fail(self, reply: ErrorReply) -> None:
        """Reply with an error, unless the reply has ended."""
        if not self.done:
            await (self._sse_reply or self._json_reply).fail(reply, self._block())

    def close(self) -> None:
        """Release what a stream holds."""
        if self._sse_reply is not None:
            self._sse_reply.close()

    def _on_end(self, status: int) -> None:
        self.done = True
        self._parts.metrics.requests[str(status)] += 1

    def _block(self) -> MetadataBlock:
        if not self._wants_block or not self._decision.decision_id:
            return None
        return metadata_block(self._decision, self._requested[0], self._results)

    def _seconds_left(self) -> float:
        return self._deadline - asyncio.get_running_loop().time()


class ProviderAttempt:
    """One attempt; call `run` once, then `close`."""

    def __init__(
        self,
        request: ChatRequest,
        planned: pb.Attempt,
        provider: ProviderConnection,
        capabilities: EndpointCapabilities,
    ) -> None:
        self.planned = planned
        self.provider = provider
        self._summary = AnswerSummary(request.fields.get("tools"))
        self._names = {"model": planned.model, "provider": provider.name}
        self._relay = ChunkRelay(self._summary, self._names, wants_usage=request.wants_usage)
        self._tool_use: evidence_pb2.ToolUse | None = None
        self._request = request
        self._capabilities = capabilities
        self._loop = asyncio.get_running_loop()
        self._began = perf_counter()  # the loop's clock is coarse: good enough for timeouts only
        self._first_token_at: float | None = None
        self._late = taxonomy.HEADERS_LATE if request.stream else taxonomy.ANSWER_LATE
        self._response: aiohttp.ClientResponse | None = None
        self._held = b""
        self._rescheduled = 0.0

    @property
    def has_started(self) -> bool:
        """Whether the caller has tokens of this attempt, so that no other may answer."""
        return self._first_token_at is not None

    @property
    def dropped_parameters(self) -> Sequence[str]:
        """The parameters that the endpoint does not get."""
        return self._request.dropped_parameters(self._capabilities)

    @property
    def answer_fields(self) -> dict[str, Any]:
        """The fields that name this answer in chunks of our own."""
        return self._relay.answer_fields

    @property
    def usage_event(self) -> bytes:
        """The usage as the last chunk, if the caller asked for it."""
        return self._relay.usage_event

    async def run(self, session: ProviderSession, reply: SseReply | None, seconds: float) -> bytes:
        """Relay a stream, or return a whole answer; raise AttemptError."""
        try:
            if reply is None:
                return await self.read_json(session, seconds)
            await self.relay_stream(session, reply, seconds)
        except (AttemptError, ErrorReply, InvalidField):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a provider's bytes may cause
            log.error("attempt failed unexpectedly", **bug_fields(error))  # noqa: TRY400 - no trace
            raise AttemptError(taxonomy.MALFORMED, HTTP_OK) from None
        return b""

    async def read_json(self, session: ProviderSession, seconds: float) -> bytes:
        """Return the answer to a request that is not streamed; raise AttemptError."""
        try:
            async with asyncio.timeout(min(self.provider.timeouts.answer, seconds)):
                body = await read_body(await self._post(session))
        except TimeoutError:
            raise AttemptError(self._late) from None
        try:
            answer = self._summary.add_answer(decode_json(body.removeprefix(_BOM)))
            answer.pop("openrouter_metadata", None)
            answer.update(self._names)
            answer.setdefault("system_fingerprint", None)
            encoded = encode_json(answer)
        except ValueError:  # not JSON, or nested too deeply to be written
            raise AttemptError(taxonomy.MALFORMED, HTTP_OK) from None
        self._tool_use = self._summary.tool_use(self._offered())
        return encoded

    async def relay_stream(self, session: ProviderSession, reply: SseReply, seconds: float) -> None:
        """Relay a stream to its end; raise AttemptError, after complete events only."""
        timeouts, began = self.provider.timeouts, self._loop.time()
        try:
            async with asyncio.timeout(min(timeouts.headers, seconds)) as deadline:
                response = await self._post(session)
                self._late = taxonomy.FIRST_TOKEN_LATE
                deadline.reschedule(began + min(timeouts.first_token, seconds))
                async for data in response.content.iter_any():
                    if relayed := self._relay.relay(data):
                        await self._write(relayed, reply, deadline)
                    if self._relay.error or self._relay.done:
                        break
                else:
                    await self._write(self._relay.finish(), reply, deadline)
        except EventTooLong:
            raise AttemptError(taxonomy.MALFORMED, HTTP_OK) from None
        except (aiohttp.ClientError, OSError) as error:
            is_late = isinstance(error, TimeoutError)
            if failure := self._failure_of_break(is_late=is_late):
                raise failure from None
        if self._relay.error:
            raise self._relay.error
        if not (self._summary.finished and self.has_started):
            raise AttemptError(taxonomy.CUT if self.has_started else taxonomy.EMPTY, HTTP_OK)
        self._tool_use = self._summary.tool_use(self._offered())

    def _failure_of_break(self, *, is_late: bool) -> AttemptError | None:
        """Return the failure of a stream that broke off; `None` if its answer was complete."""
        if self._summary.is_complete and not (is_late and self._late is taxonomy.CANCELLED):
            return None
        if is_late:
            return AttemptError(self._late, HTTP_OK if self._response else 0)
        return AttemptError(taxonomy.CUT if self.has_started else taxonomy.DROPPED, HTTP_OK)

    async def drain(self) -> None:
        """Read to the end of a finished stream, so that its connection can be reused."""
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                if self._response is not None and not self._response.content.at_eof():
                    await self._response.content.readany()

    def _offered(self) -> evidence_pb2.ToolUse | None:
        return self._request.tool_use(self._capabilities)

    def close(self) -> None:
        """Release the connection."""
        if self._response is not None:
            self._response.close()

    async def _post(self, session: ProviderSession) -> aiohttp.ClientResponse:
        model = self.provider.model_of(self.planned.endpoint_id, self.planned.model)
        body = self._request.body(model, self._capabilities)
        self._response = await session.post(self.provider, body)
        return self._response

    async def _write(self, data: bytes, reply: SseReply, deadline: asyncio.Timeout) -> None:
        """Give bytes to the caller; before the first token hold them back."""
        if self._first_token_at is None:
            self._held += data
            if not self._summary.has_token:
                if len(self._held) > _MAX_HELD_BYTES:
                    raise EventTooLong
                return
            self._first_token_at, data = perf_counter(), self._held
            await reply.stop_comments()
        self._late = (
            taxonomy.CANCELLED
        )  # a timeout while writing means that the caller does not read
        await reply.write(data)
        self._late = taxonomy.SILENT
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
            tools=self._tool_use if error is None else self._offered(),
        )
        if error is not None and outcome.result in _MAY_NAME_CAPABILITY:
            outcome.unsupported = unsupported_capability(error.fields, self._request)
        now = time_ns()
        outcome.at.seconds, outcome.at.nanos = now // 10**9, now % 10**9
        return outcome
