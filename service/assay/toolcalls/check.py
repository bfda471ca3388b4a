"""Tool calls checked against the tools that the request offered: a small library that a gateway may import.

`check` answers as `@cfworker/json-schema` 4.1 (Draft 7) behind JavaScript's `JSON.parse` would, which is what
OpenRouter counts its Tool Call Error Rate with. It raises nothing, never leaves the process and ends in about a second
at most, whatever JSON it is handed. Arguments come from the endpoint, so what cannot be read counts against it.
Schemas come from the caller, so what cannot be judged by one counts for the endpoint: where the schema is missing, does
not compile, has more than 65,536 bytes or 100 levels, or would cost too much to judge by, every call that is JSON is
valid.

Where the answers differ from those of `@cfworker/json-schema`:

- A schema must hold to Draft 7's own schema in what it asserts, else it does not compile; there it throws once an ill
  value is met. Boolean `exclusiveMinimum`, `exclusiveMaximum` and `required`, as in drafts 3 and 4, assert nothing;
  there the first two are compared as 0 or 1, and the third throws.
- Keywords of later drafts (`prefixItems`, `dependentRequired`, `unevaluatedProperties`) assert nothing, as OpenRouter
  documents; there the code enforces them whatever the draft.
- Patterns run in linear time, so a schema with look-around or a back reference does not compile; there JavaScript's
  engine takes such patterns, and as long as it likes.
- A `$ref` is never fetched: a schema with one that leads outside, or with references that go in a circle without
  going deeper into the value, does not compile; there the call throws once it comes upon one.
- The formats `regex` (which would compile text of the endpoint's), `url` and `json-pointer-uri-fragment` are not
  asserted, `email`, `hostname`, `ipv4`, `uri` and `uri-reference` follow their RFCs in corners such as `01.2.3.4`.
- An integer beyond 2^53 is taken exactly, and as the double of `JSON.parse` only where it does not match so.
- A number beyond the doubles is the largest one, not infinity, and half a surrogate pair is U+FFFD.
- Arguments of more than 1,048,576 characters, or nested deeper than 128 levels, are invalid JSON.
- A call without `arguments` is invalid JSON; a type name outside Draft 7, such as `dict`, matches nothing, as there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

from msgspec import DecodeError, Struct

from assay.toolcalls.javascript import (
    SHORT,
    NotJsonError,
    decode,
    hopeless,
    parse,
    with_doubles,
    written,
)
from assay.toolcalls.schemas import CompiledSchema, canonical, compiled


class CallClass(StrEnum):
    """What one tool call is, in the words of OpenRouter."""

    VALID = "Valid"
    INVALID_JSON = "InvalidJson"
    UNKNOWN_NAME = "UnknownName"
    SCHEMA_MISMATCH = "SchemaMismatch"


VALID: Final = CallClass.VALID
INVALID_JSON: Final = CallClass.INVALID_JSON
UNKNOWN_NAME: Final = CallClass.UNKNOWN_NAME
SCHEMA_MISMATCH: Final = CallClass.SCHEMA_MISMATCH


class ToolCallCheck(Struct, frozen=True):
    """The class of every call of one answer, in the order of the calls."""

    calls: tuple[CallClass, ...]

    @property
    def errored(self) -> bool:
        """Whether any call is bad, which is what makes the request count as errored."""
        return any(found is not VALID for found in self.calls)


def check(
    tools: OfferedTools | Iterable[object] | None, tool_calls: Iterable[object] | None
) -> ToolCallCheck:
    """Class every call of an answer by the tools its request offered, both as in OpenAI's API.

    Arguments are JSON text; a gateway that has read them already may hand in the values. `OfferedTools` that are kept for
    several answers spare the work of telling which schemas they are.
    """
    known = tools if isinstance(tools, OfferedTools) else OfferedTools(tools)
    return ToolCallCheck(tuple([_class(call, known) for call in tool_calls or ()]))


def _class(item: Any, tools: OfferedTools) -> CallClass:  # noqa: ANN401 - any value, known or not
    """The class of a call: at once where it is short and plain, as almost all are, else with care."""
    text = None
    try:
        call = item["function"]
        text = call["arguments"]
        if len(text) <= SHORT:
            value = decode(text)
            schema = tools[call["name"]]
            if schema is None:
                return UNKNOWN_NAME
            if schema.accepts(value):
                return VALID
            if not schema.rounds:
                return SCHEMA_MISMATCH
    except DecodeError as error:
        if hopeless(text, error):
            return INVALID_JSON
    except (KeyError, RecursionError, TypeError, UnicodeError):
        pass  # not plain
    return _careful_class(function_of(item), tools)


def _careful_class(call: Function, tools: OfferedTools) -> CallClass:
    try:
        text = written(call.get("arguments"))
        value = parse(text)
    except NotJsonError:
        return INVALID_JSON
    name = call.get("name")
    schema = tools[name] if isinstance(name, str) else None
    if schema is None:
        return UNKNOWN_NAME
    if len(text) > schema.longest or schema.accepts(value):
        return VALID
    if schema.rounds and schema.accepts(with_doubles(text)):
        return VALID
    return SCHEMA_MISMATCH


Function = Mapping[str, Any]  # what a tool or a call says of its function


class OfferedTools(dict[str, CompiledSchema | None]):
    """The tools that a request, or many requests, offer, as in OpenAI's API; each schema comes in once it is asked for.

    An unknown name has `None`. Of two with one name the later counts; what is no function is passed over.
    """

    __slots__ = ("_functions",)

    def __init__(self, tools: Iterable[object] | None) -> None:
        listed: list[Any] = tools if isinstance(tools, list) else list(tools or ())
        self._functions: dict[str, Function]
        try:
            self._functions = {tool["function"]["name"]: tool["function"] for tool in listed}
        except (KeyError, TypeError):
            functions = map(function_of, listed)
            self._functions = {
                name: each for each in functions if isinstance(name := each.get("name"), str)
            }

    def __missing__(self, name: str) -> CompiledSchema | None:
        function = self._functions.get(name)
        if function is None:
            return None
        schema = self[name] = compiled(canonical(function.get("parameters")))
        return schema


def function_of(item: object) -> Function:
    """The function of a tool or call: chat completions keep it in `function`, the Responses API in the item itself."""
    if not isinstance(item, dict):
        return {}
    function = item.get("function", item)
    return function if isinstance(function, dict) else {}
