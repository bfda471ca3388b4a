"""Checks of request fields that several services share: names, page sizes and page tokens.

A page token is the key of the last item shown, so that pages hold while items come and go.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TypeVar

from assay.engine.errors import InvalidField
from assay.engine.world.request import check_text

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_TOKEN_DIGITS = 18

Item = TypeVar("Item")


def require_name(field: str, value: str) -> str:
    """Return a name; reject one that is empty, too long or not printable."""
    check_text(field, require_value(field, value))
    return value


def require_value(field: str, value: str) -> str:
    """Return a value; reject an empty one."""
    if not value:
        raise InvalidField(field, value, "a name")
    return value


def bounded_size(
    field: str, size: int, default: int = DEFAULT_PAGE_SIZE, maximum: int = MAX_PAGE_SIZE
) -> int:
    """Return how many items to answer with: the default for 0, at most the maximum."""
    if size < 0:
        raise InvalidField(field, size, "zero or more")
    return min(size or default, maximum)


def page(
    items: Sequence[Item], key: Callable[[Item], str], *, size: int, token: str
) -> tuple[Sequence[Item], str]:
    """Return the items after the token and the token of the next page; items are sorted by key."""
    size = bounded_size("page_size", size)
    start = bisect_right(items, key_of(token), key=key) if token else 0
    end = start + size
    return items[start:end], token_of(key(items[end - 1])) if end < len(items) else ""


def token_of(key: str) -> str:
    """Encode a key as an opaque page token."""
    return urlsafe_b64encode(key.encode()).decode()


def key_of(token: str) -> str:
    """Decode a page token; raises InvalidField."""
    try:
        return urlsafe_b64decode(token.encode("ascii")).decode()
    except (binascii.Error, UnicodeError) as error:
        raise invalid_token(token) from error


def number_of(digits: str, token: str, max_digits: int = MAX_TOKEN_DIGITS) -> int:
    """Read the number in a page token; raises InvalidField."""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= max_digits):
        raise invalid_token(token)
    return int(digits)


def invalid_token(token: str) -> InvalidField:
    """Return the error for a page token that no earlier page has returned."""
    return InvalidField("page_token", token, "a token from an earlier page")
