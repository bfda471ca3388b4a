"""Nothing changes but chance: false admissions, false rejections, and how often a pool moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tests.bench.admission.pools import START, Counted, Pools, endpoints
from tests.bench.admission.profiles import Profile
from tests.bench.admission.traffic import HOURS_A_DAY, Floats, traffic

from assay.engine.snapshot.pool_memory import MEMBER

DAYS, WARM_UP = 28, 3
HOURS, WARM = (WARM_UP + DAYS) * HOURS_A_DAY, WARM_UP * HOURS_A_DAY
WEEKS = DAYS / 7
VOLUMES = 10.0 ** np.linspace(3, 6, 8)  # tool-call requests a day


@dataclass(frozen=True, slots=True)
class Steady:
    """The result for every provider: one row per run, one column per true accuracy.

    `inside` is the share of hours in the pool and `moves` the number of entries and evictions, both
    after the warm-up. `daily` are requests per day, `first` the hour of the first admission,
    infinite without one.
    """

    accuracies: Floats
    daily: Floats
    inside: Floats
    moves: Floats
    first: Floats

    def at(self, accuracy: float) -> int:
        """Return the column of a true accuracy."""
        return int(np.argmin(abs(self.accuracies - accuracy)))

    def false_admit(self, most: float) -> Floats:
        """Return, per run, the share of hours in the pool of providers below an accuracy."""
        found: Floats = self.inside[:, self.accuracies <= most + 1e-9].mean(axis=1)
        return found

    def false_reject(self, least: float) -> Floats:
        """Return, per run, the share of hours outside of providers above an accuracy."""
        found: Floats = 1.0 - self.inside[:, self.accuracies >= least - 1e-9].mean(axis=1)
        return found

    def flaps(self) -> Floats:
        """Return, per run, the moves per provider and week."""
        found: Floats = self.moves.mean(axis=1) / WEEKS
        return found

    def flaps_of_worst(self) -> float:
        """Return the moves per week at the accuracy with the most."""
        return float(self.moves.mean(axis=0).max() / WEEKS)


def steady(
    profile: Profile, accuracies: Sequence[float], runs: int, outside: float, seed: int
) -> Steady:
    """Simulate four weeks after three days of warm-up.

    An endpoint outside the pool gets `outside` of its traffic. Volumes from 1,000 to 1,000,000 a
    day rotate, so that eight runs cover every accuracy at every volume.
    """
    each = len(accuracies)
    daily = np.concatenate([np.roll(VOLUMES, run) for run in range(runs)])
    seen = traffic(np.tile(accuracies, runs), daily, seed)
    pools = Pools(profile, endpoints(runs, each), Counted.nothing(runs * each, HOURS))
    inside, first = np.zeros(runs * each), np.full(runs * each, np.inf)
    for hour in range(HOURS):
        pools.close(*seen.hour(np.where((pools.inside > 0) | (hour < WARM), 1.0, outside)))
        first = np.where((pools.inside > 0) & np.isinf(first), hour + 1, first)
        if hour >= WARM:
            inside += pools.inside
    shape = (runs, each)
    moves = moved(pools).reshape(shape)
    return Steady(
        np.asarray(accuracies),
        daily.reshape(shape),
        inside.reshape(shape) / (HOURS - WARM),
        moves,
        first.reshape(shape),
    )


def moved(pools: Pools) -> Floats:
    """Return how often each endpoint left its pool or returned, after the warm-up."""
    places = {e.endpoint_id: n for n, e in enumerate(pools.listed)}
    found, known = np.zeros(len(places)), set[str]()
    for change in pools.changes:
        back = change.after == MEMBER and change.endpoint_id in known
        if change.after == MEMBER:
            known.add(change.endpoint_id)
        if (back or change.before == MEMBER) and (change.at - START).total_seconds() / 3600 > WARM:
            found[places[change.endpoint_id]] += 1
    return found
