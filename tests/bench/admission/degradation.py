"""A good provider turns bad silently: hours until it is evicted, and false evictions before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tests.bench.admission.pools import Counted, Pools, endpoints
from tests.bench.admission.profiles import Profile
from tests.bench.admission.steady import VOLUMES
from tests.bench.admission.traffic import HOURS_A_DAY, Floats, traffic

from assay.engine.snapshot.pool_memory import EVICTED

GOOD = 0.985
WARM_UP, BEFORE, AFTER = 3 * HOURS_A_DAY, 14 * HOURS_A_DAY, 7 * HOURS_A_DAY
WEEKS_BEFORE = BEFORE / HOURS_A_DAY / 7


@dataclass(frozen=True, slots=True)
class Degraded:
    """One row per run, one column per volume.

    `delays` are the closed hours from the change to the eviction; the first is 1. A delay is
    infinite without an eviction within a week, and NaN if the provider was not a member at the
    change.
    """

    to: float
    delays: Floats

    def median(self, least: float = 0.0, most: float = np.inf) -> float:
        """Return the median delay at a volume of requests per day."""
        return float(np.nanmedian(self.delays[:, (least <= VOLUMES) & (most >= VOLUMES)]))

    def quantile(self, share: float) -> float:
        """Return a quantile of all delays."""
        return float(np.nanquantile(self.delays, share, method="higher"))

    def missed(self) -> float:
        """Return the share that was not evicted."""
        return float(np.isinf(self.delays).sum() / (~np.isnan(self.delays)).sum())


@dataclass(frozen=True, slots=True)
class Degradation:
    """The result of each change, and the false evictions before it per provider and week."""

    changes: tuple[Degraded, ...]
    false_evictions: float


def degradation(profile: Profile, levels: Sequence[float], runs: int, seed: int) -> Degradation:
    """Simulate three days of warm-up and two good weeks, then a bad week at each level."""
    each = len(VOLUMES)
    seen = traffic(np.full(runs * each, GOOD), np.tile(VOLUMES, runs), seed)
    pools = Pools(
        profile, endpoints(runs * each, 1), Counted.nothing(runs * each, WARM_UP + BEFORE + AFTER)
    )
    for _ in range(WARM_UP + BEFORE):
        pools.close(*seen.hour(np.ones(runs * each)))
    thrown = sum(c.after == EVICTED for c in pools.changes)
    changes = tuple(
        degraded(pools.fork(), level, seed + n, each) for n, level in enumerate(levels, 1)
    )
    return Degradation(changes, thrown / (runs * each * WEEKS_BEFORE))


def degraded(pools: Pools, to: float, seed: int, each: int) -> Degraded:
    """Simulate a week at a level; an evicted endpoint is not followed further."""
    daily = np.tile(VOLUMES, len(pools.listed) // each)
    delays = np.where(pools.inside > 0, np.inf, np.nan)
    left = np.flatnonzero(pools.inside)
    pools.narrow(pools.inside > 0)
    seen = traffic(np.full(len(left), to), daily[left], seed)
    for hour in range(1, AFTER + 1):
        if not len(left):
            break
        pools.close(*seen.hour(np.ones(len(left))))
        stayed = pools.inside > 0
        delays[left[~stayed]] = hour
        left = left[stayed]
        pools.narrow(stayed)
        seen.narrow(stayed)
    return Degraded(to, delays.reshape(-1, each))
