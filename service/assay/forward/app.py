"""The forwarder as an ASGI application: routes, background tasks, and the HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

import orjson
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from assay.engine.errors import InvalidField, quoted
from assay.forward.chat import ChatExchange, ForwarderParts
from assay.forward.decider import DeciderClient, open_channel
from assay.forward.errors import RETRY_AFTER_SECONDS, ErrorReply, bug_fields
from assay.forward.http_limits import (
    BodyBudget,
    LimitedHttpProtocol,
    Receive,
    RequestBody,
    request_id_of,
)
from assay.forward.metrics import Metrics
from assay.forward.model_listing import ModelListing
from assay.forward.reply import Send, error_body
from assay.forward.reporting import OutcomeReporter
from assay.forward.request import ChatRequest, read_request
from assay.forward.sessions import SessionMemory
from assay.forward.settings import Clients, ProviderConnections
from assay.forward.spool import Spool
from assay.forward.supervision import Supervisor
from assay.forward.upstream import ProviderSession

_CHAT_PATH: Final = "/v1/chat/completions"
_KEEP_ALIVE_SECONDS: Final = 75
_DRAIN_SECONDS: Final = 30
_FLUSH_SECONDS: Final = 2.0
_BACKLOG: Final = 4096
_MAX_RUNNING: Final = 8192
log = structlog.get_logger("assay.forward")

_SERVED: Final = (
    "POST /v1/chat/completions, GET /v1/models, GET /v1/models/{id}, "
    "GET /v1/models/{id}/endpoints, GET /healthz and GET /metrics"
)
_ONLY_POST: Final = HTTPException(405, headers={"Allow": "POST"})

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]


class ForwarderApp:
    """The ASGI application: chat requests are answered here, others through Starlette."""

    def __init__(self, parts: ForwarderParts) -> None:
        self._parts = parts
        self._budget = BodyBudget()
        self._other_routes = Starlette(
            routes=[
                Route("/v1/models", self._list_models),
                Route("/v1/models/{name:path}/endpoints", self._list_endpoints),
                Route("/v1/models/{name:path}", self._show_model),
                Route("/healthz", self._health),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={
                ErrorReply: _reply_with_error,
                404: _reject_path,
                405: _reject_method,
                500: _report_bug,
            },
        )
        self._other_routes.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(scope["headers"])
        own_id = request_id_of(headers)
        if scope["path"] == _CHAT_PATH and scope["method"] == "POST":
            await self._answer_chat(headers, own_id, receive, send)
            return

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", own_id)]
            await send(message)

        if scope["path"] == _CHAT_PATH:
            await _reject_method(Request(scope), _ONLY_POST)(scope, receive, send_with_id)
        else:
            await self._other_routes(scope, receive, send_with_id)

    async def _answer_chat(
        self, headers: Mapping[bytes, bytes], own_id: bytes, receive: Receive, send: Send
    ) -> None:
        """Answer a chat request; every exception becomes a reply."""
        headers = {b"x-request-id": own_id, **headers}
        exchange = ChatExchange(self._parts, headers, own_id, send)
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
        length = headers.get(b"content-length", b"")
        data = await body.read(receive, length, headers.get(b"content-encoding", b""))
        session_id = headers.get(b"x-session-id", b"").decode("latin-1")
        request_id = headers[b"x-request-id"].decode("latin-1")
        return read_request(data, tenant=tenant, session_id=session_id, request_id=request_id)

    async def _list_models(self, request: Request) -> Response:
        self._authenticate(request)
        return _json(self._parts.listing.models())

    async def _show_model(self, request: Request) -> Response:
        self._authenticate(request)
        return _json(await self._parts.listing.model(request.path_params["name"]))

    async def _list_endpoints(self, request: Request) -> Response:
        self._authenticate(request)
        return _json(await self._parts.listing.endpoints(request.path_params["name"]))

    def _authenticate(self, request: Request) -> None:
        authorization = request.headers.get("authorization", "").encode("latin-1")
        self._parts.clients.tenant_of(authorization)

    async def _health(self, _: Request) -> Response:
        """Return 200 if requests can be decided, with everything that is wrong all the same."""
        is_ready = await self._parts.decider.is_ready()
        causes = self._parts.metrics.causes()
        status = "degraded" if causes else "ok"
        if not is_ready:
            status = "decider not available"
        body = {"status": status, "causes": causes} if causes else {"status": status}
        return _json(body, 200 if is_ready else 503)

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


def _error_response(reply: ErrorReply) -> Response:
    response = Response(error_body(reply), reply.status, media_type="application/json")
    response.raw_headers += reply.http_headers
    return response


def _reply_with_error(_: Request, error: Exception) -> Response:
    return _error_response(cast("ErrorReply", error))


def _reject_path(request: Request, _: Exception) -> Response:
    """Reject a path that is not served, and name those that are."""
    what = f"{request.method} {quoted(request.url.path)} is not served; this forwarder answers"
    return _error_response(ErrorReply(404, f"{what} {_SERVED}", "not_found"))


def _reject_method(request: Request, error: Exception) -> Response:
    """Reject a method that is not served at this path, and name those that are."""
    allow = (cast("HTTPException", error).headers or {})["Allow"]
    message = f"{request.method} is not allowed at {quoted(request.url.path)}; allowed: {allow}"
    headers = ((b"allow", allow.encode()),)
    return _error_response(ErrorReply(405, message, "method_not_allowed", headers=headers))


def _report_bug(_: Request, error: Exception) -> Response:
    log.error("request failed", **bug_fields(error))
    return _error_response(ErrorReply(500, "internal error", "internal"))


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
        supervisor = Supervisor()
        for task in (reporter, listing):
            await stack.enter_async_context(supervisor.running(task))
        decider, sessions = DeciderClient(channel), SessionMemory()
        metrics = Metrics(reporter, listing, sessions, supervisor)
        yield ForwarderApp(
            ForwarderParts(
                providers, clients, decider, session, reporter, listing, metrics, sessions
            )
        )


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
