"""The outcome of an attempt: its fields and words, and the batch as the journal stores it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final, NamedTuple
from zlib import crc32

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder, Encoder

MOST_REQUESTS: Final = 1_000_000
"""Attempts that one outcome may stand for: sums of such counts stay far below 64 bits."""

MOST_CALLS: Final = 1000 * MOST_REQUESTS
MOST_ATTEMPTS: Final = 2**31 - 1
MOST_TOKENS: Final = 1_000_000_000
MOST_TOOLS: Final = 100_000
MOST_SECONDS: Final = 86_400.0

ANSWERED: Final = "answered"
RATE_LIMITED: Final = "rate_limited"
FAILED: Final = frozenset({"transport_error", "timeout", "provider_error", "malformed", "cut"})
"""Results that are the endpoint's fault."""

NEUTRAL: Final = frozenset({"caller_error", "cancelled"})
REFUSED: Final = frozenset({"provider_error", "caller_error"})
RESULTS: Final = frozenset({ANSWERED, RATE_LIMITED}) | FAILED | NEUTRAL

_Instant = Annotated[int, Meta(ge=0, le=2**53)]  # microseconds since 1970, up to the year 2255
_Requests = Annotated[int, Meta(ge=0, le=MOST_REQUESTS)]
_Calls = Annotated[int, Meta(ge=0, le=MOST_CALLS)]
_Seconds = Annotated[float, Meta(ge=0, le=MOST_SECONDS)]


class Uncounted(StrEnum):
    """Why an outcome that names a decision moves nothing."""

    DUPLICATE = "duplicate"
    """The attempt was reported before, with the same values."""

    CONTRADICTING = "contradicting"
    """The attempt was reported before, with other values."""

    WRONG_ENDPOINT = "wrong-endpoint"
    """The attempt went to another endpoint."""

    NO_SUCH_ATTEMPT = "no-such-attempt"
    """The decision has fewer attempts."""

    EARLY = "early"
    """It ended minutes before the decision was made."""

    LATE = "late"
    """It ended more than a day before the report, or after the decision."""

    UNKNOWN_DECISION = "unknown-decision"
    """The decision was not in the log within a day after the report."""


class ToolUse(Struct, frozen=True, array_like=True, gc=False):
    """What the model did with the tools of a request; an empty `tool_choice` was not sent: auto."""

    offered: Annotated[int, Meta(ge=0, le=MOST_TOOLS)]
    tool_choice: str = ""
    after_tool_result: bool = False
    tool_call_requests: _Requests = 0
    errored_requests: _Requests = 0
    tool_calls: _Calls = 0
    invalid_json: _Calls = 0
    unknown_name: _Calls = 0
    schema_mismatch: _Calls = 0


class Outcome(Struct, frozen=True, array_like=True, gc=False):
    """How one attempt ended, or several alike.

    Times and tokens are those of each attempt, tool counts are totals. `unsupported` is what the
    endpoint refused, as a path of a capability. A checked outcome holds no text of the caller's:
    every word comes from a list, except the name of an unsupported parameter.
    """

    at_us: _Instant
    result: str
    decision_id: str = ""
    attempt: Annotated[int, Meta(ge=0, le=MOST_ATTEMPTS)] = 0
    requests: _Requests = 1
    first_token_s: _Seconds | None = None
    duration_s: _Seconds | None = None
    completion_tokens: Annotated[int, Meta(ge=0, le=MOST_TOKENS)] | None = None
    retry_after_s: _Seconds | None = None
    tools: ToolUse | None = None
    unsupported: str = ""


class OutcomeReport(Struct, frozen=True, gc=False):
    """An outcome as received: not checked, with the tenant's own name."""

    endpoint_id: str
    tenant: str
    outcome: Outcome


class OutcomeGroup(NamedTuple):
    """Outcomes of one tenant at one endpoint; `tenant` is the pseudonym."""

    tenant: str
    endpoint_id: str
    provider: str
    outcomes: Sequence[Outcome]


class RejectedCount(NamedTuple):
    """How many outcomes at one endpoint were rejected as late or as reported before."""

    kind: str
    endpoint_id: str
    number: _Requests


class OutcomeBatch(NamedTuple):
    """Checked outcomes as stored, with pseudonyms for tenants; `rejected` is only counted."""

    source: str
    batch_id: str
    received_us: _Instant
    groups: Sequence[OutcomeGroup]
    rejected: tuple[RejectedCount, ...] = ()


def group_outcomes(
    reports: Iterable[OutcomeReport], providers: Mapping[str, str], pseudonyms: Mapping[str, str]
) -> list[OutcomeGroup]:
    """Group outcomes by tenant and endpoint, each pair at its first report."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for report in reports:
        found.setdefault((report.tenant, report.endpoint_id), []).append(report.outcome)
    return [
        OutcomeGroup(pseudonyms[tenant], endpoint_id, providers[endpoint_id], outcomes)
        for (tenant, endpoint_id), outcomes in found.items()
    ]


def fingerprint(endpoint_id: str, outcome: Outcome) -> int:
    """Return a checksum of a report, by which a repeated one differs from a contradicting one."""
    return crc32(_encoder.encode(outcome), crc32(endpoint_id.encode()))


_VERSION: Final = 1
_encoder = Encoder(order="deterministic")
_decoder = Decoder(tuple[int, OutcomeBatch])


def encode_outcomes(batch: OutcomeBatch) -> bytes:
    """Return the journal's bytes of a batch: a JSON list of the version and the batch."""
    return _encoder.encode((_VERSION, batch))


def decode_outcomes(data: bytes) -> OutcomeBatch:
    """Read a batch back; raise ValueError if the bytes hold anything that no check accepts."""
    try:
        version, batch = _decoder.decode(data)
    except (DecodeError, RecursionError) as error:
        raise ValueError(f"these bytes are not a batch of outcomes: {error}") from error
    if version != _VERSION:
        raise ValueError(f"record version {version} is not known")
    return batch
