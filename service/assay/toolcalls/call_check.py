"""Classification of tool calls, as OpenRouter counts them for its Tool Call Error Rate.

`check` answers as `@cfworker/json-schema` 4.1 (Draft 7) does behind JavaScript's `JSON.parse`.
Arguments come from the endpoint, so unreadable arguments count against it. Schemas come from the
caller, so a schema that cannot be used counts for the endpoint: if it is missing, does not compile,
has more than 65,536 bytes or 100 levels, or would cost too much, every call that is JSON is valid.

Results differ from those of `@cfworker/json-schema` in these cases:

- A schema must be valid under Draft 7's own schema in what it asserts; otherwise it does not
  compile. There it throws when a value meets the invalid part. Boolean `exclusiveMinimum`,
  `exclusiveMaximum` and `required`, as in drafts 3 and 4, assert nothing here; there the first two
  are compared as 0 or 1, and the third throws.
- Keywords of later drafts (`prefixItems`, `dependentRequired`, `unevaluatedProperties`) assert
  nothing, as OpenRouter documents; there the code enforces them in every draft.
- Patterns run in linear time, so a schema with look-around or a back reference does not compile;
  JavaScript's engine accepts such patterns, without a bound on time.
- A `$ref` is never fetched. A schema with a reference to the outside, or with references in a cycle
  that goes no deeper into the value, does not compile; there the call throws on reaching it.
- The formats `regex` (which would compile text of the endpoint's), `url` and
  `json-pointer-uri-fragment` are not asserted; `email`, `hostname`, `ipv4`, `uri` and
  `uri-reference` follow their RFCs in corner cases such as `01.2.3.4`.
- An integer beyond 2^53 is compared exactly first, and as `JSON.parse`'s double only if that fails.
- A number beyond the doubles is the largest double, not infinity; a lone surrogate is U+FFFD.
- Arguments of more than 1,048,576 characters, or nested deeper than 128 levels, are invalid JSON.
- A type name outside Draft 7, such as `dict`, matches nothing, as it does there.

Calls are counted as OpenRouter counts them, except that:

- A call without arguments (missing, null, or blank text) is valid if the tool's schema admits `{}`:
  many models write nothing for a tool without parameters. Otherwise it is invalid JSON, and always
  with `check(…, accepts_blank=False)`, which is OpenRouter's count.
- A call of a custom tool is valid if a custom tool of that name was offered and its input is text;
  there is no schema to break. OpenRouter does not document how it counts these.
- Arguments that are a JSON object or list instead of text are checked as they are. Any other value
  in place of the text is invalid JSON, and a name that is not text is an unknown name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from sys import float_info
from threading import Lock
from typing import Any, Final, NoReturn

import jsonschema_rs
import orjson
from cachetools import LRUCache
from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import Decoder

from assay.toolcalls.draft7 import lower
from assay.toolcalls.json_values import is_deeper
from assay.toolcalls.schema_cost import SchemaCost, cost_of

_LONGEST_SCHEMA: Final = 1 << 16  # in bytes
_DEEPEST_SCHEMA: Final = 100  # in levels
_MOST_STEPS: Final = 1 << 24
"""The cost limit of one check: steps per value times characters; about a second at worst."""

_MOST_CACHED: Final = 100_000
"""The size of the cache, in steps of schemas."""

_BYTES_PER_STEP: Final = 512
"""The memory of a step, roughly; a key's bytes count in this unit."""

_LARGE_OR_MULTIPLE: Final = re.compile(rb'[0-9]{16}|"multipleOf"')
NO_SCHEMA: Final = b""

_CUSTOM_TYPES: Final = ("custom", "custom_tool_call")  # of tools and calls in the Responses API

_Function = Mapping[str, Any]  # the `function` or `custom` of a tool or a call


class CallClass(StrEnum):
    """The class of one tool call, in OpenRouter's words."""

    VALID = "Valid"
    INVALID_JSON = "InvalidJson"
    UNKNOWN_NAME = "UnknownName"
    SCHEMA_MISMATCH = "SchemaMismatch"


