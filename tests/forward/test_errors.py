"""Error replies: which failure decides, when to retry, and how much memory bodies may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from assay.forward import http_limits
from assay.forward.errors import AttemptResult, ErrorReply, all_attempts_failed_error
from assay.forward.http_limits import BodyBudget
from assay.forward.settings import ProviderConnection, ProviderKey
from assay.forward.taxonomy import (
    CALLER_ERROR,
    FORBIDDEN,
    RATE_LIMITED,
    SERVER_ERROR,
    AttemptError,
)
from assay.v1 import routing_pb2 as pb

LIMITED = AttemptError(RATE_LIMITED, 429, retry_after=7.2)
LIMITED_SHORTER = AttemptError(RATE_LIMITED, 429, retry_after=2.5)
BROKEN = AttemptError(SERVER_ERROR, 500)
INVALID = AttemptError(CALLER_ERROR, 422, message="too long")
MODERATED = AttemptError(FORBIDDEN, 403)


@pytest.mark.parametrize(
    ("errors", "status", "message", "retry_after"),
    [
        pytest.param([INVALID], 422, "too long", None, id="the caller's own error"),
        pytest.param([BROKEN, MODERATED], 403, "the provider rejected", None, id="forbidden last"),
        pytest.param([INVALID, BROKEN], 503, "every attempt", 1.0, id="another failure last"),
        pytest.param([LIMITED, LIMITED_SHORTER], 429, "every provider", 2.5, id="all limited"),
        pytest.param([LIMITED, BROKEN], 503, "every attempt", 7.2, id="one limited"),
        pytest.param([], 503, "every attempt", 1.0, id="no attempt in time"),
    ],
)
def test_the_reply_after_all_attempts_have_failed(
    errors: list[AttemptError], status: int, message: str, retry_after: float | None
) -> None:
    results = [AttemptResult(pb.Attempt(), "p", error) for error in errors]
    reply = all_attempts_failed_error(results, ["lab/m"])
    assert (reply.status, reply.retry_after) == (status, retry_after)
    assert reply.message.startswith(message)


def test_retry_after_is_rounded_up_to_whole_seconds() -> None:
    assert ErrorReply(503, "", "", retry_after=2.01).retry_after_header == 3


def test_messages_of_providers_lose_the_key_and_are_shortened() -> None:
    key = ProviderKey("sk-1")
    provider = ProviderConnection("p", "P", None, key=key)  # type: ignore[arg-type] # URL unused
    assert provider.redact("sk-1" + "x" * 3000) == "…" + "x" * 1999


def receive_in(*parts: bytes) -> Callable[[], Awaitable[dict[str, object]]]:
    left = list(parts)

    async def receive() -> dict[str, object]:
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    return receive


def test_bodies_share_a_budget_that_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "_MAX_BODIES_BYTES", 10)

    async def main() -> None:
        budget = BodyBudget()
        with budget.body() as body, budget.body() as other:
            assert await body.read(receive_in(b"123", b"456"), b"") == b"123456"
            with pytest.raises(ErrorReply) as caught:
                await other.read(receive_in(b"12345"), b"")
            assert (caught.value.status, caught.value.retry_after) == (503, 1.0)
            with pytest.raises(ErrorReply):
                await other.read(receive_in(b""), b"5")
        assert budget.used == 0
        with budget.body() as body:
            assert await body.read(receive_in(b"1234567890"), b"10") == b"1234567890"

    asyncio.run(main())
