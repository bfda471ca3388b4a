"""The chat route: read a request, get a decision, make its attempts, answer and report.

`ChatHandler` reads the request and turns every exception into a reply. `ChatExchange` walks the
attempts of one request: `AttemptQueue` says which endpoint is next, `ProviderAttempt` makes the
attempt, and its result goes to the reporter, the metrics and the caller.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import structlog

from assay.engine.errors import InvalidField
from assay.forward.attempt import ProviderAttempt
from assay.forward.decider import DeciderClient
from assay.forward.errors import (
    RETRY_AFTER_SECONDS,
    AttemptResult,
    ErrorReply,
    all_attempts_failed_error,
    no_endpoint_error,
)  # fmt: skip
from assay.forward.http_limits import BodyBudget, Receive, RequestBody
from assay.forward.metrics import Metrics
from assay.forward.model_listing import ModelListing
from assay.forward.reply import JsonReply, MetadataBlock, Send, SseReply, metadata_block
from assay.forward.reporting import OutcomeReporter
from assay.forward.request import ChatRequest, read_request
from assay.forward.settings import Clients, ProviderConnections
from assay.forward.taxonomy import CANCELLED, AttemptError, NextStep
from assay.forward.upstream import ProviderSession
from assay.v1 import routing_pb2 as pb

Scope = MutableMapping[str, Any]
_MAX_RUNNING: Final = 8192
_SHARE_OF_TIME: Final = 0.5  # of the time left, for an attempt that others can follow
log = structlog.get_logger("assay.forward")


class AttemptQueue:
    """The attempts of a decision that are left; each endpoint is tried once."""

    def __init__(self, attempts: Iterable[pb.Attempt]) -> None:
        by_endpoint: dict[str, pb.Attempt] = {}
        for each in attempts:
            by_endpoint.setdefault(each.endpoint_id, each)
        self._left = list(by_endpoint.values())
        self._has_one_endpoint = len(self._left) == 1

    def __len__(self) -> int:
        return len(self._left)

    def pop(self) -> pb.Attempt:
        """Return the next attempt and remove it."""
        return self._left.pop(0)

    def drop_after(self, attempt: pb.Attempt, error: AttemptError) -> None:
        """Remove the attempts that a failure rules out; the only endpoint may get a second one."""
        match error.kind.next_step:
            case NextStep.STOP:
                self._left.clear()
            case NextStep.MODEL:
                self._left = [each for each in self._left if each.model != attempt.model]
            case NextStep.ENDPOINT if self._has_one_endpoint and error.kind.retries_alone:
                self._left.append(attempt)
                self._has_one_endpoint = False


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


class ChatHandler:
    """Answers chat requests."""

    def __init__(self, parts: ForwarderParts) -> None:
        self._parts = parts
        self._budget = BodyBudget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(scope["headers"])
        exchange = ChatExchange(self._parts, headers, send)
        metrics = self._parts.metrics
        metrics.running += 1
        try:
            with self._budget.body() as body:
                request = await self._read(receive, headers, body)
                await self._answer_while_connected(exchange, request, receive)
        except ErrorReply as reply:
            await exchange.fail(reply)
        except InvalidField as error:
            await exchange.fail(ErrorReply(400, str(error), "invalid_request"))
        except Exception as error:  # noqa: BLE001 - a bug ends one request, with a reply
            # Neither message nor traceback is logged: they could hold a prompt.
            name, line = type(error).__name__, _line_of(error)
            log.error("request failed", error=name, at=line)  # noqa: TRY400 - as above
            await exchange.fail(ErrorReply(500, "internal error", "internal"))
        finally:
            metrics.running -= 1
            exchange.close()

    async def _read(
        self, receive: Receive, headers: Mapping[bytes, bytes], body: RequestBody
    ) -> ChatRequest:
        """Read the request; raise ErrorReply or InvalidField."""
        if self._parts.metrics.running > _MAX_RUNNING:
            message = "too many requests at once"
            raise ErrorReply(503, message, "overloaded", retry_after=RETRY_AFTER_SECONDS)
        tenant = self._parts.clients.tenant_of(headers.get(b"authorization", b""))
        data = await body.read(receive, headers.get(b"content-length", b""))
        session_id = headers.get(b"x-session-id", b"").decode("latin-1")
        request_id = headers.get(b"x-request-id", b"").decode("latin-1")
        return read_request(data, tenant=tenant, session_id=session_id, request_id=request_id)

    async def _answer_while_connected(
        self, exchange: ChatExchange, request: ChatRequest, receive: Receive
    ) -> None:
        """Answer, and cancel the attempt at once if the caller disconnects."""
        work = asyncio.current_task()
        disconnected = False

        async def watch() -> None:
            nonlocal disconnected
            await receive()
            if not exchange.done and work is not None:
                disconnected = True
                work.cancel()

        watching = asyncio.create_task(watch())
        try:
            await exchange.answer(request)
        except asyncio.CancelledError:
            if not disconnected:
                raise
        finally:
            watching.cancel()


def _line_of(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


class ChatExchange:
    """One request and its reply; `done` is set just before the last of the reply is sent."""

    def __init__(self, parts: ForwarderParts, headers: Mapping[bytes, bytes], send: Send) -> None:
        self.done = False
        self._parts = parts
        self._json_reply = JsonReply(send, self._on_end)
        self._sse_reply: SseReply | None = None
        self._wants_block = headers.get(b"x-openrouter-metadata", b"").lower() == b"enabled"
        self._deadline = asyncio.get_running_loop().time() + parts.providers.deadline
        self._decision = pb.DecideResponse()
        self._requested: tuple[str, ...] = ()
        self._results: list[AttemptResult] = []

    async def answer(self, request: ChatRequest) -> None:
        """Answer; raise ErrorReply if no attempt did."""
        attempts = await self._decide(request)
        providers = self._parts.providers
        if request.stream:
            self._sse_reply = SseReply(self._json_reply, providers.keep_alive)
        while attempts and not self.done and self._seconds_left() > 0:
            planned = attempts.pop()
            attempt = ProviderAttempt(
                request,
                planned,
                providers.by_slug[planned.provider],
                self._parts.listing.capabilities(planned.endpoint_id),
            )
            seconds = self._seconds_left() * (_SHARE_OF_TIME if attempts else 1.0)
            error = await self._attempt(attempt, seconds)
            if error is not None:
                attempts.drop_after(planned, error)
        if not self.done:
            raise all_attempts_failed_error(self._results, self._requested)

    async def _decide(self, request: ChatRequest) -> AttemptQueue:
        """Return the attempts at configured providers; raise ErrorReply if there are none."""
        self._requested = (request.question.model, *request.question.models)
        began = perf_counter()
        decision = await self._parts.decider.decide(request.question, self._seconds_left())
        self._decision = decision
        self._parts.metrics.observe_decision(began)
        self._json_reply.headers.append((b"x-assay-decision-id", decision.decision_id.encode()))
        if not decision.attempts:
            raise no_endpoint_error(decision, self._requested)
        known = self._parts.providers.by_slug
        attempts = AttemptQueue(each for each in decision.attempts if each.provider in known)
        if not attempts:
            message = "no provider of the requested models is configured at this gateway"
            code = "no_endpoints"
            raise ErrorReply(404, message, code, code=code, requested=self._requested)
        return attempts

    async def _attempt(self, attempt: ProviderAttempt, seconds: float) -> AttemptError | None:
        """Make an attempt, report it, and send its answer; return its error."""
        reply, session = self._sse_reply, self._parts.session
        answer: dict[str, Any] = {}
        try:
            if reply is None:
                answer = await attempt.read_json(session, seconds)
            else:
                await attempt.relay_stream(session, reply, seconds)
        except AttemptError as error:
            error.message = attempt.provider.redact(error.message)
            self._report(attempt, error)
            if reply and attempt.has_started:
                await self._end_broken_stream(attempt, reply, error)
            return error
        except asyncio.CancelledError:
            self._report(attempt, AttemptError(CANCELLED))
            raise
        else:
            self._report(attempt, None)
            if reply is None:
                await self._json_reply.answer(answer, self._block())
            else:
                await reply.finish(attempt.answer_fields, self._block())
                await attempt.drain()
            return None
        finally:
            attempt.close()

    async def _end_broken_stream(
        self, attempt: ProviderAttempt, reply: SseReply, error: AttemptError
    ) -> None:
        """End a stream that failed after its first token with an error chunk."""
        message = "the provider's answer broke off"
        broken = ErrorReply(error.kind.status, message, error.kind.name, results=self._results)
        await reply.fail(broken, self._block(), attempt.answer_fields)

    def _report(self, attempt: ProviderAttempt, error: AttemptError | None) -> None:
        """Report an attempt; a second one at the same rank without the decision's id."""
        is_repeated = any(each.attempt.rank == attempt.planned.rank for each in self._results)
        decision_id = "" if is_repeated else self._decision.decision_id
        outcome = attempt.outcome(decision_id, error)
        self._parts.reporter.report(outcome, at_once=error is not None and error.kind.demotes)
        result = AttemptResult(attempt.planned, attempt.provider.name, error)
        self._results.append(result)
        self._parts.metrics.attempts[attempt.provider.slug, result.outcome] += 1
        if error is not None:
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
