"""What a pool remembers of its endpoints from tick to tick, and which of their evidence it forgets.

How it works
    A pool with memory keeps one `PoolState` per endpoint: unknown, on probation, member or evicted.
    `pool/transition.py` moves endpoints between these states; this module holds the values and the
    arithmetic of forgetting.

    An evicted endpoint must earn its way back with new evidence. But evidence is folded with time
    decay over weeks, so the good calls that came before the eviction would readmit it as soon as
    its hold ends. Therefore an eviction records in `ForgottenEvidence` all of the counts that the
    rules read at that moment, except a share `keep`. From then on the rules read the endpoint's
    facts minus these counts.

    The folded counts keep decaying, and so must the forgotten ones, or they would outweigh what
    they are subtracted from. The half-life adapts to traffic: a longer half-life than at the
    eviction gives old calls more weight, so the forgotten calls are scaled by the quotient. Errors
    are not scaled: those behind the eviction are the newest evidence, and in doubt they continue to
    count against the endpoint.

    Evidence may arrive after its hour was closed. The memory keeps what the closed hours of the
    last day have counted of each endpoint, so that the next tick counts the difference.

    INVARIANT: what remains is a possible count: 0 <= errored <= tool-call requests <= requests, and
    at least the share `keep` of the tool-call requests remains.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from assay.engine.policy.verdict import RuleFinding

UNKNOWN: Final = "unknown"  # such an endpoint has no PoolState
PROBATION: Final = "probation"
MEMBER: Final = "member"
EVICTED: Final = "evicted"

CAUSES: Final = {
    "evidence": (UNKNOWN, PROBATION),
    "admitted": (PROBATION, MEMBER),
    "slow": (MEMBER, EVICTED),
    "fast": (MEMBER, EVICTED),
    "hold_over": (EVICTED, PROBATION),
    "retracted": (EVICTED, MEMBER),
}
DEPARTED: Final = "departed"  # from any state to unknown: the endpoint left the catalog
ERRORED: Final = ("tools.errored_requests", "tools.errored_requests_lenient")  # strict and lenient
_HOLD: Final = re.compile(r"held out until (\d{4}-\d\d-\d\d \d\d:\d\d) UTC")
FADED: Final = 20.0  # half-lives after which forgotten counts may be dropped


@dataclass(frozen=True, slots=True)
class DecayedCounts:
    """Requests, tool-call requests and errored requests, decayed like the facts of these names."""

    requests: float = 0.0
    calls: float = 0.0
    errored: float = 0.0


NO_COUNTS: Final = DecayedCounts()


@dataclass(frozen=True, slots=True)
class ForgottenEvidence:
    """Counts forgotten at an eviction, as of `at`, when the half-life was `half_life`."""

    at: datetime
    half_life: timedelta
    amounts: DecayedCounts

    def has_faded(self, as_of: datetime) -> bool:
        """Whether the counts have decayed so far that they may be dropped."""
        return as_of - self.at >= FADED * self.half_life


@dataclass(frozen=True, slots=True)
class PoolState:
    """What one pool remembers of one endpoint; an unknown endpoint has none.

    `cusum`, `slow_failures` and `failed_at` (the tick of the latest slow failure) belong to a
    member, `held_until` to an evicted endpoint. `evictions` counts evictions; a week as a member
    takes one off at the next. `run` has the tool-call requests and errored ones by tenant, of a
    member since its CUSUM rose from zero, of an evicted endpoint those behind the eviction.
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
    run: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Its key in a memory."""
        return (self.binding, self.endpoint_id)

    def is_held(self, as_of: datetime) -> bool:
        """Whether its hold is not over yet."""
        return self.held_until is not None and as_of < self.held_until


class CountedHour(NamedTuple):
    """What has counted of one endpoint in one closed hour, without limits on tenants.

    Tool-call requests and errored requests, of reported outcomes and of imported observations.
    """

    calls: int = 0
    errored: int = 0
    observed_calls: int = 0
    observed_errored: int = 0


CountedHours = Mapping[int, Mapping[str, CountedHour]]
"""By hour, numbered from 1970, and endpoint id; a missing hour never counts again."""
NOTHING_COUNTED: Final = CountedHour()
LATE_HOURS: Final = 24
"""How many hours a tick counts: the one that it closes, and earlier ones if they have grown."""


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """The states of all pools, by binding and endpoint id, and what has counted in past hours."""

    states: Mapping[tuple[str, str], PoolState] = field(default_factory=dict)
    counted: CountedHours = field(default_factory=dict)


EMPTY_MEMORY: Final = PoolMemory()


@dataclass(frozen=True, slots=True)
class PoolChange:
    """One endpoint's step from one state to another.

    `cause` is a key of CAUSES or DEPARTED, `message` a sentence. `reasons` are the rules that an
    evicted endpoint broke; `facts` holds what the rules read and what was remembered, by path, as
    JSON values.
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
    """An endpoint's state in a pool with memory, as a snapshot holds it.

    `rules` names the block that judged it, `enter` or `stay`; `forgotten` is what was subtracted
    from its facts.
    """

    state: str
    since: datetime | None
    rules: str
    held_until: datetime | None = None
    forgotten: DecayedCounts = NO_COUNTS


