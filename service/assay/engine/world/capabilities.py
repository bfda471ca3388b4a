"""What endpoints support, as far as that is known.

A capability is a path: `parameters.NAME`, `tool_choice.VALUE`, `structured_outputs` or
`input_modalities.NAME`. It is supported, not supported, or unknown. A catalog that lists the
parameters of an endpoint says that it does not support others; an empty list says nothing.
Learned refusals count more than the catalog.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from assay.engine.world.catalog import Endpoint
from assay.engine.world.request import TOOL_CHOICES

PARAMETERS: Final = (
    "frequency_penalty", "include_reasoning", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "min_p", "parallel_tool_calls", "presence_penalty", "reasoning",
    "reasoning_effort", "repetition_penalty", "response_format", "seed", "stop",
    "structured_outputs", "temperature", "tool_choice", "tools", "top_a", "top_k", "top_logprobs",
    "top_p", "verbosity", "web_search_options",
)  # fmt: skip
"""The parameters whose support is stated of every endpoint that lists any."""

MODALITIES: Final = ("text", "image", "file", "audio", "video")
STRUCTURED_OUTPUTS: Final = "structured_outputs"
CATALOG: Final = "catalog"
REFUSALS: Final = "refusals"

_ALIASES: Final[Mapping[str, str]] = {
    "reasoning": "reasoning_effort",
    "reasoning_effort": "reasoning",
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
_PARAMETER: Final = "parameters."
_FORCED_CHOICES: Final = ("required", "function")


is_capability: Final = re.compile(
    r"parameters\.[a-z][a-z0-9_]{0,63}"
    rf"|tool_choice\.({'|'.join(TOOL_CHOICES)})"
    rf"|input_modalities\.({'|'.join(MODALITIES)})"
    f"|{STRUCTURED_OUTPUTS}",
    re.ASCII,
).fullmatch


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether an endpoint supports something, and whether the catalog or refusals say so."""

    path: str
    is_supported: bool
    source: str = CATALOG


def capabilities(endpoint: Endpoint, refused: Collection[str] = ()) -> tuple[Capability, ...]:
    """Return what is known of an endpoint, by path; `refused` are learned paths."""
    stated = dict(_stated(endpoint))
    known = {path: Capability(path, supported) for path, supported in stated.items()}
    known |= {path: Capability(path, is_supported=False, source=REFUSALS) for path in refused}
    return tuple(known[path] for path in sorted(known))


def _stated(endpoint: Endpoint) -> Iterator[tuple[str, bool]]:
    """Yield what the catalog states of an endpoint."""
    listed = with_aliases(endpoint.supported_parameters)
    if listed:
        for name in {*PARAMETERS, *listed}:
            yield f"parameters.{name}", name in listed
        yield STRUCTURED_OUTPUTS, STRUCTURED_OUTPUTS in listed
    if endpoint.tool_choices is not None:
        for value in TOOL_CHOICES:
            yield f"tool_choice.{value}", value in endpoint.tool_choices
    elif listed and "tool_choice" not in listed:
        for value in _FORCED_CHOICES:
            yield f"tool_choice.{value}", False
    if endpoint.input_modalities is not None:
        for kind in MODALITIES:
            yield f"input_modalities.{kind}", kind in endpoint.input_modalities


def with_aliases(parameters: Collection[str]) -> tuple[str, ...]:
    """Return names of parameters with the other names of the same ones."""
    others = [_ALIASES[name] for name in parameters if name in _ALIASES]
    return tuple(dict.fromkeys((*parameters, *others)))


def capability_facts(endpoint: Endpoint, refused: Collection[str] = ()) -> dict[str, object]:
    """Return the facts of an endpoint's capabilities; lists that would be empty are missing.

    Parameters that an endpoint does not list can be dropped from a request, hence they are in
    `capabilities.no` and `refused_parameters` only if requests with them are refused.
    """
    known = [c for c in capabilities(endpoint, refused) if not c.path.startswith(_PARAMETER)]
    no = [c for c in known if not c.is_supported]
    no = [c for c in no if c.path != STRUCTURED_OUTPUTS or c.source == REFUSALS]
    dropped = tuple(_refused_parameters(endpoint, refused))
    listed = with_aliases(endpoint.supported_parameters)
    lists = {
        "refused_parameters": dropped,
        "capabilities.yes": tuple(c.path for c in known if c.is_supported),
        "capabilities.no": tuple(c.path for c in no),
    }
    facts: dict[str, object] = {name: paths for name, paths in lists.items() if paths}
    facts["supported_parameters"] = tuple(name for name in listed if name not in dropped)
    return facts


def _refused_parameters(endpoint: Endpoint, refused: Collection[str]) -> Iterator[str]:
    """Yield the refused parameters that cannot be sent under another name, which is listed."""
    listed = endpoint.supported_parameters
    for path in sorted(refused):
        name = path.removeprefix(_PARAMETER)
        other = _ALIASES.get(name)
        has_other = name not in listed and other in listed and f"{_PARAMETER}{other}" not in refused
        if path.startswith(_PARAMETER) and not has_other:
            yield name


def refused_capabilities(endpoint: Endpoint, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what was learned from refusals, by an endpoint's facts in a snapshot."""
    stated = {c.path for c in capabilities(endpoint) if not c.is_supported} - {STRUCTURED_OUTPUTS}
    lacking = set(facts.get("capabilities.no", ())) - stated
    dropped = {f"{_PARAMETER}{name}" for name in facts.get("refused_parameters", ())}
    return tuple(sorted(lacking | dropped))
