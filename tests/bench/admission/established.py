"""An established pool of one model: weeks of honest history, then hour by hour with the engine.

pool = established(Mix(45, 4500), MEMBERS, seed=1)
pool.close()                                   # an honest hour
pool.close({(0, "liar", 0): bad(300)})         # and 300 bad calls of one tenant at endpoint 0
pool.members                                   # places of the endpoints in the pool
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
from tests.bench.admission.ledger import Ledger, Sent
from tests.bench.admission.pools import HOUR, START
from tests.bench.admission.population import CHANNELS, Mix, Offered, Population, population
from tests.bench.admission.profiles import Profile, profile
from tests.bench.admission.traffic import HOURS_A_DAY, Floats

from assay.engine.pool.judge import Judgment, judge
from assay.engine.snapshot.pool_memory import EMPTY_MEMORY, MEMBER, PoolChange, PoolMemory
from assay.engine.world.catalog import Endpoint, Model
from assay.engine.world.measurements import IgnoreVote
from assay.engine.world.traffic_table import TrafficTable
from assay.engine.world.world import World

HISTORY_DAYS: Final = 21
MODEL: Final = "lab/m000"
MEMBERS: Final = tuple(map(Offered, (0.99, 0.985, 0.985, 0.98, 0.98)))


def name_of(place: int) -> str:
    """Return the id of the endpoint at a place."""
    return f"{MODEL}@t{place:02}"


def bad(calls: int, clean: int = 0) -> tuple[int, ...]:
    """Return the counts of forced tool calls, all of them bad except some clean ones."""
    return calls + clean, calls + clean, calls, 0, 0, calls + clean


def clean(calls: int, errored: int = 0) -> tuple[int, ...]:
    """Return the counts of requests that ended in calls at the usual propensity of one half."""
    return 2 * calls, calls, errored, 2 * calls, calls, 2 * calls


def text(requests: int) -> tuple[int, ...]:
    """Return the counts of requests that were answered with text, though tools were offered."""
    return requests, 0, 0, requests, 0, requests


@dataclass
class EstablishedPool:
    """One model whose hours are closed by the engine; `listed` are the places that are offered."""

    profile: Profile
    honest: Population
    ledger: Ledger
    providers: tuple[str, ...]
    listed: tuple[int, ...]
    memory: PoolMemory = EMPTY_MEMORY
    votes: tuple[IgnoreVote, ...] = ()
    changes: tuple[PoolChange, ...] = ()
    share: Floats = field(default_factory=lambda: np.ones(0))
    done: Judgment | None = None

    @cached_property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The offered endpoints."""
        return tuple(
            Endpoint(name_of(n), MODEL, self.providers[n], f"t{n:02}") for n in self.listed
        )

    @property
    def daily(self) -> int:
        """The honest tool-call requests of a day, of all endpoints that are offered."""
        own = np.isin(self.honest.endpoint, self.listed)
        return int((self.honest.daily * self.honest.propensity)[own].sum())

    @property
    def of_day(self) -> int:
        """The hour of the day that is closed next."""
        return self.ledger.hours % HOURS_A_DAY

    @property
    def members(self) -> frozenset[int]:
        """The places of the members."""
        return frozenset(
            n
            for n in self.listed
            if (state := self.memory.states.get((self.profile.name, name_of(n))))
            and state.state == MEMBER
        )

    def fork(self, seed: int = 0) -> EstablishedPool:
        """Return a pool with the same past and another future."""
        return replace(self, honest=self.honest.fork(seed), ledger=self.ledger.fork())

    def offer(self, *places: int) -> EstablishedPool:
        """Return a pool with more of its endpoints listed."""
        return replace(self, listed=(*self.listed, *places))

    def make_up(self, provider: str, tags: int) -> tuple[EstablishedPool, tuple[int, ...]]:
        """Return a pool with as many more endpoints of one provider, and their places."""
        places = tuple(range(len(self.providers), len(self.providers) + tags))
        wider = replace(self, providers=(*self.providers, *(provider,) * tags))
        return wider.offer(*places), places

    def close(self, sent: Sent | None = None, *, ticks: bool = True) -> None:
        """Add one hour of honest traffic and what hostile tenants sent, and run its tick."""
        honest = self.honest.hour(self.of_day, self.share)
        self.ledger.add_hour(honest, sent or {})
        if ticks:
            self.tick()

    def tick(self) -> None:
        """Run the tick that closes the last hour."""
        spec = self.profile.bound.evidence
        tallies = self.ledger.tallies({n: name_of(n) for n in self.listed}, spec)
        world = World(
            (Model(MODEL),),
            self.endpoints,
            traffic={self.profile.bound.fold: TrafficTable.of(tallies)},
            ignore_votes=self.votes,
        )
        at = START + self.ledger.hours * HOUR
        self.done = judge(world, self.profile.policy, at, self.memory, closes_hour=True)
        self.memory = self.done.memory
        self.changes += self.done.changes

    def calls_by_tenant(self) -> dict[str, dict[str, int]]:
        """Return the calls of each named tenant by provider, before yesterday."""
        found: defaultdict[str, dict[str, int]] = defaultdict(dict)
        calls = self.ledger.days[:, CHANNELS.index("calls")].sum(axis=0).astype(int).tolist()
        for (place, tenant, _), count in zip(self.ledger.cells, calls, strict=False):
            if tenant:
                provider = self.providers[place]
                found[tenant][provider] = found[tenant].get(provider, 0) + count
        return dict(found)

    def half_life_hours(self, place: int) -> float:
        """Return the half-life of an endpoint's counts."""
        tallies = self.ledger.tallies({place: name_of(place)}, self.profile.bound.evidence)
        return tallies[0].half_life / HOUR

    def keys(self, name: str) -> Floats:
        """Return an order key of every endpoint, of rules that have no pool."""
        if self.done is None:
            raise ValueError("close an hour first")
        (view,) = (p for p in self.done.snapshot.pools.values() if p.binding == self.profile.name)
        return np.array([endpoint.keys[name] for endpoint in view.endpoints])

    def fact(self, place: int, name: str) -> float:
        """Return a number that rules read of an endpoint."""
        if self.done is None:
            raise ValueError("close an hour first")
        rows = self.done.snapshot.models[MODEL].rows[self.profile.bound.fold]
        return next(float(str(r.get(name, "nan"))) for r in rows if r["id"] == name_of(place))


def established(
    mix: Mix,
    offered: Sequence[Offered] = MEMBERS,
    seed: int = 0,
    *,
    days: int = HISTORY_DAYS,
    hour_of_day: int = 14,
    listed: Sequence[int] | None = None,
    rules: str = "exacto",
) -> EstablishedPool:
    """Draw the history of a pool, and close its last hours, so that good endpoints are members.

    Only the `listed` ones are offered; the others get requests all the same.
    """
    honest = population(mix, tuple(offered), seed)
    everything = np.ones(len(offered))
    ledger = Ledger(honest.cells, np.stack([honest.day(everything) for _ in range(days - 1)]))
    for hour in range(HOURS_A_DAY + hour_of_day):
        ledger.add_hour(honest.hour(hour % HOURS_A_DAY, everything), {})
    providers = tuple(f"p{n:02}" for n in range(len(offered)))
    places = tuple(range(len(offered)) if listed is None else listed)
    pool = EstablishedPool(profile(rules), honest, ledger, providers, places, share=everything)
    for _ in range(2):
        pool.close()
    return pool
