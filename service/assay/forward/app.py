"""The forwarding layer put together: its routes, what runs beside them, and the server that they are served by."""

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
from assay.forward.decider import DeciderClient, channel_to
from assay.forward.errors import ErrorReply, envelope
from assay.forward.http_limits import LimitedHttpProtocol, Receive
from assay.forward.metrics import Metrics
from assay.forward.model_listing import ModelListing
from assay.forward.reply import Send
from assay.forward.reporting import OutcomeReporter, Spool
from assay.forward.settings import Clients, ProviderConnections
from assay.forward.upstream import ProviderSession

CHAT: Final = "/v1/chat/completions"
KEEP_ALIVE_SECONDS: Final = 75
DRAIN_SECONDS: Final = 30
FLUSH_SECONDS: Final = 2.0
BACKLOG: Final = 4096


class ForwarderApp:
    """The ASGI application: chat without anything between, the rest through Starlette."""

    def __init__(self, parts: ForwarderParts) -> None:
        self._parts = parts
        self._chat = ChatHandler(parts)
        self._rest = Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/models/{name:path}/endpoints", self.models),
                Route("/healthz", self.health),
                Route("/metrics", self.metrics),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"] == CHAT and scope["method"] == "POST":
            await self._chat(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    async def models(self, request: Request) -> Response:
        """List models, or the endpoints of one."""
        try:
            self._parts.clients.require(request.headers.get("authorization", "").encode("latin-1"))
            name = request.path_params.get("name")
            catalog = self._parts.catalog
            return answered(catalog.models() if name is None else await catalog.endpoints(name))
        except ErrorReply as refused:
            return refusal(refused)

    async def health(self, _: Request) -> Response:
        """Tell whether requests could be decided."""
        well = await self._parts.decisions.ready()
        return answered({"status": "ok" if well else "decider away"}, 200 if well else 503)

    async def metrics(self, _: Request) -> Response:
        """Tell what is counted."""
        return Response(self._parts.metrics.text(), media_type="text/plain; version=0.0.4")


def answered(value: object, status: int = 200) -> Response:
    """A value in JSON."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def refusal(refused: ErrorReply) -> Response:
    """An error in its envelope."""
    headers = {} if refused.retry_after is None else {"retry-after": str(refused.whole_seconds)}
    return Response(envelope(refused), refused.status, headers, "application/json")


@asynccontextmanager
async def forwarder_app(
    server: str, providers: ProviderConnections, clients: Clients, spool: Path
) -> AsyncIterator[ForwarderApp]:
    """The application while its context lasts, with reports and catalog kept up beside it."""
    async with AsyncExitStack() as stack:
        kept = Spool(spool)
        stack.callback(kept.close)
        channel = await stack.enter_async_context(channel_to(server))
        upstream = await stack.enter_async_context(ProviderSession(providers))
        reporter, catalog = OutcomeReporter(kept, channel), ModelListing(channel)
        stack.push_async_callback(flushed, reporter)
        for task in (asyncio.create_task(reporter.run()), asyncio.create_task(catalog.run())):
            stack.push_async_callback(ended, task)
        parts = ForwarderParts(
            providers=providers, clients=clients, decisions=DeciderClient(channel), upstream=upstream, reporter=reporter,
            catalog=catalog, metrics=Metrics(reporter),
        )  # fmt: skip
        yield ForwarderApp(parts)


async def ended(task: asyncio.Task[None]) -> None:
    """End what runs beside."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def flushed(reporter: OutcomeReporter) -> None:
    """Send what there is, for a short while; the rest waits on disk."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_SECONDS):
            await reporter.flush()


def build_server(application: ForwarderApp) -> uvicorn.Server:
    """The server: on SIGTERM, SIGINT or `should_exit` requests under way have some time to end."""
    config = uvicorn.Config(
        application, http=LimitedHttpProtocol, ws="none", lifespan="off", interface="asgi3", log_config=None, log_level="critical",
        access_log=False, proxy_headers=False, server_header=False, backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=DRAIN_SECONDS,
    )  # fmt: skip
    return uvicorn.Server(config)
