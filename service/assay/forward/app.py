"""The forwarder as an ASGI application, its background tasks, and its HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from assay.forward.chat import ChatHandler, ForwarderParts, Scope
from assay.forward.decider import DeciderClient, open_channel
from assay.forward.errors import ErrorReply
from assay.forward.http_limits import LimitedHttpProtocol, Receive
from assay.forward.metrics import Metrics
from assay.forward.model_listing import ModelListing
from assay.forward.reply import Send, error_body
from assay.forward.reporting import OutcomeReporter, Spool
from assay.forward.settings import Clients, ProviderConnections
from assay.forward.upstream import ProviderSession

_CHAT_PATH: Final = "/v1/chat/completions"
_KEEP_ALIVE_SECONDS: Final = 75
_DRAIN_SECONDS: Final = 30
_FLUSH_SECONDS: Final = 2.0
_BACKLOG: Final = 4096


class ForwarderApp:
    """The ASGI application: chat requests go to ChatHandler directly, others through Starlette."""

    def __init__(self, parts: ForwarderParts) -> None:
        self._parts = parts
        self._chat = ChatHandler(parts)
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
            await self._chat(scope, receive, send)
        else:
            await self._other_routes(scope, receive, send)

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
