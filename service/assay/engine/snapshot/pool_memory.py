"""What a pool remembers of its endpoints from tick to tick, and what it forgets of their evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from assay.engine.policy.verdict import RuleFinding

UNKNOWN: Final = "unknown"  # nothing is remembered: such an endpoint has no state
PROBATION: Final = "probation"
MEMBER: Final = "member"
EVICTED: Final = "evicted"
STATES: Final = (UNKNOWN, PROBATION, MEMBER, EVICTED)

CAUSES: Final = {
    "evidence": (UNKNOWN, PROBATION),
    "admitted": (PROBATION, MEMBER),
    "slow": (MEMBER, EVICTED),
    "fast": (MEMBER, EVICTED),
    "hold_over": (EVICTED, PROBATION),
}
DEPARTED: Final = "departed"  # from any state to unknown: the endpoint left the catalog
ERRORED: Final = (
    "tools.errored_requests",
    "tools.errored_requests_lenient",
)  # the same requests, seen strictly and leniently
FADED: Final = 20.0  # half-lives after which nothing is left to be forgotten


@dataclass(frozen=True, slots=True)
class DecayedCounts:
    """Discounted requests, tool-call requests and errored ones, as the facts of the same names count them."""

    requests: float = 0.0
    calls: float = 0.0
    errored: float = 0.0


NO_COUNTS: Final = DecayedCounts()


@dataclass(frozen=True, slots=True)
class ForgottenEvidence:
    """What goes on being part of the folded evidence, but no longer counts since an eviction; as it stood at `at`."""

    at: datetime
    half_life: timedelta
    amounts: DecayedCounts

    def faded(self, as_of: datetime) -> bool:
        """Whether so little of it is left that it may be dropped."""
        return as_of - self.at >= FADED * self.half_life


@dataclass(frozen=True, slots=True)
class PoolState:
    """What one pool remembers of one endpoint that is not unknown to it.

    `cusum`, `slow_failures` and `failed_at` (the tick of the last of those) are a member's; `held_until` is set while
    it is evicted; `evictions` counts all there ever were.
    """

    binding: str
    model: str
    endpoint_id: str
    state: str
    since: datetime
    cusum: float = 0.0
    slow_failures: int = 0
    failed_at: datetime | None = None
    evictions: int = 0
    held_until: datetime | None = None
    forgotten: ForgottenEvidence | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Its key in a memory."""
        return (self.binding, self.endpoint_id)

    def held(self, as_of: datetime) -> bool:
        """Whether it may not come back yet."""
        return self.held_until is not None and as_of < self.held_until


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """All that pools remember: states by binding and endpoint id, each under its own key."""

    states: Mapping[tuple[str, str], PoolState] = field(default_factory=dict)


EMPTY_MEMORY: Final = PoolMemory()


@dataclass(frozen=True, slots=True)
class PoolChange:
    """One endpoint's step from one state to another: when, why in a word and in a sentence, and the facts behind it.

    `reasons` are the rules it broke, where it was evicted; `facts` holds what the rules read and what is remembered,
    by path, as JSON knows it.
    """

    at: datetime
    binding: str
    model: str
    endpoint_id: str
    before: str
    after: str
    cause: str
    message: str
    reasons: tuple[RuleFinding, ...]
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class PoolStanding:
    """Where an endpoint stands in a pool with memory, as a snapshot tells it.

    `rules` says by which block it was judged, `enter` or `stay`; `forgotten` what its facts were less by when it was.
    """

    state: str
    since: datetime | None
    rules: str
    held_until: datetime | None = None
    forgotten: DecayedCounts = NO_COUNTS


def forgotten_counts(
    forgotten: ForgottenEvidence | None,
    row: Mapping[str, object],
    as_of: datetime,
    half_life: timedelta | None,
    keep: float,
) -> DecayedCounts:
    """What is not counted of a row: the forgotten, faded as evidence fades, and never all but the share `keep`.

    A longer half-life than then gives all old calls more weight, so it scales them. Errors are not scaled, since those
    behind an eviction are its newest evidence: what is in doubt goes on counting against the endpoint.
    """
    if forgotten is None or half_life is None or "tools.tool_call_requests" not in row:
        return NO_COUNTS
    known, most = counts_in_row(row), 1.0 - keep
    fade: float = 0.5 ** ((as_of - forgotten.at) / half_life)
    weight = fade * (half_life / forgotten.half_life)
    calls = min(forgotten.amounts.calls * weight, known.calls * most)
    requests = min(forgotten.amounts.requests * weight, known.requests * most)
    errored = min(forgotten.amounts.errored * fade, known.errored * most)
    return DecayedCounts(
        requests=min(requests, known.requests - known.calls + calls),
        calls=calls,
        errored=max(errored, known.errored - known.calls + calls),
    )


def counts_in_row(row: Mapping[str, object]) -> DecayedCounts:
    """The amounts that a row of facts tells; none where nothing fresh was observed."""
    names = ("requests", "tool_call_requests", "errored_requests")
    return DecayedCounts(*(amount(row, f"tools.{name}") for name in names))


def amount(row: Mapping[str, object], name: str) -> float:
    """One amount of a row, 0 where it is absent."""
    found = row.get(name)
    return found if isinstance(found, float) else 0.0


def subtract_counts(row: Mapping[str, object], out: DecayedCounts) -> Mapping[str, object]:
    """A row of facts less what is left out of it: as the pool's rules read it."""
    if out == NO_COUNTS:
        return row
    less = {"tools.requests": out.requests, "tools.tool_call_requests": out.calls}
    less |= {name: out.errored for name in ERRORED if name in row}
    return {**row, **{name: max(amount(row, name) - some, 0.0) for name, some in less.items()}}


def forget_evidence(
    row: Mapping[str, object],
    out: DecayedCounts,
    as_of: datetime,
    half_life: timedelta | None,
    keep: float,
) -> ForgottenEvidence | None:
    """What an eviction makes forgotten: what was before, and all but the share `keep` of what the rules still read."""
    if half_life is None:
        return None
    known, most = counts_in_row(row), 1.0 - keep
    amounts = DecayedCounts(
        requests=out.requests + most * known.requests,
        calls=out.calls + most * known.calls,
        errored=out.errored + most * known.errored,
    )
    return ForgottenEvidence(as_of, half_life, amounts)
