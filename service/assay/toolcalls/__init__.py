"""Checks of tool calls against the tools that a request offered: a library for gateways.

    from assay.toolcalls import check

    tools = [{"type": "function", "function": {
        "name": "search", "parameters": {"type": "object", "required": ["query"]}}}]
    calls = [{"function": {"name": "search", "arguments": '{"limit": 3}'}}]
    found = check(tools, calls)
    assert found.errored and found.calls == ("SchemaMismatch",)

Tools and calls are those of OpenAI's API. `check` raises nothing, opens no connection and ends
within about a second for any input. `OfferedTools` keeps the schemas of a request for several
answers. `call_check` documents where the result differs from OpenRouter's. `ToolCallAssembly` puts
the calls of a stream together; `assembly` documents by which rules.
"""

from assay.toolcalls.assembly import NotToolCallsError, ToolCallAssembly
from assay.toolcalls.call_check import CallClass, OfferedTools, ToolCallCheck, check

__all__ = [
    "CallClass",
    "NotToolCallsError",
    "OfferedTools",
    "ToolCallAssembly",
    "ToolCallCheck",
    "check",
]
