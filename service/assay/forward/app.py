"""The forwarder as an ASGI application: routes, background tasks, and the HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from assay.engine.errors import InvalidField
from assay.forward.chat import ChatExchange, ForwarderParts
from assay.forward.decider import DeciderClient, open_channel
from assay.forward.errors import RETRY_AFTER_SECONDS, ErrorReply, bug_fields
from assay.forward.http_limits import BodyBudget, LimitedHttpProtocol, Receive, RequestBody
from assay.forward.metrics import Metrics
from assay.forward.model_listing import ModelListing
from assay.forward.reply import Send, error_body
from assay.forward.reporting import OutcomeReporter, Spool
from assay.forward.request import ChatRequest, read_request
from assay.forward.settings import Clients, ProviderConnections
from assay.forward.upstream import ProviderSession

_CHAT_PATH: Final = "/v1/chat/completions"
_KEEP_ALIVE_SECONDS: Final = 75
_DRAIN_SECONDS: Final = 30
_FLUSH_SECONDS: Final = 2.0
_BACKLOG: Final = 4096
_MAX_RUNNING: Final = 8192
log = structlog.get_logger("assay.forward")

Scope = MutableMapping[str, Any]


class ForwarderApp:
    """The ASGI application: chat requests are answered here, others through Starlette."""

    def __init__(self, parts: ForwarderParts) -> None:
        self._parts = parts
        self._budget = BodyBudget()
        self._other_routes = Starlette(
            routes=[
                Route("/v1/models", self._list_models),
                Route("/v1/models/{name:path}/endpoints", self._list_models),
                Route("/healthz", self._health),
                Route("/metrics", self._metrics),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"] == _CHAT_PATH and scope["method"] == "POST":
            await self._answer_chat(scope, receive, send)
        else:
            await self._other_routes(scope, receive, send)

    async def _answer_chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a chat request; every exception becomes a reply."""
        headers = dict(scope["headers"])
        exchange = ChatExchange(self._parts, headers, send)
        metrics = self._parts.metrics
        metrics.running += 1
        try:
            with self._budget.body() as body:
                request = await self._read(receive, headers, body)
                await _answer_while_connected(exchange, request, receive)
        except ErrorReply as reply:
            await exchange.fail(reply)
        except InvalidField as error:
            await exchange.fail(ErrorReply(400, str(error), "invalid_request"))
        except Exception as error:  # noqa: BLE001 - a bug ends one request, with a reply
            log.error("request failed", **bug_fields(error))  # noqa: TRY400 - no traceback
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

    async def _list_models(self, request: Request) -> Response:
        """List models, or the endpoints of one."""
        listing, name = self._parts.listing, request.path_params.get("name")
        authorization = request.headers.get("authorization", "").encode("latin-1")
        try:
            self._parts.clients.tenant_of(authorization)
            return _json(listing.models() if name is None else await listing.endpoints(name))
        except ErrorReply as reply:
            headers = {}
            if reply.retry_after is not None:
                headers["retry-after"] = str(reply.retry_after_header)
            return Response(error_body(reply), reply.status, headers, "application/json")

    async def _health(self, _: Request) -> Response:
        """Return 200 if requests can be decided."""
        is_ready = await self._parts.decider.is_ready()
        status = "ok" if is_ready else "decider not available"
        return _json({"status": status}, 200 if is_ready else 503)

    async def _metrics(self, _: Request) -> Response:
        return Response(self._parts.metrics.text(), media_type="text/plain; version=0.0.4")


async def _answer_while_connected(
    exchange: ChatExchange, request: ChatRequest, receive: Receive
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


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


@asynccontextmanager
async def forwarder_app(
    server: str, providers: ProviderConnections, clients: Clients, spool: Path
) -> AsyncIterator[ForwarderApp]:
    """Yield the application; meanwhile send reports and refresh the catalog."""
    async with AsyncExitStack() as stack:
        opened = Spool(spool)
        stack.callback(opened.close)
        channel = await stack.enter_async_context(open_channel(server))
        session = await stack.enter_async_context(ProviderSession(providers))
        reporter, listing = OutcomeReporter(opened, channel), ModelListing(channel)
        stack.push_async_callback(_flush_briefly, reporter)
        for work in (reporter.run(), listing.run()):
            stack.push_async_callback(_cancel, asyncio.create_task(work))
        decider, metrics = DeciderClient(channel), Metrics(reporter)
        yield ForwarderApp(
            ForwarderParts(providers, clients, decider, session, reporter, listing, metrics)
        )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _flush_briefly(reporter: OutcomeReporter) -> None:
    """Send what waits, for a short time; the rest stays on disk."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_FLUSH_SECONDS):
            await reporter.flush()


def build_server(application: ForwarderApp) -> uvicorn.Server:
    """Return the server; at its end, requests in progress have 30 seconds to finish."""
    config = uvicorn.Config(
        application, http=LimitedHttpProtocol, ws="none", lifespan="off", interface="asgi3",
        log_config=None, log_level="critical", access_log=False, proxy_headers=False,
        server_header=False, backlog=_BACKLOG, timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )  # fmt: skip
    return uvicorn.Server(config)
