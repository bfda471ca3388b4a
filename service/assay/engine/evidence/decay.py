"""Forgetting in whole numbers: weights by age on a ladder of half-lives, so that sums come out alike wherever made.

Age runs from the end of an hour. Hours of this and the last UTC day weigh each by its own, those before by the mean of
their day: what is that old weighs little, and a day is one row. Definitions: reference/statistics.md §5.1.
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
PER_OCTAVE: Final = 4
WEIGHT_SCALE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class EvidenceSpec:
    """How counts are folded: age limit and half-life bounds.

    The half-life is `half_life_target` effective tool-call requests at the endpoint's own rate, clamped to
    [`half_life_min`, `half_life_max`]; `design_effect` divides counts that come in clusters.
    """

    max_age: timedelta = timedelta(days=90)
    half_life_target: float = 2000.0
    half_life_min: timedelta = timedelta(hours=12)
    half_life_max: timedelta = timedelta(hours=168)
    design_effect: float = 2.2

    @property
    def key(self) -> str:
        """The specification's content as text, by which worlds and snapshots store what was folded by it."""
        spans = (s.total_seconds() for s in (self.max_age, self.half_life_min, self.half_life_max))
        return canonical([*spans, self.half_life_target, self.design_effect]).decode()


@dataclass(frozen=True, slots=True)
class CountingWindow:
    """The counters that have ended at an instant and are not stale, hours and days counted from 1970.

    Hours weigh each by itself, from `first_hour` on up to `end`, which has not ended; days before that, from
    `first_day` to `last_day`.
    """

    first_day: int
    last_day: int
    first_hour: int
    end: int


def counting_window(spec: EvidenceSpec, as_of: datetime) -> CountingWindow:
    """What counts as of an instant."""
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
    """The half-lives there are, in hours: four to an octave from the shortest on, and the longest."""
    shortest, longest = spec.half_life_min / HOUR, spec.half_life_max / HOUR
    steps = ceil(PER_OCTAVE * log2(longest / shortest))
    return (*(shortest * exp2(step / PER_OCTAVE) for step in range(steps)), longest)


def half_life_step(calls: int, days: int, spec: EvidenceSpec) -> int:
    """The step on the ladder for an endpoint that had so many tool-call requests in so many whole days."""
    last = len(half_lives(spec)) - 1
    if not calls or not days:
        return last
    hours = spec.half_life_target * spec.design_effect * days * HOURS_PER_DAY / calls
    return min(max(round(PER_OCTAVE * log2(hours / (spec.half_life_min / HOUR))), 0), last)


def hour_weight(half_life: float, hour: int, end: int) -> int:
    """The weight of an hour's counts, of `WHOLE`."""
    return round(WEIGHT_SCALE * exp2((hour + 1 - end) / half_life))


def day_weight(half_life: float, day: int, end: int) -> int:
    """The weight of a day's counts, of `WHOLE`: the mean of its hours'."""
    return round(
        WEIGHT_SCALE
        * sum(
            exp2((day * HOURS_PER_DAY + hour + 1 - end) / half_life)
            for hour in range(HOURS_PER_DAY)
        )
        / HOURS_PER_DAY
    )
