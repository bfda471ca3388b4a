"""The life of a pool in letters: one letter per hour and endpoint.

The rules read the uptime, which a letter determines: 95 % to enter, 90 % to stay. The counts of the
hour matter only for fast evictions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise

from tests.support.worlds import AS_OF, HOUR, MODEL, endpoint, policy

from assay.engine.policy.policy import Policy
from assay.engine.pool.judge import Judgment, judge
from assay.engine.snapshot.pool_memory import EMPTY_MEMORY, PoolChange, PoolMemory
from assay.engine.world.catalog import Endpoint, Model
from assay.engine.world.measurements import Observation
from assay.engine.world.world import World

BINDING = "steady"
START = AS_OF


@dataclass(frozen=True, slots=True)
class Hour:
    """The facts of an endpoint after an hour: its uptime, and the counts within it."""

    uptime: float
    calls: int | None = None
    errored: int = 0


LETTERS: Mapping[str, Hour | None] = {
    "g": Hour(99.0, 100),  # good: comes in, and stays
    "m": Hour(92.0, 100),  # middling: stays, but does not come in
    "b": Hour(50.0, 100),  # bad: does not stay
    "c": Hour(99.0, 440, 44),  # a few too many bad calls: two such hours in a row are enough
    "x": Hour(99.0, 1000, 400),  # bad calls, many at once: goes the fast way
    "w": Hour(50.0, 1000, 400),  # both
    "n": Hour(99.0),  # good, and nothing observed
    "0": Hour(50.0),  # bad, and nothing observed
    "-": None,  # not in the catalog
}
SHOWN = {"unknown": ".", "probation": "p", "member": "M", "evicted": "E"}

RULES = """
    memory: {{hold: 3h, holdMax: 8h, accuracy: level{memory}}}
    params: {{level: 0.95, high: 95.0, low: {low}}}
    pool:
      enter:
        - name: up
          expression: endpoint.uptime_percent >= params.high
          reason: BENCHMARK
          message: below high
      stay:
        - name: up
          expression: endpoint.uptime_percent >= params.low
          reason: BENCHMARK
          message: below low
      minimum: {minimum}
"""


@cache
def steady_policy(minimum: int = 0, memory: str = "", low: float = 90.0) -> Policy:
    """Return a policy with a pool that remembers for hours rather than days.

    `memory` is added to its block.
    """
    bindings = f"- {{name: {BINDING}, variant: {BINDING}, ruleSet: {BINDING}}}"
    return policy(
        bindings, steady=RULES.format(minimum=minimum, memory=f", {memory}" * bool(memory), low=low)
    )


def endpoint_after(tag: str, hour: Hour) -> Endpoint:
    """Return an endpoint as the catalog has it after that hour."""
    return endpoint(tag, uptime_30m_percent=hour.uptime)


def observations(tag: str, hours: Iterable[Hour | None]) -> Iterator[Observation]:
    """Yield the observations hour by hour."""
    for n, hour in enumerate(hours):
        if hour and hour.calls is not None:
            end = START + n * HOUR
            yield Observation(
                f"{MODEL}@{tag}", "monitor", end - HOUR, end, hour.calls, hour.calls, hour.errored
            )


def world_after(lives: Mapping[str, str], n: int) -> World:
    """Return the world when hour `n`, from 0, has ended."""
    known = {tag: [LETTERS[letter] for letter in life[: n + 1]] for tag, life in lives.items()}
    endpoints = tuple(endpoint_after(tag, hours[-1]) for tag, hours in known.items() if hours[-1])
    return World(
        (Model(MODEL),),
        endpoints,
        tuple(o for tag, hours in known.items() for o in observations(tag, hours)),
    )


def run_ticks(
    lives: Mapping[str, str],
    by: Policy | None = None,
    memory: PoolMemory = EMPTY_MEMORY,
    *,
    between: str = "",
) -> list[Judgment]:
    """Run one tick per hour; hours marked `~` in `between` are judged but not closed."""
    found = []
    for n in range(max(map(len, lives.values()))):
        closed = between[n : n + 1] != "~"
        found.append(
            judge(
                world_after(lives, n),
                by or steady_policy(),
                START + n * HOUR,
                memory,
                closes_hour=closed,
            )
        )
        memory = found[-1].memory
    return found


def states(done: Iterable[Judgment], tag: str) -> str:
    """Return the states of an endpoint, one letter per hour."""
    remembered = (t.memory.states.get((BINDING, f"{MODEL}@{tag}")) for t in done)
    return "".join(SHOWN[state.state] if state else "." for state in remembered)


def changes(done: Iterable[Judgment]) -> list[PoolChange]:
    """Return every change of all ticks."""
    return [change for t in done for change in t.changes]


def hours_since_start(at: datetime) -> int:
    """Return the number of the tick, from 0."""
    return (at - START) // timedelta(hours=1)


def is_continuous(found: Sequence[PoolChange]) -> bool:
    """Whether each change of an endpoint begins where the previous one ended."""
    return all(a.after == b.before for a, b in pairwise(found))
