"""What simulated providers saw: every request, without the key's value and without what was said."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

KEPT: Final = 20_000  # requests; the oldest give way
KEY_HEADERS: Final = frozenset(
    {"authorization", "api-key", "x-api-key", "proxy-authorization", "cookie"}
)
UNSAID: Final = frozenset({"messages", "tools"})

End = Literal["open", "sent", "cancelled"]


class Seen(msgspec.Struct, kw_only=True):
    """One request; the fields of its body save what was said and what was offered."""

    provider: str
    number: int  # among the provider's, from 1
    method: str
    path: str
    headers: dict[str, str]
    model: str
    stream: bool
    fields: dict[str, Any]
    messages: int
    tools: int
    fault: str | None = None
    end: End = "open"
    began: float  # seconds since 1970
    ended: float | None = None

    def close(self, end: End) -> None:
        """How it ended, and when."""
        self.end, self.ended = end, time.time()


class Book:
    """Every request seen, oldest first."""

    def __init__(self) -> None:
        self._seen: deque[Seen] = deque(maxlen=KEPT)
        self._numbers: dict[str, int] = {}

    def note(
        self,
        provider: str,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]],
        body: object,
    ) -> Seen:
        """Take down a request as it comes in."""
        fields = body if isinstance(body, Mapping) else {}
        number = self._numbers[provider] = self._numbers.get(provider, 0) + 1
        seen = Seen(
            provider=provider,
            number=number,
            method=method,
            path=path,
            headers={name: hashed(text) if name in KEY_HEADERS else text for name, text in headers},
            model=str(fields.get("model", "")),
            stream=bool(fields.get("stream")),
            fields={name: one for name, one in fields.items() if name not in UNSAID},
            messages=counted(fields.get("messages")),
            tools=counted(fields.get("tools")),
            began=time.time(),
        )
        self._seen.append(seen)
        return seen

    def of(self, provider: str | None) -> list[Seen]:
        """The requests of a provider, or all."""
        return [seen for seen in self._seen if provider in (None, seen.provider)]

    def forget(self) -> None:
        """Let go of what was seen; numbers go on."""
        self._seen.clear()


def counted(items: object) -> int:
    """How many items a list has; none where there is no list."""
    return len(items) if isinstance(items, list) else 0


def hashed(text: str) -> str:
    """The SHA-256 of a key, without the scheme before it."""
    return "sha256:" + hashlib.sha256(text.removeprefix("Bearer ").encode()).hexdigest()
