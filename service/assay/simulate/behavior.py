"""How a simulated provider behaves: quality of its tool calls, speed and faults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, Meta(ge=0.0, le=3600.0)]
Count = Annotated[int, Meta(ge=0, le=100_000)]


class InjectedFault(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"
):
    """A fault that a share of the requests gets."""

    share: Share = 1.0


class StatusFault(InjectedFault, frozen=True, tag="status"):
    """Answers with an error status and message, and optionally with `Retry-After`."""

    status: Annotated[int, Meta(ge=400, le=599)]
    retry_after: str | None = None
    words: str = "simulated status"


class RedirectFault(InjectedFault, frozen=True, tag="redirect"):
    """Redirects the caller."""

    location: str


class NoHeadersFault(InjectedFault, frozen=True, tag="no_headers"):
    """Accepts the request and sends nothing."""


class DroppedFault(InjectedFault, frozen=True, tag="dropped"):
    """Accepts the request and closes the connection."""


class PartialAnswer(InjectedFault, frozen=True):
    """Sends `after` events first, or half of a JSON answer if `after` is not zero."""

    after: Count = 0


class StallFault(PartialAnswer, frozen=True, tag="stall"):
    """Stops without ending; with `comments` it sends keep-alive comments forever."""

    comments: bool = False


class CutFault(PartialAnswer, frozen=True, tag="cut"):
    """Closes the connection."""


class HalfClosedFault(PartialAnswer, frozen=True, tag="half_closed"):
    """Closes only its own side of the connection."""


class ErrorEventFault(PartialAnswer, frozen=True, tag="error_event"):
    """Sends an error with status 200: as an event, or instead of the whole JSON answer."""

    code: int | None = None


class ErrorFinishFault(PartialAnswer, frozen=True, tag="error_finish"):
    """Ends with `finish_reason: error`."""


class EmptyFault(InjectedFault, frozen=True, tag="empty"):
    """Sends status 200 without a body; with `done` a stream still ends with `[DONE]`."""

    done: bool = False


class MalformedFault(PartialAnswer, frozen=True, tag="malformed"):
    """Sends incomplete JSON."""


class GarbageFault(InjectedFault, frozen=True, tag="garbage"):
    """Sends random bytes as the body."""


class NotHttpFault(InjectedFault, frozen=True, tag="not_http"):
    """Sends random bytes instead of status and headers."""


class EndlessLineFault(InjectedFault, frozen=True, tag="endless_line"):
    """Sends a line, or a JSON body, that never ends."""


AnyFault = (
    StatusFault | RedirectFault | NoHeadersFault | DroppedFault | StallFault | CutFault
    | HalfClosedFault | ErrorEventFault | ErrorFinishFault | EmptyFault | MalformedFault
    | GarbageFault | NotHttpFault | EndlessLineFault
)  # fmt: skip


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
    tokens: Annotated[int, Meta(ge=1, le=100_000)] = 12
    faults: tuple[
        AnyFault, ...
    ] = ()  # at most one per request; beyond a sum of 1 later ones get less


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
