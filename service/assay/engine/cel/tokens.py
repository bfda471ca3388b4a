"""The tokens of an expression: limits are enforced and literals decoded before cel-python parses.

How it works
------------
cel-python parses CEL well, with three gaps. It recurses as deep as the text nests, so that hostile
text exhausts the stack. It decodes some escapes and numbers other than the CEL specification says.
And its grammar is slow on long operator chains. So one pass over the text comes first:

1. One regular expression splits the text into tokens. Each token counts towards the limits (bytes,
   tokens, nodes, brackets, prefix signs, operators in a row). Text over a limit is rejected before
   any parser sees it, in time linear in its length.
2. String, number, boolean and null literals are decoded here and kept by their offset.
3. The text is *blanked*: string contents become underscores, `true`, `false` and `null` become
   strings, and comments become spaces. Blanked text has the same length, so that every offset in
   cel-python's tree is an offset in the author's text.

`syntax` parses the blanked text and looks the literals up by their offsets.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from assay.engine.cel.faults import FaultList

INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_ESCAPE = re.compile(
    r"\\(?:(?P<plain>[abfnrtv\\?\"'`])|[xX](?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})"
    r"|U(?P<U>[0-9a-fA-F]{8})|(?P<octal>[0-3][0-7]{2})|(?P<bad>.?))",
    re.DOTALL,
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_LAST_CODE_POINT = 0x10FFFF


class _BadLiteral(Exception):
    """A malformed literal; `offset` counts from its first character."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


def _decode_string(token: str) -> str:
    """Return the value of a string literal, which includes its prefix and quotes."""
    prefix = token[: min(token.find(q) for q in "\"'" if q in token)]
    if "b" in prefix.lower():
        raise _BadLiteral("bytes are not in the portable subset")
    quote = 3 if token[len(prefix) :].startswith(('"""', "'''")) else 1
    start = len(prefix) + quote
    body = token[start:-quote]
    if "\r" in body:
        raise _BadLiteral("a string may not hold a bare carriage return: write \\r")
    if any("\ud800" <= c <= "\udfff" for c in body):
        raise _BadLiteral("a string may not hold half of a surrogate pair")
    if not prefix:
        return _ESCAPE.sub(lambda m: _unescape(m, start), body)
    if body.endswith("\\"):
        raise _BadLiteral("a raw string that ends in a backslash is not in the portable subset")
    return body


def _unescape(match: re.Match[str], start: int) -> str:
    kind = match.lastgroup or "bad"
    value = match[kind]
    if kind == "plain":
        return _PLAIN.get(value, value)
    if kind == "bad":
        raise _BadLiteral(f"unknown escape \\{ascii(value)[1:-1]}", start + match.start())
    code = int(value, 8 if kind == "octal" else 16)
    if code > _LAST_CODE_POINT or 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004 - surrogates
        raise _BadLiteral(f"{match[0]} is not a character", start + match.start())
    return chr(code)


def _decode_number(token: str) -> int | float:
    """Return the value of a number literal; an int may be one too large, for a minus before it."""
    if token[-1] in "uU":
        raise _BadLiteral("unsigned integers are not in the portable subset")
    if token[:2] in {"0x", "0X"}:
        value: int | float = int(token, 16)
    elif token.isdigit():
        value = int(token)
    else:
        value = float(token)
        if math.isinf(value):
            raise _BadLiteral("this number is too large for a double")
        return value
    if value > INT_MAX + 1:
        raise _BadLiteral("this number is too large for an int")
    return value


