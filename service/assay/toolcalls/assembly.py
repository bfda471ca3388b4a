"""Tool calls put together from the deltas of a stream, or taken from a whole message.

    calls = ToolCallAssembly(tools)
    for chunk in chunks:
        for_client = calls.add_deltas(chunk["choices"][0]["delta"].get("tool_calls"))
    check(tools, calls.assembled())

Rules
-----
OpenAI's reference defines deltas: `index` says which call a delta continues, the first delta has
`id`, `type` and the name, and the others have pieces of `arguments`. Servers deviate from it, and
gateways report the same deviations again and again. The rules read those without guessing at
calls that follow the reference.

Which call a delta belongs to:

1. A stated index decides (the reference).
2. A new id with a name, at an index whose call has a name, opens a new call: local servers send
   several calls at index 0. Later deltas at that index continue the latest call; one with an id
   that is known at that index continues the call with that id.
3. Without an index, a known id continues its call and a new id opens one. A new id whose delta has
   arguments and no name continues the last call, like rule 5.
4. Without both, the delta continues the last call.
5. A new id without a name does not open a call at an index that has one: some servers make up a
   fresh id for every delta.
6. A name without an id opens a call if the arguments of the call so far are complete JSON: nothing
   could follow them. The same name without arguments may be a repetition, so the call is opened
   when the next arguments come.

What a delta adds:

7. A piece of the name is appended unless it is empty or equals the name so far, because some
   servers split names and others repeat them. A piece that begins with the name so far adds what
   follows. If the tools that were offered have a name that begins with both together, they decide.
8. Arguments are appended. An object or a list becomes its JSON text.
9. A name or arguments of any other type are kept as they are, so that `check` counts the call as
   bad, and are handed on as text.

In a whole message every item is a call of its own.

Calls handed to the client follow the reference strictly: indexes count from 0, the first delta has
a unique id, type, name and arguments as text, and no later delta repeats an id or a name, because
clients concatenate them.
"""

from __future__ import annotations

from collections.abc import Iterable
from secrets import token_hex
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from assay.toolcalls.call_check import OfferedTools, is_blank, is_json
from assay.toolcalls.json_values import encode_json

MAX_CALLS: Final = 1024
MAX_CHARACTERS: Final = 4 * 1024 * 1024
_LONGEST_COMPLETE: Final = 1 << 16  # characters of arguments that rule 6 reads
_TEXT_FIELD: Final = {"function": "arguments", "custom": "input"}
_READ_FIELDS: Final = frozenset({"index", "id", "type", "function", "custom"})

Json = dict[str, Any]


class NotToolCallsError(ValueError):
    """A value that is not a list of tool calls, or that nests too deeply to be written."""


class _Call(Struct):
    """One call as far as it is known; `values` holds a name or text that is not text."""

    index: int
    kind: str
    id: str
    stated_id: str = ""
    name: str = ""
    pieces: list[str] = []
    size: int = 0
    is_named_again: bool = False  # rule 6: after its arguments were complete
    values: Json = {}

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def as_message(self) -> Json:
        text_field = _TEXT_FIELD[self.kind]
        body = {"name": self.name, text_field: self.text, **self.values}
        return {"id": self.id, "type": self.kind, self.kind: body}


class _Choice(Struct):
    """The calls of one choice, the latest at each stated index, and those with stated ids."""

    calls: list[_Call] = []
    latest: dict[int, _Call] = {}
    known: dict[tuple[int | None, str], _Call] = {}
    used_ids: set[str] = set()


class _Delta(Struct, frozen=True):
    """One delta, or one item of a message: the original, and what the rules look at."""

    item: Json
    kind: str
    body: Json
    index: int | None
    id: str
    name: str
    text: str
    values: Json


