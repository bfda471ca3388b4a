"""Requests to providers: a session for each, checked addresses, bounded answers, no redirects."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from io import BytesIO
from typing import Final, Self

import aiohttp
import orjson
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace

from assay.forward import taxonomy
from assay.forward.addresses import CheckedResolver
from assay.forward.refusals import ErrorFields, read_error_fields
from assay.forward.settings import ProviderConnection, ProviderConnections
from assay.forward.taxonomy import HTTP_OK, AttemptError, parse_retry_after, status_error

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
_MAX_ERROR_BYTES: Final = 64 * 1024
_ERROR_SECONDS: Final = 2.0
_MAX_BYTES_IN_ONE_WRITE: Final = 1024 * 1024
_HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "assay",
}
_UNCOMPRESSED: Final = ("", "identity")


_opened: Final = ContextVar("_opened", default=0)
"""How many connections the current task began to open."""


class _CountingConnector(aiohttp.TCPConnector):
    """Counts in `_opened`; aiohttp's own tracing takes a tenth of a whole request."""

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> ResponseHandler:
        _opened.set(_opened.get() + 1)
        return await super()._create_connection(req, traces, timeout)


class ProviderSession:
    """Sends requests to providers while its context lasts."""

    def __init__(self, connections: ProviderConnections) -> None:
        providers = connections.by_slug.values()
        hosts = (each.url.host for each in providers if each.private)
        self._private_hosts = frozenset(host for host in hosts if host)
        self._headers = {each.slug: {**_HEADERS, **each.headers()} for each in providers}
        self._timeouts = {
            each.slug: aiohttp.ClientTimeout(
                total=None, connect=each.timeouts.connect, ceil_threshold=86_400
            )
            for each in providers
        }

    async def __aenter__(self) -> Self:
        resolver = CheckedResolver(self._private_hosts)
        # A pool for each provider: what one does to its connections does not affect another one.
        self._sessions = {
            slug: aiohttp.ClientSession(
                connector=_CountingConnector(limit=0, resolver=resolver),
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, read_bufsize=65536,
            )
            for slug in self._headers
        }  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(session.close() for session in self._sessions.values()))

    async def post(self, provider: ProviderConnection, body: bytes) -> aiohttp.ClientResponse:
        """Return the response once its headers are there; raise AttemptError.

        A pooled connection may have died unnoticed. It is replaced once, if it broke before the
        first byte of a response, and only then counts as a failure.
        """
        opened = _opened.get()
        try:
            try:
                response = await self._send(provider, body)
            except aiohttp.ClientConnectionError:
                if _opened.get() > opened:  # it was a new one
                    raise
                response = await self._send(provider, body)
        # Not chained: aiohttp's errors may hold the request with its key.
        except aiohttp.ClientResponseError:
            raise AttemptError(taxonomy.MALFORMED) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL):
            raise AttemptError(taxonomy.CONNECT) from None
        except (aiohttp.ClientError, OSError):
            raise AttemptError(taxonomy.DROPPED) from None
        if response.status != HTTP_OK:
            raise await _read_status_error(response, body)
        if response.headers.get("Content-Encoding", "") not in _UNCOMPRESSED:
            response.close()
            raise AttemptError(taxonomy.MALFORMED, HTTP_OK)
        return response

    async def _send(self, provider: ProviderConnection, body: bytes) -> aiohttp.ClientResponse:
        return await self._sessions[provider.slug].post(
            provider.url,
            data=body if len(body) < _MAX_BYTES_IN_ONE_WRITE else BytesIO(body),
            headers=self._headers[provider.slug],
            timeout=self._timeouts[provider.slug],
            allow_redirects=False,
        )


async def _read_status_error(response: aiohttp.ClientResponse, request_body: bytes) -> AttemptError:
    """Return the error of another status, with what its body says."""
    fields = None
    try:
        async with asyncio.timeout(_ERROR_SECONDS):
            fields = _fields_in(await read_body(response, _MAX_ERROR_BYTES))
    except (AttemptError, TimeoutError):
        pass  # the body is not readable: the status alone decides
    finally:
        response.close()
    error = status_error(response.status, fields, request_body)
    error.retry_after = parse_retry_after(response.headers.get("Retry-After"))
    return error


async def read_body(response: aiohttp.ClientResponse, limit: int = MAX_ANSWER_BYTES) -> bytes:
    """Return a body; raise AttemptError if it is longer than the limit or breaks off."""
    parts, size = [], 0
    try:
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > limit:
                raise AttemptError(taxonomy.MALFORMED, response.status)
    except (aiohttp.ClientError, OSError):
        raise AttemptError(taxonomy.DROPPED, response.status) from None
    return b"".join(parts)


def _fields_in(body: bytes) -> ErrorFields | None:
    """Return what the JSON of an error says, or `None` if there is none."""
    with suppress(orjson.JSONDecodeError):
        if error := orjson.loads(body):
            return read_error_fields(error)
    return None
