"""Timing on a noisy machine: CPU time, alternating rounds, medians with quartiles."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

Work = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several rounds, with the quartiles around it."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Seconds per call of both sides, and the ratio of each round, ours to theirs."""

    ours: Spread
    theirs: Spread
    ratio: Spread


def spread(values: Sequence[float]) -> Spread:
    low, _, high = quantiles(values, n=4)
    return Spread(median(values), low, high)


def seconds(work: Work, calls: int, clock: Clock = time.process_time) -> float:
    """Return the seconds per call, with the garbage collector off."""
    repeated = range(calls)
    gc.collect()
    gc.disable()
    try:
        start = clock()
        for _ in repeated:
            work()
        return (clock() - start) / calls
    finally:
        gc.enable()


def measured(
    work: Work, *, calls: int = 1, rounds: int = 9, clock: Clock = time.process_time
) -> Spread:
    work()
    return spread([seconds(work, calls, clock) for _ in range(rounds)])


def compared(
    ours: Work,
    theirs: Work,
    *,
    calls: int,
    their_calls: int | None = None,
    rounds: int = 31,
    clock: Clock = time.process_time,
) -> Compared:
    """Measure both sides in turn; the first one changes from round to round."""
    pairs: list[tuple[float, float]] = []
    ours()
    theirs()
    for number in range(rounds):
        if number % 2:
            one = seconds(ours, calls, clock)
            other = seconds(theirs, their_calls or calls, clock)
        else:
            other = seconds(theirs, their_calls or calls, clock)
            one = seconds(ours, calls, clock)
        pairs.append((one, other))
    return Compared(
        spread([one for one, _ in pairs]),
        spread([other for _, other in pairs]),
        spread([one / other for one, other in pairs]),
    )
