"""What a literal of the text means: strings decoded as the CEL specification says, numbers with their range."""

from __future__ import annotations

import math
import re

INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_ESCAPE = re.compile(
    r"\\(?:(?P<plain>[abfnrtv\\?\"'`])|[xX](?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})"
    r"|U(?P<U>[0-9a-fA-F]{8})|(?P<octal>[0-3][0-7]{2})|(?P<bad>.?))",
    re.DOTALL,
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_LAST_CODE_POINT = 0x10FFFF


class BadLiteral(Exception):
    """A literal that means nothing; `offset` counts from its first character."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


def decode_string(token: str) -> str:
    """The value of a string literal, given with prefix and quotes."""
    prefix = token[: min(token.find(q) for q in "\"'" if q in token)]
    if "b" in prefix.lower():
        raise BadLiteral("bytes are not in the portable subset")
    quote = 3 if token[len(prefix) :].startswith(('"""', "'''")) else 1
    start = len(prefix) + quote
    body = token[start:-quote]
    if "\r" in body:
        raise BadLiteral("a string may not hold a bare carriage return: write \\r")
    if any("\ud800" <= c <= "\udfff" for c in body):
        raise BadLiteral("a string may not hold half of a surrogate pair")
    if not prefix:
        return _ESCAPE.sub(lambda m: _unescape(m, start), body)
    if body.endswith("\\"):
        raise BadLiteral("a raw string that ends in a backslash is not in the portable subset")
    return body


def _unescape(match: re.Match[str], start: int) -> str:
    kind = match.lastgroup or "bad"
    value = match[kind]
    if kind == "plain":
        return _PLAIN.get(value, value)
    if kind == "bad":
        raise BadLiteral(f"unknown escape \\{ascii(value)[1:-1]}", start + match.start())
    code = int(value, 8 if kind == "octal" else 16)
    if code > _LAST_CODE_POINT or 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004 - the surrogates of Unicode
        raise BadLiteral(f"{match[0]} is not a character", start + match.start())
    return chr(code)


def decode_number(token: str) -> int | float:
    """The value of an unsigned number literal; an int may still be one too large, for a minus sign before it."""
    if token[-1] in "uU":
        raise BadLiteral("unsigned integers are not in the portable subset")
    if token[:2] in {"0x", "0X"}:
        value: int | float = int(token, 16)
    elif token.isdigit():
        value = int(token)
    else:
        value = float(token)
        if math.isinf(value):
            raise BadLiteral("this number is too large for a double")
        return value
    if value > INT_MAX + 1:
        raise BadLiteral("this number is too large for an int")
    return value
