"""The chat route: a request read, a decision asked for, its attempts made, an answer given, every attempt reported."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import structlog

from assay.engine.errors import InvalidField
from assay.forward.attempt import ProviderAttempt
from assay.forward.decider import DeciderClient
from assay.forward.errors import (
    AttemptResult,
    ErrorReply,
    all_attempts_failed_error,
    metadata_block,
    no_endpoint_error,
)
from assay.forward.http_limits import BodyBudget, Receive, RequestBody
from assay.forward.metrics import ANSWERED, Metrics
from assay.forward.model_listing import ModelListing
from assay.forward.reply import JsonReply, Send, SseReply
from assay.forward.reporting import OutcomeReporter
from assay.forward.request import ChatRequest, read_request
from assay.forward.settings import Clients, ProviderConnections
from assay.forward.taxonomy import CANCELLED, AttemptError, NextStep
from assay.forward.upstream import ProviderSession
from assay.v1 import routing_pb2 as pb


class AttemptQueue:
    """The attempts that are left."""

    def __init__(self, attempts: Iterable[pb.Attempt]) -> None:
        once: dict[str, pb.Attempt] = {}
        for each in attempts:
            once.setdefault(each.endpoint_id, each)
        self._left = list(once.values())
        self._lone = len(self._left) == 1

    def __len__(self) -> int:
        return len(self._left)

    def take(self) -> pb.Attempt:
        """The next attempt, which is made with that."""
        return self._left.pop(0)

    def after(self, attempt: pb.Attempt, failed: AttemptError) -> None:
        """Leave out what a failure rules out; the lone endpoint of a plan may have another try."""
        match failed.row.then:
            case NextStep.STOP:
                self._left.clear()
            case NextStep.MODEL:
                self._left = [each for each in self._left if each.model != attempt.model]
            case NextStep.ENDPOINT if self._lone and failed.row.again:
                self._left.append(attempt)
                self._lone = False


Scope = MutableMapping[str, Any]
MAX_RUNNING: Final = 8192
SHARE: Final = 0.5  # of the time that is left, for an attempt that others could follow
SESSION_AND_REQUEST: Final = (b"x-session-id", b"x-request-id")
NOT_SET_UP: Final = "no provider of the requested models is set up at this gateway"
BROKE_OFF: Final = "the provider's answer broke off"
log = structlog.get_logger("assay.forward")


@dataclass(frozen=True, slots=True)
class ForwarderParts:
    """What every call needs."""

    providers: ProviderConnections
    clients: Clients
    decisions: DeciderClient
    upstream: ProviderSession
    reporter: OutcomeReporter
    catalog: ModelListing
    metrics: Metrics


class ChatHandler:
    """Answers chat requests, each in a call of its own."""

    def __init__(self, parts: ForwarderParts) -> None:
        self._parts = parts
        self._room = BodyBudget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(scope["headers"])
        call = ChatExchange(self._parts, headers, send)
        metrics = self._parts.metrics
        metrics.running += 1
        try:
            with self._room.body() as body:
                asked = await self._asked(receive, headers, body)
                await self._watched(call, asked, receive)
        except ErrorReply as refused:
            await call.refuse(refused)
        except InvalidField as error:
            await call.refuse(ErrorReply(400, str(error), "invalid_request"))
        except Exception as error:  # noqa: BLE001 - told by class and place: what else it says could be a prompt
            log.error("request failed", error=type(error).__name__, at=place(error))  # noqa: TRY400 - as above
            await call.refuse(ErrorReply(500, "internal error", "internal"))
        finally:
            metrics.running -= 1
            call.close()

    async def _asked(
        self, receive: Receive, headers: Mapping[bytes, bytes], body: RequestBody
    ) -> ChatRequest:
        """The request as read; raises Refused and InvalidField."""
        if self._parts.metrics.running > MAX_RUNNING:
            raise ErrorReply(503, "too many requests at once", "overloaded", retry_after=1.0)
        tenant = self._parts.clients.require(headers.get(b"authorization", b""))
        data = await body.read(receive, headers.get(b"content-length", b""))
        session_id, request_id = (
            headers.get(name, b"").decode("latin-1") for name in SESSION_AND_REQUEST
        )
        return read_request(data, tenant=tenant, session_id=session_id, request_id=request_id)

    async def _watched(self, call: ChatExchange, asked: ChatRequest, receive: Receive) -> None:
        """Answer, and stop at once when the caller goes away."""
        work = asyncio.current_task()

        async def watch() -> None:
            await receive()
            if not call.done and work is not None:
                call.left = True
                work.cancel()

        watching = asyncio.create_task(watch())
        try:
            await call.answer(asked)
        except asyncio.CancelledError:
            if not call.left:
                raise
        finally:
            watching.cancel()


def place(error: BaseException) -> str:
    """Where an error was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


