"""Hostile tenants: how far false counts move the facts that rules read, and whole pools.

There are four hundred honest tenants of very different size, and hostile ones that collude. A
praising tenant reports only good calls of an endpoint that is not good enough to enter. A damning
tenant reports only bad calls of a good member, all within one hour. See service/STATISTICS.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tests.bench.admission.pools import FIRST, HOUR, SOURCE, START, endpoints
from tests.bench.admission.profiles import Profile

from assay.engine.pool.judge import Judgment, judge
from assay.engine.snapshot.pool_memory import EMPTY_MEMORY, EVICTED, MEMBER
from assay.engine.world.catalog import Model
from assay.engine.world.measurements import Counts, TrafficCounts
from assay.engine.world.traffic_table import TrafficTable
from assay.engine.world.world import World

HONEST, CALLS = 400, 140_000
TAIL = 1.5  # standard deviation of the logarithm of tenants' sizes
SPREAD = 400.0  # tenants differ in accuracy as a Beta of so many requests
HOURS = 72  # over which the honest ones' calls came in
BAD, GOOD = 0.93, 0.985

Counted = tuple[str, int, int, int, int]  # tenant, calls and errored in all, and in the closed hour


@dataclass(frozen=True, slots=True)
class Attack:
    """A number of hostile tenants with a number of tool-call requests each."""

    tenants: int
    calls: int


@dataclass(frozen=True, slots=True)
class Moved:
    """The result of an attack.

    `pooled` is the accuracy of all counts and `read` the one that `enter` rules read, both for the
    endpoint that is not good enough; `admitted` is whether it enters. `evicted` is whether the good
    member is evicted, in the hour of the attack or the two after it.
    """

    attack: Attack
    pooled: float
    read: float
    admitted: bool
    evicted: bool


def manipulation(profile: Profile, attacks: Sequence[Attack], seed: int) -> list[Moved]:
    """Run every attack against the same honest tenants."""
    bad, good = honest(BAD, seed), honest(GOOD, seed + 1)
    return [moved(profile, attack, bad, good) for attack in attacks]


def moved(
    profile: Profile, attack: Attack, bad: Sequence[Counted], good: Sequence[Counted]
) -> Moved:
    """Run one attack, both ways."""
    praised = [*bad, *liars(attack, 0.0)]
    read, admitted = entering(profile, praised)
    return Moved(attack, pooled(praised), read, admitted, leaving(profile, good, attack))


def honest(accuracy: float, seed: int) -> list[Counted]:
    """Return the honest tenants' counts."""
    draw = np.random.default_rng(seed)
    size = np.exp(draw.standard_normal(HONEST) * TAIL)
    calls = np.maximum(1, np.round(size / size.sum() * CALLS)).astype(np.int64)
    rate = draw.beta(SPREAD * (1 - accuracy), SPREAD * accuracy, HONEST)
    lately = draw.binomial(calls, 1 / HOURS)
    errored, before = draw.binomial(lately, rate), draw.binomial(calls - lately, rate)
    return [
        (f"honest{n:04}", int(c), int(e + b), int(hour), int(e))
        for n, (c, e, b, hour) in enumerate(zip(calls, errored, before, lately, strict=True))
    ]


def liars(attack: Attack, share: float) -> list[Counted]:
    """Return the hostile tenants' counts, all in the closed hour."""
    wrong = int(attack.calls * share)
    return [
        (f"liar{n:05}", attack.calls, wrong, attack.calls, wrong) for n in range(attack.tenants)
    ]


def pooled(counts: Sequence[Counted]) -> float:
    """Return the accuracy of all counts."""
    return 1 - sum(errored for _, _, errored, *_ in counts) / sum(calls for _, calls, *_ in counts)


def entering(profile: Profile, counts: Sequence[Counted]) -> tuple[float, bool]:
    """Return the accuracy that rules read for these counts, and whether the endpoint enters."""
    done = closed(profile, counts, 1)
    (row,) = done.snapshot.models["lab/m000"].rows[profile.bound.fold]
    (state,) = done.memory.states.values()
    calls, errored = (
        float(str(row[f"tools.{name}"])) for name in ("tool_call_requests", "errored_requests")
    )
    return 1 - errored / calls, state.state == MEMBER


def leaving(profile: Profile, good: Sequence[Counted], attack: Attack) -> bool:
    """Return whether a member with these counts is evicted within three hours."""
    done = closed(profile, good, 1)
    if not all(state.state == MEMBER for state in done.memory.states.values()):
        raise ValueError("expected a good endpoint to be a member before the attack")
    for hour in (2, 3, 4):
        done = closed(profile, [*good, *liars(attack, 1.0)], hour, done)
    return any(state.state == EVICTED for state in done.memory.states.values())


def closed(
    profile: Profile, counts: Sequence[Counted], hour: int, before: Judgment | None = None
) -> Judgment:
    """Run one tick over one endpoint with counts of many tenants."""
    (endpoint,) = endpoints(1, 1)
    end, half_life = FIRST + HOURS + hour, profile.bound.evidence.half_life_max
    tallies = tuple(
        TrafficCounts(
            endpoint.endpoint_id, SOURCE, tenant, 0, 2 * calls, calls, errored, 2 * calls, calls,
            Counts(2 * calls, calls, errored), lately, wrong, end - HOURS, end - 1, half_life,
        )
        for tenant, calls, errored, lately, wrong in counts
    )  # fmt: skip
    world = World(
        (Model(endpoint.model),),
        (endpoint,),
        traffic={profile.bound.fold: TrafficTable.of(tallies)},
    )
    memory = before.memory if before else EMPTY_MEMORY
    return judge(world, profile.policy, START + (HOURS + hour) * HOUR, memory, closes_hour=True)
