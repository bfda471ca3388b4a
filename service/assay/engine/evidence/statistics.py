"""Statistics over plain doubles, as rules call them; definitions in reference/statistics.md.

Only `probability_at_least` needs SciPy, which is imported when it is first called: never on the way of Decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from math import log
from statistics import NormalDist
from typing import SupportsFloat


def probability_at_least(good: float, bad: float, threshold: float) -> float:
    """P(p ≥ threshold) for p ~ Beta(good, bad): the upper tail, by the regularised incomplete beta function."""
    if not (good > 0 and bad > 0 and math.isfinite(good) and math.isfinite(bad)):
        raise ValueError("probability_at_least needs counts above zero")
    if not 0 <= threshold <= 1:
        raise ValueError("probability_at_least needs a threshold between 0 and 1")
    return float(upper_tail()(good, bad, threshold))


@cache
def upper_tail() -> Callable[..., SupportsFloat]:
    """SciPy's regularised incomplete beta function of the upper tail, imported when first asked for."""
    from scipy.special import betaincc  # noqa: PLC0415 - SciPy stays off the way of Decide

    return betaincc


def wilson_lower(successes: float, trials: float, confidence: float) -> float:
    """The lower end of the one-sided Wilson score interval for a share (Wilson 1927)."""
    centre, half = wilson(successes, trials, confidence)
    return max(0.0, centre - half)


def wilson_upper(successes: float, trials: float, confidence: float) -> float:
    """The upper end of the one-sided Wilson score interval for a share (Wilson 1927)."""
    centre, half = wilson(successes, trials, confidence)
    return min(1.0, centre + half)


def wilson(successes: float, trials: float, confidence: float) -> tuple[float, float]:
    """Centre and half width of the Wilson score interval with one-sided `confidence`."""
    if not (trials > 0 and 0 <= successes <= trials and math.isfinite(trials)):
        raise ValueError("a Wilson bound needs 0 <= successes <= trials and trials above zero")
    if not 0 < confidence < 1:
        raise ValueError("a Wilson bound needs a confidence between 0 and 1")
    z = deviate(confidence)
    total = trials + z * z
    half = z * math.sqrt(successes * ((trials - successes) / trials) + z * z / 4) / total
    return (successes + z * z / 2) / total, half


@lru_cache
def deviate(confidence: float) -> float:
    """The standard normal deviate below which a share of `confidence` lies."""
    return NormalDist().inv_cdf(confidence)


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones."""
    ordered = finite(values, "median")
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def mad(values: Sequence[float]) -> float:
    """The median absolute deviation from the median, unscaled (times 1.4826 it estimates a standard deviation)."""
    centre = median(values)
    return median([abs(value - centre) for value in values])


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, linear between neighbours (Hyndman and Fan's type 7)."""
    ordered = finite(values, "quantile")
    if not 0 <= share <= 1:
        raise ValueError("quantile needs a share between 0 and 1")
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def finite(values: Sequence[float], name: str) -> list[float]:
    """The values in order; refuses an empty list, NaN, which has no place in an order, and infinities."""
    if not values:
        raise ValueError(f"{name} of an empty list")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name} of a list with NaN or infinity")
    return sorted(values)


def logit(share: float) -> float:
    """ln(p / (1 - p)) for 0 < p < 1."""
    if 0 < share < 1:
        return log(share / (1 - share))
    raise ValueError("logit needs a share strictly between 0 and 1")