class ToolCallAssembly:
    """The tool calls of one answer, which may have several choices.

    The whole answer may have `MAX_CALLS` calls, and `MAX_CHARACTERS` characters of names and
    arguments. Beyond that `overflowed` is true, and what follows is handed on but not kept.
    """

    def __init__(self, tools: OfferedTools | Iterable[object] | None = None) -> None:
        self.overflowed = False
        self._tools = tools if isinstance(tools, OfferedTools) else OfferedTools(tools)
        self._choices: dict[int, _Choice] = {}
        self._count = 0
        self._room = MAX_CHARACTERS

    def add_deltas(self, deltas: object, choice: int = 0) -> list[Json]:
        """Add the `tool_calls` of a chunk; return them for the client. Raise NotToolCallsError."""
        return [self._add_delta(_read(item), choice) for item in _items(deltas)]

    def add_message(self, calls: object, choice: int = 0) -> list[Json]:
        """Add the `tool_calls` of a message; return them for the client. Raise NotToolCallsError.

        A call without arguments is returned with `{}` if its tool admits that.
        """
        return [self._add_call(_read(item), choice) for item in _items(calls)]

    def assembled(self, choice: int = 0) -> list[Json]:
        """Return the calls of a choice as `check` takes them."""
        found = self._choices.get(choice)
        return [call.as_message() for call in found.calls] if found else []

    def are_complete(self, choice: int = 0) -> bool:
        """Return whether a choice has calls, and all of them have JSON or no arguments."""
        found = self._choices.get(choice)
        calls = found.calls if found else []
        return bool(calls) and all(
            call.kind == "custom" or is_blank(text := call.text) or is_json(text) for call in calls
        )

    def missing_deltas(self, choice: int = 0) -> list[Json]:
        """Return the deltas with `{}` for calls that ended without arguments and may have none."""
        found = self._choices.get(choice)
        return [
            {"index": call.index, "function": {"arguments": "{}"}}
            for call in (found.calls if found else ())
            if self._lacks_arguments(call)
        ]

    def _lacks_arguments(self, call: _Call) -> bool:
        is_function = call.kind == "function" and not call.values
        return is_function and is_blank(call.text) and self._tools.admits_blank(call.name)

    def _add_delta(self, delta: _Delta, number: int) -> Json:
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _Choice()
        call = _find(choice, delta)
        if call and call.is_named_again and delta.text and not delta.name:
            delta = replace(delta, name=call.name)
            call = None
        if call is None:
            if self._count == MAX_CALLS:
                self.overflowed = True
                return delta.item
            call = self._open(choice, delta)
            self._append(call, delta.name, delta)
            return _opening(call, delta)
        if delta.id and not call.stated_id:
            _register(choice, call, delta)
        rest = self._rest_of_name(call.name, delta.name) if delta.name else ""
        self._append(call, rest, delta)
        return _continuing(call, delta, rest)

    def _add_call(self, delta: _Delta, number: int) -> Json:
        if self._count == MAX_CALLS:
            self.overflowed = True
            return delta.item
        call = self._open(self._choices.setdefault(number, _Choice()), delta)
        self._append(call, delta.name, delta)
        opened = _opening(call, delta)
        del opened["index"]
        if self._lacks_arguments(call):
            opened["function"]["arguments"] = "{}"
        return opened

    def _open(self, choice: _Choice, delta: _Delta) -> _Call:
        self._count += 1
        is_usable = delta.id and delta.id not in choice.used_ids
        call_id = delta.id if is_usable else f"call_{token_hex(12)}"
        call = _Call(len(choice.calls), delta.kind, call_id)
        choice.calls.append(call)
        choice.used_ids.add(call_id)
        if delta.index is not None:
            choice.latest[delta.index] = call
        if delta.id:
            _register(choice, call, delta)
        return call

    def _append(self, call: _Call, name: str, delta: _Delta) -> None:
        size = len(name) + len(delta.text)
        if self.overflowed or size > self._room:
            self.overflowed = True
            return
        self._room -= size
        call.name += name
        if delta.text:
            call.pieces.append(delta.text)
            call.size += len(delta.text)
        if delta.values:
            call.values = {**call.values, **delta.values}

    def _rest_of_name(self, name: str, piece: str) -> str:
        """Return what a piece adds to a name (rule 7)."""
        if not name:
            return piece
        names = self._tools.names
        is_repeated = piece == name and name in names
        if not is_repeated and any(each.startswith(name + piece) for each in names):
            return piece
        return piece.removeprefix(name)


def _find(choice: _Choice, delta: _Delta) -> _Call | None:
    """Return the call that a delta continues, or `None` if it opens one (rules 1 to 6)."""
    if delta.id and (known := choice.known.get((delta.index, delta.id))):
        return known
    if delta.index is not None:
        call = choice.latest.get(delta.index)
    else:
        call = choice.calls[-1] if choice.calls else None
    if call is None:
        return None
    if delta.index is None and delta.id:
        opens = not delta.text or bool(delta.name) or _is_complete(call)
    elif not delta.name or not call.name:
        opens = False
    elif delta.id:
        opens = bool(call.stated_id)  # otherwise this is the first id that the call gets
    else:
        opens = _is_complete(call)
        if opens and not delta.text and delta.name == call.name:
            call.is_named_again, opens = True, False
    return None if opens else call


def _is_complete(call: _Call) -> bool:
    return 0 < call.size <= _LONGEST_COMPLETE and call.kind == "function" and is_json(call.text)


def _register(choice: _Choice, call: _Call, delta: _Delta) -> None:
    call.stated_id = delta.id
    choice.known.setdefault((delta.index, delta.id), call)
    choice.known.setdefault((None, delta.id), call)


def _opening(call: _Call, delta: _Delta) -> Json:
    body = {**delta.body, "name": delta.name, _TEXT_FIELD[call.kind]: delta.text}
    own = {"index": call.index, "id": call.id, "type": call.kind, call.kind: body}
    return {**_other_fields(delta), **own}


def _continuing(call: _Call, delta: _Delta, name: str) -> Json:
    body = {_TEXT_FIELD[call.kind]: delta.text}
    if name:
        body["name"] = name
    return {**_other_fields(delta), "index": call.index, call.kind: body}


def _other_fields(delta: _Delta) -> Json:
    return {key: value for key, value in delta.item.items() if key not in _READ_FIELDS}


def _items(value: object) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise NotToolCallsError
    return value


def _read(item: Json) -> _Delta:
    """Read a delta or a call; raise NotToolCallsError."""
    is_custom = item.get("type") == "custom" and "function" not in item
    kind = "custom" if is_custom or item.get("custom") is not None else "function"
    body = item.get(kind)
    if body is None:
        body = {}
    elif not isinstance(body, dict):
        raise NotToolCallsError
    index, stated_id = item.get("index"), item.get("id")
    if not isinstance(index, int) or isinstance(index, bool):
        index = None
    call_id = stated_id if isinstance(stated_id, str) else _text_of_id(stated_id)
    values: Json = {}
    name, text = body.get("name"), body.get(_TEXT_FIELD[kind])
    if name is not None and not isinstance(name, str):
        values["name"] = name
    if text is not None and not isinstance(text, str):
        is_json_value = kind == "function" and isinstance(text, dict | list)
        if not is_json_value:
            values[_TEXT_FIELD[kind]] = text
    return _Delta(item, kind, body, index, call_id, _as_text(name), _as_text(text), values)


def _text_of_id(value: object) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _as_text(value: object) -> str:
    """Return text as it is, and any other value as JSON text."""
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return encode_json(value).decode()
    except ValueError as error:
        raise NotToolCallsError from error
