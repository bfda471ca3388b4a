"""Forgetting in whole numbers: weights by age on a ladder of half-lives, so that sums come out alike wherever made.

Age runs from the end of an hour. Hours of this and the last UTC day weigh each by its own, those before by the mean of
their day: what is that old weighs little, and a day is one row. Definitions: reference/statistics.md §5.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil, exp2, floor, log2
from typing import Final

from assay.engine.evidence.observations import HOUR
from assay.engine.policy.rule_set import EvidenceSpec

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY: Final = 24
RATE_DAYS: Final = 7
PER_OCTAVE: Final = 4
WHOLE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Reach:
    """The counters that have ended at an instant and are not stale, hours and days counted from 1970.

    Hours weigh each by itself, from `first_hour` on up to `end`, which has not ended; days before that, from
    `first_day` to `last_day`.
    """

    first_day: int
    last_day: int
    first_hour: int
    end: int


def reach(spec: EvidenceSpec, as_of: datetime) -> Reach:
    """What counts as of an instant."""
    end = (as_of - EPOCH) // HOUR
    oldest = end - floor(spec.max_age / HOUR)
    yesterday = end // DAY - 1
    return Reach(ceil(oldest / DAY) - 1, yesterday - 1, max(yesterday * DAY, oldest - 1), end)


@lru_cache
def half_lives(spec: EvidenceSpec) -> tuple[float, ...]:
    """The half-lives there are, in hours: four to an octave from the shortest on, and the longest."""
    shortest, longest = spec.half_life_min / HOUR, spec.half_life_max / HOUR
    steps = ceil(PER_OCTAVE * log2(longest / shortest))
    return (*(shortest * exp2(step / PER_OCTAVE) for step in range(steps)), longest)


def step_of(calls: int, days: int, spec: EvidenceSpec) -> int:
    """The step on the ladder for an endpoint that had so many tool-call requests in so many whole days."""
    last = len(half_lives(spec)) - 1
    if not calls or not days:
        return last
    hours = spec.half_life_target * spec.design_effect * days * DAY / calls
    return min(max(round(PER_OCTAVE * log2(hours / (spec.half_life_min / HOUR))), 0), last)


def hour_weight(half_life: float, hour: int, end: int) -> int:
    """The weight of an hour's counts, of `WHOLE`."""
    return round(WHOLE * exp2((hour + 1 - end) / half_life))


def day_weight(half_life: float, day: int, end: int) -> int:
    """The weight of a day's counts, of `WHOLE`: the mean of its hours'."""
    return round(
        WHOLE * sum(exp2((day * DAY + hour + 1 - end) / half_life) for hour in range(DAY)) / DAY
    )