_TOKEN = re.compile(
    r"""
    (?P<space>[\t\n\f\r\ ]+)
    |(?P<comment>//[^\n]*)
    |(?P<string>
        (?:[rR][bB]?|[bB][rR])(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n\r]*"|'[^'\n\r]*')
        |[bB]?(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}
            |"(?:[^"\\\n\r]|\\[^\n\r])*"|'(?:[^'\\\n\r]|\\[^\n\r])*'))
    |(?P<number>
        (?:0[xX][0-9a-fA-F]+|[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+(?:[eE][+-]?[0-9]+)?)[uU]?)
    |(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
    |(?P<operator>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])
    |(?P<bad>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_WORDS: dict[str, object] = {"true": True, "false": False, "null": None}
_OPEN, _CLOSE = "([{", ")]}"
_UNCOUNTED = frozenset(".,:()]}")
_RESTART = frozenset({"&&", "||", ","})
_CHAINED = frozenset(
    ["<", "<=", ">", ">=", "==", "!=", "+", "-", "*", "/", "%", "?", ".", "[", "in"]
)
_HINTS = {
    "=": "unexpected '=', equality is written ==",
    "&": "unexpected '&', and is written &&",
    "|": "unexpected '|', or is written ||",
    '"': "this string has no end",
    "'": "this string has no end",
    "`": "back-quoted names are not in the portable subset",
}


@dataclass(frozen=True, slots=True)
class LiteralToken:
    """A literal with its value; a `broken` one has been reported."""

    text: str
    value: object
    broken: bool = False


@dataclass(frozen=True, slots=True)
class ScannedText:
    """The blanked text, the literals by offset, and the offset of the first token."""

    blanked: str
    literals: dict[int, LiteralToken]
    start: int


def scan(text: str, limits: Limits, faults: FaultList) -> ScannedText:
    """Scan all tokens; raise ExpressionFaults at a limit or an invalid character.

    A malformed literal is added to `faults`, and scanning goes on.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limits.bytes:
        raise faults.stop(0, f"the expression has {size} bytes, {limits.bytes} are allowed")
    shape = _Shape(limits, faults)
    pieces: list[str] = []
    literals: dict[int, LiteralToken] = {}
    start: int | None = None
    for match in _TOKEN.finditer(text):
        kind, token, offset = match.lastgroup or "bad", match[0], match.start()
        if kind in {"space", "comment"}:
            pieces.append(token if kind == "space" else " " * len(token))
            continue
        start = offset if start is None else start
        if kind == "bad":
            raise faults.stop(offset, _HINTS.get(token, f"unexpected character {token!a}"))
        shape.see(kind, token, offset)
        literal = _literal(kind, token, offset, faults)
        if literal is not None:
            literals[offset] = literal
        quoted = literal is not None and kind != "number"
        pieces.append(f'"{"_" * (len(token) - 2)}"' if quoted else token)
    if start is None:
        raise faults.stop(0, "the expression is empty")
    return ScannedText("".join(pieces), literals, start)


def _literal(kind: str, token: str, offset: int, faults: FaultList) -> LiteralToken | None:
    if kind == "name" and token in _WORDS:
        return LiteralToken(token, _WORDS[token])
    if kind not in {"string", "number"}:
        return None
    try:
        decode = _decode_string if kind == "string" else _decode_number
        return LiteralToken(token, decode(token))
    except _BadLiteral as bad:
        faults.add(offset + bad.offset, str(bad))
        return LiteralToken(token, None, broken=True)


class _Shape:
    """The size and depth of the tokens so far."""

    def __init__(self, limits: Limits, faults: FaultList) -> None:
        self.limits, self.faults = limits, faults
        self.tokens = self.nodes = self.unary = 0
        self.chains = [0]
        self.last = ""
        self.last_kind = "operator"

    def see(self, kind: str, token: str, offset: int) -> None:
        """Count a token; raise ExpressionFaults over a limit."""
        self.tokens += 1
        self.nodes += token not in _UNCOUNTED
        operand_follows = self.last_kind == "operator" and self.last not in _CLOSE
        is_sign = kind == "operator" and token in {"!", "-"}
        self.unary = self.unary + 1 if is_sign and (operand_follows or not self.last) else 0
        if token in _CHAINED:
            self.chains[-1] += 1
        elif token in _RESTART:
            self.chains[-1] = 0
        if (kind, token) == ("operator", "?") and self.last in {".", "[", "{", ","}:
            raise self.faults.stop(offset, "optional syntax is not in the portable subset")
        if kind == "operator" and token in _OPEN:
            self.chains.append(0)
        elif kind == "operator" and token in _CLOSE and len(self.chains) > 1:
            self.chains.pop()
        self.last, self.last_kind = token, kind
        self._limit(offset)

    def _limit(self, offset: int) -> None:
        limits = self.limits
        for found, allowed, what in (
            (self.tokens, limits.tokens, "more than {} words and signs"),
            (self.nodes, limits.nodes, "more than {} nodes"),
            (len(self.chains) - 1, limits.brackets, "brackets nested deeper than {}"),
            (self.unary, limits.unary, "more than {} signs before one operand"),
            (self.chains[-1], limits.chain, "more than {} operators in a row"),
        ):
            if found > allowed:
                why = f"{what.format(allowed)}, split it into variables"
                raise self.faults.stop(offset, f"too complex: {why}")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an expression; `chain` counts operators in a row other than `&&` and `||`."""

    bytes: int = 4096
    tokens: int = 800
    nodes: int = 500
    brackets: int = 32
    unary: int = 32
    chain: int = 64
    depth: int = 100
    macros: int = 2
    elements: int = 200


LIMITS = Limits()