class ChatExchange:
    """One request: `done` once the last of its answer is on its way, `left` once its caller is gone."""

    def __init__(self, parts: ForwarderParts, headers: Mapping[bytes, bytes], send: Send) -> None:
        self.done = self.left = False
        self._parts = parts
        self._whole = JsonReply(send, self._over)
        self._stream: SseReply | None = None
        self._wants_block = headers.get(b"x-openrouter-metadata", b"").lower() == b"enabled"
        self._deadline = asyncio.get_running_loop().time() + parts.providers.deadline
        self._decision = pb.DecideResponse()
        self._requested: tuple[str, ...] = ()
        self._tried: list[AttemptResult] = []

    async def answer(self, asked: ChatRequest) -> None:
        """Answer; raises Refused where no attempt did."""
        self._requested = (asked.question.model, *asked.question.models)
        began = perf_counter()
        decision = self._decision = await self._parts.decisions.decide(
            asked.question, self._seconds()
        )
        self._parts.metrics.decided(began)
        self._whole.headers.append((b"x-assay-decision-id", decision.decision_id.encode()))
        if not decision.attempts:
            raise no_endpoint_error(decision, self._requested)
        providers = self._parts.providers
        route = AttemptQueue(
            [each for each in decision.attempts if each.provider in providers.by_slug]
        )
        if not route:
            raise ErrorReply(
                404, NOT_SET_UP, "no_endpoints", code="no_endpoints", requested=self._requested
            )
        if asked.stream:
            self._stream = SseReply(self._whole, providers.keep_alive)
        while route and not self.done and self._seconds() > 0:
            planned = route.take()
            offer = self._parts.catalog.offer(planned.endpoint_id)
            attempt = ProviderAttempt(asked, planned, providers.by_slug[planned.provider], offer)
            failed = await self._attempted(
                attempt, decision.decision_id, self._seconds() * (SHARE if route else 1.0)
            )
            if failed is not None:
                route.after(planned, failed)
        if not self.done:
            raise all_attempts_failed_error(self._tried, self._requested)

    async def _attempted(
        self, attempt: ProviderAttempt, decision_id: str, seconds: float
    ) -> AttemptError | None:
        """Make an attempt, report it, and give its answer or what is left to say of it."""
        again = any(each.attempt.rank == attempt.planned.rank for each in self._tried)
        report = partial(self._report, attempt, "" if again else decision_id)
        stream, upstream = self._stream, self._parts.upstream
        answer: dict[str, Any] = {}
        try:
            if stream is None:
                answer = await attempt.whole(upstream, seconds)
            else:
                await attempt.streamed(upstream, stream, seconds)
            report(None)
        except AttemptError as failed:
            failed.told = attempt.provider.without_key(failed.told)
            report(failed)
            if stream and attempt.begun:
                broke_off = ErrorReply(
                    failed.row.status, BROKE_OFF, failed.row.name, tried=self._tried
                )
                await stream.refuse(broke_off, self._block(), attempt.chunks.about)
            return failed
        except asyncio.CancelledError:
            report(AttemptError(CANCELLED))
            raise
        else:
            if stream is None:
                await self._whole.answer(answer, self._block())
            else:
                await stream.finish(attempt.chunks.about, self._block())
                await attempt.drain()
            return None
        finally:
            attempt.close()

    def _report(
        self, attempt: ProviderAttempt, decision_id: str, failed: AttemptError | None
    ) -> None:
        outcome = attempt.outcome(decision_id, failed)
        self._parts.reporter.report(outcome, at_once=failed is not None and failed.row.demotes)
        self._parts.metrics.attempts[
            attempt.provider.slug, failed.row.name if failed else ANSWERED
        ] += 1
        self._tried.append(AttemptResult(attempt.planned, attempt.provider.name, failed))
        if failed is not None:
            endpoint, name = attempt.planned.endpoint_id, failed.row.name
            log.info(
                "attempt failed",
                failure=name,
                status=failed.status,
                endpoint=endpoint,
                decision=decision_id,
            )

    async def refuse(self, refused: ErrorReply) -> None:
        """Answer with an error, unless the last word has been said."""
        if not self.done:
            await (self._stream or self._whole).refuse(refused, self._block())

    def close(self) -> None:
        """Let go of what a stream holds."""
        if self._stream is not None:
            self._stream.close()

    def _over(self, status: int) -> None:
        self.done = True
        self._parts.metrics.requests[str(status)] += 1

    def _block(self) -> dict[str, Any] | None:
        wanted = self._wants_block and self._decision.decision_id
        return metadata_block(self._decision, self._requested[0], self._tried) if wanted else None

    def _seconds(self) -> float:
        """What is left of the time that attempts may take."""
        return self._deadline - asyncio.get_running_loop().time()
