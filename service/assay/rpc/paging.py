"""Pages of a sorted sequence: the token is the key of the last item shown, so pages hold while items come and go."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TypeVar

from assay.engine.errors import InvalidField

DEFAULT_SIZE = 100
MAX_SIZE = 1000

Item = TypeVar("Item")


def page(
    items: Sequence[Item], key: Callable[[Item], str], *, size: int, token: str
) -> tuple[Sequence[Item], str]:
    """The items after the token, and the token of the next page; items must be in the order of their key."""
    if size < 0:
        raise InvalidField("page_size", size, "a number, zero or more")
    start = bisect_right(items, key_of(token), key=key) if token else 0
    end = start + min(size or DEFAULT_SIZE, MAX_SIZE)
    return items[start:end], token_of(key(items[end - 1])) if end < len(items) else ""


def token_of(key: str) -> str:
    """A key as opaque text."""
    return urlsafe_b64encode(key.encode()).decode()


def key_of(token: str) -> str:
    """The key in a token; anything that is no token of ours is refused."""
    try:
        return urlsafe_b64decode(token.encode("ascii")).decode()
    except (binascii.Error, UnicodeError) as error:
        raise InvalidField("page_token", token, "a token from the page before") from error