def hold_words(until: datetime) -> str:
    """Return how changes and findings say until when an endpoint is held out."""
    return f"held out until {until:%Y-%m-%d %H:%M} UTC"


def hold_in(message: str) -> datetime | None:
    """Return the time in the `hold_words` of a change's message, if it has any."""
    found = _HOLD.search(message)
    return None if found is None else datetime.fromisoformat(found[1]).replace(tzinfo=UTC)


def forgotten_counts(
    forgotten: ForgottenEvidence | None,
    row: Mapping[str, object],
    as_of: datetime,
    half_life: timedelta | None,
    keep: float,
) -> DecayedCounts:
    """Return what to subtract from a row: decayed forgotten counts, at most `1 - keep` of it."""
    if forgotten is None or half_life is None or "tools.tool_call_requests" not in row:
        return NO_COUNTS
    known, share = counts_in_row(row), 1.0 - keep
    decay: float = 0.5 ** ((as_of - forgotten.at) / half_life)
    weight = decay * (half_life / forgotten.half_life)
    calls = min(forgotten.amounts.calls * weight, known.calls * share)
    requests = min(forgotten.amounts.requests * weight, known.requests * share)
    errored = min(forgotten.amounts.errored * decay, known.errored * share)
    return DecayedCounts(
        requests=min(requests, known.requests - known.calls + calls),
        calls=calls,
        errored=max(errored, known.errored - known.calls + calls),
    )


def counts_in_row(row: Mapping[str, object]) -> DecayedCounts:
    """Return the counts that a row of facts holds, 0 where it has none."""
    names = ("requests", "tool_call_requests", "errored_requests")
    return DecayedCounts(*(_count(row, f"tools.{name}") for name in names))


def _count(row: Mapping[str, object], name: str) -> float:
    found = row.get(name)
    return found if isinstance(found, float) else 0.0


def subtract_counts(row: Mapping[str, object], counts: DecayedCounts) -> Mapping[str, object]:
    """Return a row of facts minus forgotten counts: the facts that the pool's rules read."""
    if counts == NO_COUNTS:
        return row
    minus = {"tools.requests": counts.requests, "tools.tool_call_requests": counts.calls}
    minus |= {name: counts.errored for name in ERRORED if name in row}
    return {**row, **{name: max(_count(row, name) - n, 0.0) for name, n in minus.items()}}


def forget_evidence(
    row: Mapping[str, object],
    already: DecayedCounts,
    as_of: datetime,
    half_life: timedelta | None,
    keep: float,
) -> ForgottenEvidence | None:
    """Return what an eviction forgets: `already`, and all but the share `keep` of `row`.

    Returns None where nothing fresh was observed.
    """
    if half_life is None:
        return None
    known, share = counts_in_row(row), 1.0 - keep
    amounts = DecayedCounts(
        requests=already.requests + share * known.requests,
        calls=already.calls + share * known.calls,
        errored=already.errored + share * known.errored,
    )
    return ForgottenEvidence(as_of, half_life, amounts)
