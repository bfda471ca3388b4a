"""How a simulated provider behaves: quality and shape of its tool calls, speed, faults."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Annotated

import msgspec
from msgspec import Meta

from assay.simulate.faults import AnyFault, Share
from assay.simulate.quirks import Quirk

Seconds = Annotated[float, Meta(ge=0.0, le=3600.0)]


class ToolCallErrorShares(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The proportions of the kinds of bad tool calls."""

    invalid_json: Share = 1.0
    unknown_name: Share = 1.0
    schema_mismatch: Share = 1.0


class ProviderBehavior(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One provider. By default it is fast and without faults, and calls a tool whenever it may.

    After a tool's result it answers with text, so that conversations end.
    """

    accuracy: Share = 1.0  # of tool calls
    errors: ToolCallErrorShares = ToolCallErrorShares()
    propensity: Share = 1.0  # to call a tool if any is offered
    parallel: Share = 0.0  # of the answers with tool calls, those with two
    latency_s: Seconds = 0.0  # to the headers
    first_token_s: Seconds = 0.0  # from the headers
    chunk_s: Seconds = 0.0  # between two events
    jitter: Share = 0.0  # the most by which these times vary, either way
    quirks: tuple[Quirk, ...] = ()  # odd shapes of its answers
    tokens: Annotated[int, Meta(ge=1, le=100_000)] = 12
    faults: tuple[AnyFault, ...] = ()  # one per request; beyond a sum of 1 later ones get less

    def choose_fault(self, draw: Random) -> AnyFault | None:
        """Return the fault that a request gets, if any."""
        point = draw.random()
        for fault in self.faults:
            if point < fault.share:
                return fault
            point -= fault.share
        return None


class SimulationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All providers; without `providers` every name is a provider with default behavior."""

    seed: int = 0
    providers: dict[str, ProviderBehavior] | None = None


def read_settings(path: Path) -> SimulationSettings:
    """Read a YAML or JSON file; raise ValueError with the faulty field, or OSError."""
    return msgspec.yaml.decode(path.read_bytes(), type=SimulationSettings)


def apply_changes(behavior: ProviderBehavior, changes: bytes) -> ProviderBehavior:
    """Replace fields by those of a JSON object; raise ValueError with the faulty field."""
    fields = msgspec.json.decode(changes, type=dict[str, object])
    return msgspec.convert({**msgspec.to_builtins(behavior), **fields}, ProviderBehavior)
