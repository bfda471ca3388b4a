"""Requests to providers: one session, checked addresses, bounded answers; no redirects, no cookies, no proxies."""

from __future__ import annotations

from io import BytesIO
from typing import Final, Self

import aiohttp
import orjson

from assay.forward.addresses import CheckedResolver
from assay.forward.settings import ProviderConnection, ProviderConnections
from assay.forward.taxonomy import (
    CALLER_ERROR,
    CONNECT,
    DROPPED,
    FORBIDDEN,
    MALFORMED,
    OK,
    AttemptError,
    by_status,
    retry_after,
)

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
MAX_REFUSAL_BYTES: Final = 64 * 1024
IN_ONE_WRITE: Final = 1024 * 1024
HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "assay",
}
IDENTITY: Final = ("", "identity")


class ProviderSession:
    """Sends requests to providers while its context lasts."""

    def __init__(self, providers: ProviderConnections) -> None:
        every = providers.by_slug.values()
        self._private = frozenset(each.url.host for each in every if each.private and each.url.host)
        self._headers = {each.slug: {**HEADERS, **each.headers()} for each in every}
        self._timeouts = {
            each.slug: aiohttp.ClientTimeout(
                total=None, connect=each.timeouts.connect, ceil_threshold=86_400
            )
            for each in every
        }

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, resolver=CheckedResolver(self._private)),
            cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, read_bufsize=65536,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session with its connections."""
        await self._session.close()

    async def post(self, provider: ProviderConnection, body: bytes) -> aiohttp.ClientResponse:
        """The answer from its headers on, if it is one; raises Failed."""
        try:
            response = await self._session.post(
                provider.url, data=body if len(body) < IN_ONE_WRITE else BytesIO(body),
                headers=self._headers[provider.slug], timeout=self._timeouts[provider.slug], allow_redirects=False,
            )  # fmt: skip
        # None is chained: what aiohttp raises may hold the request with its key.
        except aiohttp.ClientResponseError:
            raise AttemptError(MALFORMED) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL):
            raise AttemptError(CONNECT) from None
        except (aiohttp.ClientError, OSError):
            raise AttemptError(DROPPED) from None
        if response.status != OK:
            raise await self._refusal(response)
        if response.headers.get("Content-Encoding", "") not in IDENTITY:
            response.close()
            raise AttemptError(MALFORMED, OK)
        return response

    async def _refusal(self, response: aiohttp.ClientResponse) -> AttemptError:
        """What a status other than 200 means; the provider's own words are kept where the fault is the caller's."""
        row, told = by_status(response.status), ""
        try:
            if row in (CALLER_ERROR, FORBIDDEN):
                told = message_in(await read_whole(response, MAX_REFUSAL_BYTES))
        except AttemptError:
            pass  # refused without words
        finally:
            response.close()
        seconds = retry_after(response.headers.get("Retry-After"))
        return AttemptError(row, response.status, retry_after=seconds, told=told)


async def read_whole(response: aiohttp.ClientResponse, limit: int = MAX_ANSWER_BYTES) -> bytes:
    """A body up to a limit; raises Failed where it is longer or breaks off."""
    parts, size = [], 0
    try:
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > limit:
                raise AttemptError(MALFORMED, response.status)
    except (aiohttp.ClientError, OSError):
        raise AttemptError(DROPPED, response.status) from None
    return b"".join(parts)


def message_in(body: bytes) -> str:
    """The message of an error body in one of the usual shapes."""
    try:
        error = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    for key in ("error", "message"):
        error = error.get(key, error) if isinstance(error, dict) else error
    return error if isinstance(error, str) else ""
