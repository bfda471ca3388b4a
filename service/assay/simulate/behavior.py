"""How a simulated provider behaves: how well it calls tools, how fast it answers, and what goes wrong with it."""

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
    """Something that goes wrong with a share of the requests."""

    share: Share = 1.0


class StatusFault(InjectedFault, frozen=True, tag="status"):
    """It answers with an error status, in its own words, and may say when to come again."""

    status: Annotated[int, Meta(ge=400, le=599)]
    retry_after: str | None = None
    words: str = "simulated status"


class RedirectFault(InjectedFault, frozen=True, tag="redirect"):
    """It sends the caller elsewhere."""

    location: str


class NoHeadersFault(InjectedFault, frozen=True, tag="no_headers"):
    """It takes the request and never says a word."""


class DroppedFault(InjectedFault, frozen=True, tag="dropped"):
    """It takes the request and closes the connection without a word."""


class PartialAnswer(InjectedFault, frozen=True):
    """It begins well: `after` events of a stream, or of a plain answer the first half where `after` is above zero."""

    after: Count = 0


class StallFault(PartialAnswer, frozen=True, tag="stall"):
    """It stops without ending, and may send keep-alive comments for ever."""

    comments: bool = False


class CutFault(PartialAnswer, frozen=True, tag="cut"):
    """The connection breaks."""


class HalfClosedFault(PartialAnswer, frozen=True, tag="half_closed"):
    """It closes its side of the connection alone, in the middle of the answer, and goes on reading."""


class ErrorEventFault(PartialAnswer, frozen=True, tag="error_event"):
    """It tells of an error under status 200, perhaps with a code: an event of the stream, or the whole plain answer."""

    code: int | None = None


class ErrorFinishFault(PartialAnswer, frozen=True, tag="error_finish"):
    """It ends with `finish_reason: error`."""


class EmptyFault(InjectedFault, frozen=True, tag="empty"):
    """Status 200 and nothing else; a stream may still say that it is done."""

    done: bool = False


class MalformedFault(PartialAnswer, frozen=True, tag="malformed"):
    """What should be JSON is not."""


class GarbageFault(InjectedFault, frozen=True, tag="garbage"):
    """Bytes without any meaning under status 200."""


class NotHttpFault(InjectedFault, frozen=True, tag="not_http"):
    """Bytes without any meaning in place of status and headers."""


class EndlessLineFault(InjectedFault, frozen=True, tag="endless_line"):
    """A line, or a plain body, that never ends."""


AnyFault = (
    StatusFault | RedirectFault | NoHeadersFault | DroppedFault | StallFault | CutFault | HalfClosedFault | ErrorEventFault | ErrorFinishFault | EmptyFault | MalformedFault
    | GarbageFault | NotHttpFault | EndlessLineFault
)  # fmt: skip


class ToolCallErrorShares(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """In which proportion bad tool calls are bad in which way."""

    invalid_json: Share = 1.0
    unknown_name: Share = 1.0
    schema_mismatch: Share = 1.0


class ProviderBehavior(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One provider; without any field it is quick and faultless, and calls a tool whenever it may.

    After a tool's result it answers in words, so that conversations end.
    """

    accuracy: Share = 1.0  # of tool calls
    errors: ToolCallErrorShares = ToolCallErrorShares()
    propensity: Share = 1.0  # to call tools where some are offered
    parallel: Share = 0.0  # of the answers with tool calls, those with two
    latency_s: Seconds = 0.0  # to the headers
    first_token_s: Seconds = 0.0  # from there
    chunk_s: Seconds = 0.0  # between any two
    jitter: Share = 0.0  # how far these times are off at most, either way
    tokens: Annotated[int, Meta(ge=1, le=100_000)] = 12
    faults: tuple[
        AnyFault, ...
    ] = ()  # at most one strikes; shares above 1 in sum leave the later ones less


class SimulationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who plays; `None` for providers lets every name play, faultlessly."""

    seed: int = 0
    providers: dict[str, ProviderBehavior] | None = None


def read_settings(path: Path) -> SimulationSettings:
    """Read a YAML (or JSON) file; raises ValueError naming the faulty field, OSError where it cannot be read."""
    return msgspec.yaml.decode(path.read_bytes(), type=SimulationSettings)


def apply_changes(behaviour: ProviderBehavior, changes: bytes) -> ProviderBehavior:
    """The behaviour with some fields replaced by those of a JSON object; raises ValueError naming the faulty one."""
    fields = msgspec.json.decode(changes, type=dict[str, object])
    return msgspec.convert({**msgspec.to_builtins(behaviour), **fields}, ProviderBehavior)
