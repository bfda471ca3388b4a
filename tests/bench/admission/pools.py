"""The engine's own ticks over random traffic: hourly counts in, pool states out.

Counts are stored by the hour and discounted with the engine's weights, as the store does in SQL. A
test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
from numpy.typing import NDArray
from tests.bench.admission.profiles import Profile
from tests.bench.admission.traffic import Floats, Ints

from assay.engine.evidence.decay import (
    RATE_DAYS,
    WEIGHT_SCALE,
    EvidenceSpec,
    day_weight,
    half_life_step,
    half_lives,
    hour_weight,
)
from assay.engine.pool.judge import judge
from assay.engine.snapshot.pool_memory import EMPTY_MEMORY, MEMBER, PoolChange, PoolMemory
from assay.engine.world.catalog import Endpoint, Model
from assay.engine.world.clock import EPOCH, HOURS_PER_DAY
from assay.engine.world.measurements import Counts, TrafficCounts
from assay.engine.world.traffic_table import TrafficTable
from assay.engine.world.world import World

HOUR = timedelta(hours=1)
START = datetime(2025, 9, 1, tzinfo=UTC)
FIRST = (START - EPOCH) // HOUR
SOURCE = "gateway"


def endpoints(models: int, each: int) -> tuple[Endpoint, ...]:
    """Return a number of models with as many endpoints each."""
    return tuple(
        Endpoint(f"lab/m{m:03}@p{p:02}", f"lab/m{m:03}", f"p{p:02}", f"p{p:02}")
        for m in range(models)
        for p in range(each)
    )


@cache
def weights(spec: EvidenceSpec, hour_of_day: int, hours: int) -> Ints:
    """Return the weights of the last hours for each half-life, the newest hour first."""
    end = (hours // HOURS_PER_DAY + 2) * HOURS_PER_DAY + hour_of_day
    fine = (end // HOURS_PER_DAY - 1) * HOURS_PER_DAY
    ages = range(end - 1, end - 1 - hours, -1)
    return np.array(
        [
            [
                hour_weight(h, t, end) if t >= fine else day_weight(h, t // HOURS_PER_DAY, end)
                for t in ages
            ]
            for h in half_lives(spec)
        ]
    )


@dataclass
class Counted:
    """Calls and errored calls of many endpoints by the hour, from START on."""

    calls: Ints
    errored: Ints
    hours: int = 0

    @classmethod
    def nothing(cls, endpoints: int, hours: int) -> Counted:
        """Return empty counts with room for a number of hours."""
        return cls(np.zeros((endpoints, hours), np.int64), np.zeros((endpoints, hours), np.int64))

    def copy(self) -> Counted:
        """Return a copy of the counts."""
        return Counted(self.calls.copy(), self.errored.copy(), self.hours)

    def add(self, calls: Ints, errored: Ints) -> None:
        """Add one hour."""
        self.calls[:, self.hours], self.errored[:, self.hours] = calls, errored
        self.hours += 1

    def steps(self, spec: EvidenceSpec) -> Ints:
        """Return the step of each endpoint's half-life, by its whole days so far."""
        today = self.hours // HOURS_PER_DAY
        lately = self.calls[
            :, max(today - RATE_DAYS, 0) * HOURS_PER_DAY : today * HOURS_PER_DAY
        ].sum(axis=1)
        first = np.argmax(self.calls > 0, axis=1) // HOURS_PER_DAY
        days = np.clip(today - first, 0, RATE_DAYS)
        return np.array(
            [half_life_step(int(n), int(d), spec) for n, d in zip(lately, days, strict=True)]
        )

    def tallies(
        self, names: Sequence[str], spec: EvidenceSpec, steps: Ints
    ) -> tuple[TrafficCounts, ...]:
        """Return the counts so far, one per endpoint; half of the requests end in tool calls."""
        ladder = half_lives(spec)
        weighing = weights(spec, self.hours % HOURS_PER_DAY, self.calls.shape[1])[
            steps, : self.hours
        ]
        calls, errored = self.calls[:, : self.hours], self.errored[:, : self.hours]
        sums = [(seen[:, ::-1] * weighing).sum(axis=1) / WEIGHT_SCALE for seen in (calls, errored)]
        seen = calls > 0
        first, last = np.argmax(seen, axis=1), self.hours - 1 - np.argmax(seen[:, ::-1], axis=1)
        columns = (
            calls.sum(axis=1),
            errored.sum(axis=1),
            calls[:, -1],
            errored[:, -1],
            FIRST + first,
            FIRST + last,
        )
        discounted = zip(*(s.tolist() for s in sums), strict=True)
        whole = zip(*(column.tolist() for column in columns), strict=True)
        rows = zip(names, discounted, whole, steps.tolist(), strict=True)
        return tuple(
            TrafficCounts(
                name,
                SOURCE,
                "",
                0,
                2 * n,
                n,
                bad,
                2 * n,
                n,
                Counts(2 * total, total, wrong),
                hour,
                hour_bad,
                began,
                ended,
                ladder[step] * HOUR,
            )
            for name, (n, bad), (total, wrong, hour, hour_bad, began, ended), step in rows
            if total
        )


@dataclass
class Pools:
    """Pools of one profile over endpoints whose traffic arrives hour by hour."""

    profile: Profile
    listed: Sequence[Endpoint]
    counted: Counted
    memory: PoolMemory = EMPTY_MEMORY
    changes: list[PoolChange] = field(default_factory=list)
    inside: Floats = field(init=False)
    half_lives: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.inside = np.zeros(len(self.listed))
        self.half_lives = self.counted.steps(self.profile.bound.evidence)

    def fork(self) -> Pools:
        """Return pools with the same past."""
        other = Pools(
            self.profile, self.listed, self.counted.copy(), self.memory, list(self.changes)
        )
        other.inside = self.inside
        return other

    def narrow(self, kept: NDArray[np.bool_]) -> None:
        """Keep only some of the endpoints."""
        self.listed = [e for e, keep in zip(self.listed, kept, strict=True) if keep]
        names = {e.endpoint_id for e in self.listed}
        self.counted = Counted(
            self.counted.calls[kept], self.counted.errored[kept], self.counted.hours
        )
        self.memory = PoolMemory(
            {key: state for key, state in self.memory.states.items() if state.endpoint_id in names}
        )
        self.inside, self.half_lives = self.inside[kept], self.half_lives[kept]

    def close(self, calls: Ints, errored: Ints) -> None:
        """Add the counts of one hour, and run the tick that closes it."""
        spec = self.profile.bound.evidence
        self.counted.add(calls, errored)
        if self.counted.hours % HOURS_PER_DAY == 0:
            self.half_lives = self.counted.steps(spec)
        names = [e.endpoint_id for e in self.listed]
        models = tuple(Model(name) for name in dict.fromkeys(e.model for e in self.listed))
        tallies = self.counted.tallies(names, spec, self.half_lives)
        traffic = {spec.key: TrafficTable.of(tallies)}
        world = World(models, tuple(self.listed), traffic=traffic)
        done = judge(
            world,
            self.profile.policy,
            START + self.counted.hours * HOUR,
            self.memory,
            closes_hour=True,
        )
        self.memory = done.memory
        self.changes += done.changes
        states = (done.memory.states.get((self.profile.name, name)) for name in names)
        self.inside = np.array(
            [state is not None and state.state == MEMBER for state in states], np.float64
        )
