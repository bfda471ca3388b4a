"""Time decay of traffic in whole numbers (service/STATISTICS.md#time-decay).

How it works. Every counter has an integer weight, a multiple of 2^-20, and sums of integers are
the same in any order and in any database. Half-lives are steps of a ladder, so that SQL needs one
table of weights per step instead of one per endpoint. Ages run from the end of an hour. The hours
of today and yesterday have a weight each; an earlier day is one row and has the mean weight of
its hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from math import ceil, exp2, floor, log2
from typing import Final

from assay.engine.canonical import canonical
from assay.engine.world.clock import EPOCH, HOUR, HOURS_PER_DAY

RATE_DAYS: Final = 7
_STEPS_PER_OCTAVE: Final = 4
_SHARE_OF_TARGET: Final = 0.25
WEIGHT_SCALE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class EvidenceSpec:
    """How counts are discounted: age limit, half-life bounds and design effect.

    In a half-life, `half_life_target` effective tool-call requests arrive at the endpoint's own
    rate; it is clamped to [`half_life_min`, `half_life_max`]. `design_effect` divides counts that
    come in clusters. Tenants that err more than `outlier_errors`, and far more than the others at
    an endpoint, are left out there, up to `outlier_share` of the pool's use in `usage_days` days.
    """

    max_age: timedelta = timedelta(days=90)
    half_life_target: float = 2000.0
    half_life_min: timedelta = timedelta(hours=12)
    half_life_max: timedelta = timedelta(hours=168)
    design_effect: float = 2.2
    outlier_errors: float = 0.05
    outlier_share: float = 0.085
    usage_days: float = 21.0

    @property
    def key(self) -> str:
        """The content as text; worlds and snapshots store by it what was folded so.

        Limits of outliers are in it if they differ from the usual ones: snapshots of versions that
        had no such limits still fit.
        """
        spans = (s.total_seconds() for s in (self.max_age, self.half_life_min, self.half_life_max))
        limits = (self.outlier_errors, self.outlier_share, self.usage_days)
        stated = () if limits == _USUAL_LIMITS else limits
        return canonical([*spans, self.half_life_target, self.design_effect, *stated]).decode()


_USUAL: Final = EvidenceSpec()
_USUAL_LIMITS: Final = (_USUAL.outlier_errors, _USUAL.outlier_share, _USUAL.usage_days)


@dataclass(frozen=True, slots=True)
class CountingWindow:
    """The counters that count at an instant: days, then hours from `first_hour` to before `end`.

    Hours and days are numbered from 1970; `end` is the hour that has not ended.
    """

    first_day: int
    last_day: int
    first_hour: int
    end: int


def counting_window(spec: EvidenceSpec, as_of: datetime) -> CountingWindow:
    """Return the counters that have ended at an instant and are not stale."""
    end = (as_of - EPOCH) // HOUR
    oldest = end - floor(spec.max_age / HOUR)
    yesterday = end // HOURS_PER_DAY - 1
    return CountingWindow(
        ceil(oldest / HOURS_PER_DAY) - 1,
        yesterday - 1,
        max(yesterday * HOURS_PER_DAY, oldest - 1),
        end,
    )


@lru_cache
def half_lives(spec: EvidenceSpec) -> tuple[float, ...]:
    """Return the ladder of half-lives in hours: four per octave, and the longest."""
    shortest, longest = spec.half_life_min / HOUR, spec.half_life_max / HOUR
    steps = ceil(_STEPS_PER_OCTAVE * log2(longest / shortest))
    return (*(shortest * exp2(step / _STEPS_PER_OCTAVE) for step in range(steps)), longest)


def half_life_step(calls: float, days: int, spec: EvidenceSpec) -> int:
    """Return the ladder's step for an endpoint with so many tool-call requests in so many days."""
    last = len(half_lives(spec)) - 1
    if not calls or not days:
        return last
    hours = spec.half_life_target * spec.design_effect * days * HOURS_PER_DAY / calls
    return min(max(round(_STEPS_PER_OCTAVE * log2(hours / (spec.half_life_min / HOUR))), 0), last)


def most_calls_a_day(spec: EvidenceSpec) -> float:
    """Return for how many tool-call requests a day one tenant counts toward the half-life."""
    return _SHARE_OF_TARGET * spec.half_life_target * spec.design_effect


def hour_weight(half_life: float, hour: int, end: int) -> int:
    """Return the weight of an hour's counts, as a multiple of 1 / `WEIGHT_SCALE`."""
    return round(WEIGHT_SCALE * exp2((hour + 1 - end) / half_life))


def day_weight(half_life: float, day: int, end: int) -> int:
    """Return the weight of a day's counts: the mean of its hours' weights."""
    first = day * HOURS_PER_DAY
    weights = (exp2((first + hour + 1 - end) / half_life) for hour in range(HOURS_PER_DAY))
    return round(WEIGHT_SCALE * sum(weights) / HOURS_PER_DAY)