class ToolCallCheck(Struct, frozen=True):
    """The class of every call of one answer, in their order."""

    calls: tuple[CallClass, ...]

    @property
    def errored(self) -> bool:
        """Whether any call is not valid, so that the request counts as errored."""
        return any(found is not CallClass.VALID for found in self.calls)


# --- arguments, as `JSON.parse` reads them ---

_LONGEST_ARGUMENTS: Final = 1 << 20  # in characters
_DEEPEST_ARGUMENTS: Final = 128  # in levels
_SHORT: Final = 2 * _DEEPEST_ARGUMENTS  # text of so few characters cannot nest too deeply
_EXACT_DIGITS: Final = 15
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")

_decode: Final = Decoder().decode
"""The fastest parser of short text; slow for numbers such as 1e300."""


class _NotJsonError(ValueError):
    """Text that is not JSON, or more of it than is read."""


def _parse(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON text with exact integers; raise `_NotJsonError`."""
    if len(text) > _LONGEST_ARGUMENTS:
        raise _NotJsonError
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            value = _parse_with_doubles(text)
        except RecursionError as error:
            raise _NotJsonError from error
    may_be_deep = len(text) > _SHORT and text.count("[") + text.count("{") > _DEEPEST_ARGUMENTS
    if may_be_deep and is_deeper(value, _DEEPEST_ARGUMENTS):
        raise _NotJsonError
    return value


def is_json(text: str) -> bool:
    """Return whether `check` reads text as JSON."""
    try:
        _parse(text)
    except _NotJsonError:
        return False
    return True


def is_blank(arguments: object) -> bool:
    """Return whether a call has no arguments: none, or text without a character."""
    return arguments is None or (isinstance(arguments, str | bytes) and not arguments.strip())


def _parses_nowhere(text: object, error: DecodeError) -> bool:
    """Whether `JSON.parse` too would reject text for which `_decode` raised this error."""
    is_beyond_doubles = isinstance(error, ValidationError)
    may_have_lone_surrogate = not isinstance(text, str) or "\\u" in text
    return not is_beyond_doubles and not may_have_lone_surrogate


def _parse_with_doubles(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON text with integers beyond 2^53 as doubles; replace infinities and lone surrogates.

    Raises `_NotJsonError`, and `RecursionError` for text that nests deeper than the stack allows.
    """
    try:
        value = _JAVASCRIPT.decode(text)
        return orjson.loads(_LONE_SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
    except ValueError as error:
        raise _NotJsonError from error


def _text_of(value: object) -> str:
    """Return the text of arguments, which may be bytes or parsed already; raise `_NotJsonError`."""
    if isinstance(value, str):
        return value
    try:
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, dict | list):
            return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _NotJsonError from error
    raise _NotJsonError


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _EXACT_DIGITS else _double(text)


def _double(text: str) -> float:
    return max(-float_info.max, min(float_info.max, float(text)))


def _reject_constant(text: str) -> NoReturn:
    raise _NotJsonError(text)


_JAVASCRIPT: Final = json.JSONDecoder(
    parse_int=_integer, parse_float=_double, parse_constant=_reject_constant
)


# --- compiled schemas ---


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """A check of arguments of at most `longest` characters; longer ones count as valid.

    If it `rounds`, an integer beyond 2^53 may match only as a double. `size` is its share of the
    cache, in steps.
    """

    accepts: Callable[[object], bool]
    longest: int
    size: int
    rounds: bool = False


def schema_key(parameters: object) -> bytes:
    """Return a schema's text; NO_SCHEMA if it is missing, too long or not JSON."""
    if parameters is None:
        return NO_SCHEMA
    try:
        key = orjson.dumps(parameters)
    except TypeError:  # perhaps an integer beyond 64 bits, or a lone surrogate
        try:
            key = json.dumps(parameters, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            return NO_SCHEMA
    return key if len(key) <= _LONGEST_SCHEMA else NO_SCHEMA


schema_cache: Final[LRUCache[bytes, CompiledSchema]] = LRUCache(
    _MOST_CACHED, getsizeof=lambda schema: schema.size
)
_lock: Final = Lock()


def compile_schema(key: bytes) -> CompiledSchema:
    """Return the compiled schema of a key, from the cache if it is there."""
    with _lock:
        found = schema_cache.get(key)
    if found is None:
        found = _compile(key)
        with _lock, suppress(ValueError):  # larger than the whole cache
            schema_cache[key] = found
    return found


def _compile(key: bytes) -> CompiledSchema:
    """Compile a schema for bounded work; one that cannot be compiled accepts everything."""
    size = 1 + len(key) // _BYTES_PER_STEP
    try:
        schema = _parse_with_doubles(key.decode())
        if not isinstance(schema, dict | bool) or is_deeper(schema, _DEEPEST_SCHEMA):
            return _accept_all(size)
        nodes = lower(schema)
        cost = cost_of(nodes) if nodes else SchemaCost(1, 1)
        formats = {
            name: _FORMATS[name] for node in nodes if (name := node.get("format")) in _FORMATS
        }
        validator = jsonschema_rs.Draft7Validator(
            schema,
            formats=formats or None,
            validate_formats=True,
            retriever=_reject_reference,
            pattern_options=_PATTERNS,
        )
    except RecursionError:  # the caller's stack is full; the schema may be fine, so do not cache it
        return _accept_all(_MOST_CACHED + 1)
    except (ValueError, jsonschema_rs.ReferencingError):
        return _accept_all(size)
    rounds = _LARGE_OR_MULTIPLE.search(key) is not None
    longest = _MOST_STEPS // cost.per_value
    return CompiledSchema(validator.is_valid, longest, size + cost.stored, rounds)


def _accept_all(size: int) -> CompiledSchema:
    return CompiledSchema(lambda _: True, -1, size)


def _reject_reference(address: str, /) -> NoReturn:
    message = f"{address!r} leads out of the schema"
    raise ValueError(message)


def _format(name: str) -> Callable[[str], bool]:
    """Return the check of a format that only a later draft's validator knows."""
    return jsonschema_rs.Draft201909Validator({"format": name}, validate_formats=True).is_valid


def _is_date_time(text: str) -> bool:
    """Whether text is an RFC 3339 date and time.

    The separator may be a space, as models write it and cfworker accepts it.
    """
    return _is_rfc3339(f"{text[:10]}T{text[11:]}" if text[10:11].isspace() else text)


_is_rfc3339: Final = _format("date-time")
_FORMATS: Final = {
    "date-time": _is_date_time,
    "duration": _format("duration"),
    "uuid": _format("uuid"),
}
_PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20)


# --- checks of calls ---


class OfferedTools(dict[str, CompiledSchema | None]):
    """The tools of one or several requests, as in OpenAI's API.

    Each schema is compiled on first use. An unknown name maps to `None`. Of two tools with one name
    the later counts. `names` are those of all tools, `custom_names` those of custom tools, which
    take free text; items that are neither are skipped.
    """

    __slots__ = ("_functions", "custom_names")

    def __init__(self, tools: Iterable[object] | None) -> None:
        listed: list[Any] = tools if isinstance(tools, list) else list(tools or ())
        self._functions: dict[str, _Function]
        self.custom_names: frozenset[str] = frozenset()
        try:
            self._functions = {tool["function"]["name"]: tool["function"] for tool in listed}
        except (KeyError, TypeError):
            self._functions = {
                name: function
                for function in map(_function_of, listed)
                if isinstance(name := function.get("name"), str)
            }
            names = [custom.get("name") for custom in map(_custom_of, listed) if custom]
            self.custom_names = frozenset(name for name in names if isinstance(name, str))

    def __missing__(self, name: str) -> CompiledSchema | None:
        function = self._functions.get(name)
        if function is None:
            return None
        schema = self[name] = compile_schema(schema_key(function.get("parameters")))
        return schema

    @property
    def names(self) -> frozenset[str]:
        """The names of all tools."""
        return self.custom_names | self._functions.keys()

    def admits_blank(self, name: str) -> bool:
        """Return whether a function takes `{}`, so that a call without arguments is valid."""
        schema = self[name]
        return schema is not None and schema.accepts({})


def check(
    tools: OfferedTools | Iterable[object] | None,
    tool_calls: Iterable[object] | None,
    *,
    accepts_blank: bool = True,
) -> ToolCallCheck:
    """Classify every call of an answer by the tools that its request offered.

    Arguments are JSON text, or already parsed values. Passing `OfferedTools` for several answers to
    one request saves looking its schemas up again. With `accepts_blank`, a call without arguments
    is valid if the tool's schema admits `{}`; otherwise it is invalid JSON, as OpenRouter counts.
    """
    known = tools if isinstance(tools, OfferedTools) else OfferedTools(tools)
    found = [_classify(call, known, accepts_blank=accepts_blank) for call in tool_calls or ()]
    return ToolCallCheck(tuple(found))


def _classify(
    item: Any,  # noqa: ANN401 - unchecked JSON
    tools: OfferedTools,
    *,
    accepts_blank: bool,
) -> CallClass:
    """Classify a call: fast if it is short and plain, as almost all are, otherwise with care."""
    text = None
    try:
        call = item["function"]
        text = call["arguments"]
        if len(text) <= _SHORT:
            value = _decode(text)
            schema = tools[call["name"]]
            if schema is None:
                return CallClass.UNKNOWN_NAME
            if schema.accepts(value):
                return CallClass.VALID
            if not schema.rounds:
                return CallClass.SCHEMA_MISMATCH
    except DecodeError as error:
        if not is_blank(text) and _parses_nowhere(text, error):
            return CallClass.INVALID_JSON
    except (KeyError, RecursionError, TypeError, UnicodeError):
        pass  # not plain
    if custom := _custom_of(item):
        return _classify_custom(custom, tools)
    return _classify_carefully(_function_of(item), tools, accepts_blank=accepts_blank)


def _classify_custom(call: _Function, tools: OfferedTools) -> CallClass:
    if not isinstance(call.get("input"), str):
        return CallClass.INVALID_JSON
    name = call.get("name")
    is_known = isinstance(name, str) and name in tools.custom_names
    return CallClass.VALID if is_known else CallClass.UNKNOWN_NAME


def _classify_carefully(call: _Function, tools: OfferedTools, *, accepts_blank: bool) -> CallClass:
    name, arguments = call.get("name"), call.get("arguments")
    schema = tools[name] if isinstance(name, str) else None
    if accepts_blank and is_blank(arguments) and schema is not None and schema.accepts({}):
        return CallClass.VALID
    try:
        text = _text_of(arguments)
        value = _parse(text)
    except _NotJsonError:
        return CallClass.INVALID_JSON
    if schema is None:
        return CallClass.UNKNOWN_NAME
    if len(text) > schema.longest or schema.accepts(value):
        return CallClass.VALID
    if schema.rounds and schema.accepts(_parse_with_doubles(text)):
        return CallClass.VALID
    return CallClass.SCHEMA_MISMATCH


def _function_of(item: object) -> _Function:
    """Return the function of a tool or call.

    In the Responses API, the item itself has the fields of the function.
    """
    if not isinstance(item, dict) or _custom_of(item):
        return {}
    function = item.get("function", item)
    return function if isinstance(function, dict) else {}


def _custom_of(item: object) -> _Function:
    """Return the custom part of a tool or call, or nothing if it is a function.

    In the Responses API, the item itself has the fields of the custom tool.
    """
    if not isinstance(item, dict) or "function" in item:
        return {}
    custom = item.get("custom")
    if isinstance(custom, dict):
        return custom
    return item if item.get("type") in _CUSTOM_TYPES else {}
