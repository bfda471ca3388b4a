"""Rewriting of schemas for a strict compiler.

The compiler then reads them as `@cfworker/json-schema` does in Draft 7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

Node = dict[str, Any]

_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_FORMATS: Final = frozenset({
    "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "json-pointer",
    "relative-json-pointer", "time", "uri", "uri-reference", "uri-template", "uuid",
})  # fmt: skip
_UNASSERTED: Final = (
    "$comment", "$schema", "contentEncoding", "contentMediaType", "default", "description",
    "examples", "readOnly", "title", "writeOnly",
)  # fmt: skip
_LINKS: Final = ("$id", "$ref")
_IN_LINKS: Final = "!#$%&'()*+,/:;=?@~"

SAME_VALUE: Final = ("allOf", "anyOf", "else", "if", "not", "oneOf", "then")
"""Keywords whose subschemas check the same value as the schema itself."""

SAME_VALUE_BY_NAME: Final = ("dependencies",)
ALL_OF_ONE: Final = (
    *SAME_VALUE, "additionalItems", "additionalProperties", "contains", "propertyNames",
)  # fmt: skip
"""Keywords whose subschemas may all check one value: the schema's own, or one inside it."""

ALL_OF_ONE_BY_NAME: Final = (*SAME_VALUE_BY_NAME, "patternProperties")
_BY_NAME: Final = (*ALL_OF_ONE_BY_NAME, "properties", "$defs", "definitions")
_DATA: Final = ("const", "enum")
_BOOLEAN_ELSEWHERE: Final = ("exclusiveMaximum", "exclusiveMinimum", "required")
"""Keywords that other drafts set to true or false."""


def lower(schema: object) -> list[Node]:
    """Rewrite a schema in place, and return all its subschemas, itself first.

    Keywords that assert nothing are removed, so an invalid title does not spoil a schema. A type
    name outside Draft 7 matches nothing, a link may hold any character, and formats that are not
    asserted there are removed here.
    """
    nodes = [schema] if isinstance(schema, dict) else []
    for node in nodes:  # grows during the loop
        _rewrite(node)
        plain = [word for word in node if word not in _BY_NAME and word not in _DATA]
        nodes.extend(part for part in subschemas(node, plain, _BY_NAME) if isinstance(part, dict))
    return nodes


def subschemas(node: Node, plain: Iterable[str], by_name: Iterable[str]) -> Iterator[object]:
    """Yield the subschemas under these keywords: single ones or lists, and mappings of names."""
    for word in plain:
        if word in node:
            value = node[word]
            yield from value if isinstance(value, list) else (value,)
    for word in by_name:
        if isinstance(value := node.get(word), Mapping):
            yield from value.values()


def _rewrite(node: Node) -> None:
    for word in [word for word, value in node.items() if _asserts_nothing(word, value)]:
        del node[word]
    for word in _LINKS:
        if isinstance(link := node.get(word), str):
            node[word] = quote(link, safe=_IN_LINKS)
    if "type" in node:
        named = node["type"] if isinstance(node["type"], list) else [node["type"]]
        known = sorted({name for name in named if isinstance(name, str)} & _TYPES)
        if known:
            node["type"] = known
        else:
            del node["type"]
            node["enum"] = []


def _asserts_nothing(word: str, value: object) -> bool:
    """Whether a keyword asserts nothing with this value, which Draft 7's own schema may reject."""
    if word in _BOOLEAN_ELSEWHERE:
        return isinstance(value, bool)
    if word == "format":
        return not isinstance(value, str) or value not in _FORMATS
    return word in _UNASSERTED or (word in _BY_NAME and value == [])  # PHP's empty mapping
