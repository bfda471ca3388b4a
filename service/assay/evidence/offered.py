"""The functions that a request's tools offer, by name, each with the compiled schema of its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from assay.evidence.compiled import Compiled, canonical, compiled

Function = Mapping[str, Any]  # what a tool or a call says of its function


class Tools(dict[str, Compiled | None]):
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
            self._functions = {name: each for each in functions if isinstance(name := each.get("name"), str)}

    def __missing__(self, name: str) -> Compiled | None:
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
