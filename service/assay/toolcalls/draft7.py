"""A schema put into words that a strict compiler takes, meaning what `@cfworker/json-schema` makes of it in Draft 7."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

Node = dict[str, Any]

TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
FORMATS: Final = frozenset({
    "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "json-pointer", "relative-json-pointer",
    "time", "uri", "uri-reference", "uri-template", "uuid",
})  # fmt: skip
UNASSERTED: Final = (
    "$comment", "$schema", "contentEncoding", "contentMediaType", "default", "description", "examples", "readOnly",
    "title", "writeOnly",
)  # fmt: skip
LINKS: Final = ("$id", "$ref")
IN_LINKS: Final = "!#$%&'()*+,/:;=?@~"

BESIDE: Final = ("allOf", "anyOf", "else", "if", "not", "oneOf", "then")
"""Keywords whose schemas judge the very value that their own schema judges."""

BESIDE_BY_NAME: Final = ("dependencies",)
TOGETHER: Final = (*BESIDE, "additionalItems", "additionalProperties", "contains", "propertyNames")
"""Keywords whose schemas may judge one value with those of the other ones, be it that value or one in it."""

TOGETHER_BY_NAME: Final = (*BESIDE_BY_NAME, "patternProperties")
BY_NAME: Final = (*TOGETHER_BY_NAME, "properties", "$defs", "definitions")
DATA: Final = ("const", "enum")

FLAGS_ELSEWHERE: Final = ("exclusiveMaximum", "exclusiveMinimum", "required")
"""What other drafts say with true or false."""


def lower(schema: object) -> list[Node]:
    """Rewrite a schema in place, and return the schemas that it consists of, itself first.

    What asserts nothing goes, so that an ill-formed title spoils no schema; a type name that Draft 7 does not know
    matches nothing; a link may hold any character; a format that is not asserted there is not asserted here.
    """
    nodes = [schema] if isinstance(schema, dict) else []
    for node in nodes:  # grows while it is walked
        _rewrite(node)
        within = (word for word in node if word not in BY_NAME and word not in DATA)
        nodes.extend(part for part in parts(node, within, BY_NAME) if isinstance(part, dict))
    return nodes


def parts(node: Node, plain: Iterable[str], by_name: Iterable[str]) -> Iterator[object]:
    """What stands where these keywords keep their schemas."""
    for word in plain:
        if word in node:
            value = node[word]
            yield from value if isinstance(value, list) else (value,)
    for word in by_name:
        if isinstance(value := node.get(word), Mapping):
            yield from value.values()


def _rewrite(node: Node) -> None:
    for word in UNASSERTED:
        node.pop(word, None)
    for word in [word for word, value in node.items() if _says_nothing(word, value)]:
        del node[word]
    for word in LINKS:
        if isinstance(link := node.get(word), str):
            node[word] = quote(link, safe=IN_LINKS)
    if "type" in node:
        named = node["type"] if isinstance(node["type"], list) else [node["type"]]
        known = sorted({name for name in named if isinstance(name, str)} & TYPES)
        if known:
            node["type"] = known
        else:
            del node["type"]
            node["enum"] = []


def _says_nothing(word: str, value: object) -> bool:
    """Whether a keyword asserts nothing with this value, which Draft 7's own schema may refuse."""
    if word in FLAGS_ELSEWHERE:
        return isinstance(value, bool)
    if word == "format":
        return not isinstance(value, str) or value not in FORMATS
    return word in BY_NAME and value == []  # as PHP writes an empty mapping
