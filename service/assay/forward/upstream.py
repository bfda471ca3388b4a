"""Requests to providers: one session, checked addresses, bounded answers, no redirects."""

from __future__ import annotations

from io import BytesIO
from typing import Final, Self

import aiohttp
import orjson

from assay.forward import taxonomy
from assay.forward.addresses import CheckedResolver
from assay.forward.settings import ProviderConnection, ProviderConnections
from assay.forward.taxonomy import HTTP_OK, AttemptError, kind_of_status, parse_retry_after

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
_MAX_ERROR_BYTES: Final = 64 * 1024
_MAX_BYTES_IN_ONE_WRITE: Final = 1024 * 1024
_HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "assay",
}
_UNCOMPRESSED: Final = ("", "identity")


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
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, resolver=resolver),
            cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, read_bufsize=65536,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def post(self, provider: ProviderConnection, body: bytes) -> aiohttp.ClientResponse:
        """Return the response once its headers are there; raise AttemptError."""
        try:
            response = await self._session.post(
                provider.url,
                data=body if len(body) < _MAX_BYTES_IN_ONE_WRITE else BytesIO(body),
                headers=self._headers[provider.slug],
                timeout=self._timeouts[provider.slug],
                allow_redirects=False,
            )
        # Not chained: aiohttp's errors may hold the request with its key.
        except aiohttp.ClientResponseError:
            raise AttemptError(taxonomy.MALFORMED) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL):
            raise AttemptError(taxonomy.CONNECT) from None
        except (aiohttp.ClientError, OSError):
            raise AttemptError(taxonomy.DROPPED) from None
        if response.status != HTTP_OK:
            raise await _status_error(response)
        if response.headers.get("Content-Encoding", "") not in _UNCOMPRESSED:
            response.close()
            raise AttemptError(taxonomy.MALFORMED, HTTP_OK)
        return response


async def _status_error(response: aiohttp.ClientResponse) -> AttemptError:
    """Return the error of another status, with the provider's message if the caller may need it."""
    kind, message = kind_of_status(response.status), ""
    try:
        if kind in (taxonomy.CALLER_ERROR, taxonomy.FORBIDDEN):
            message = _message_in(await read_body(response, _MAX_ERROR_BYTES))
    except AttemptError:
        pass  # the body is not readable: the status alone decides
    finally:
        response.close()
    seconds = parse_retry_after(response.headers.get("Retry-After"))
    return AttemptError(kind, response.status, retry_after=seconds, message=message)


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


def _message_in(body: bytes) -> str:
    """Return the message of an error body in one of the usual shapes."""
    try:
        error = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    for key in ("error", "message"):
        error = error.get(key, error) if isinstance(error, dict) else error
    return error if isinstance(error, str) else ""
