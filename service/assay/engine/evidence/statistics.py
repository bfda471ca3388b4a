"""Statistics over doubles, as rules call them (service/STATISTICS.md#functions-of-rules).

`probability_at_least` and the exact intervals need SciPy, which they import on their first call: no
Decide imports it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from math import log
from statistics import NormalDist
from typing import TYPE_CHECKING, SupportsFloat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def probability_at_least(good: float, bad: float, threshold: float) -> float:
    """Return P(p ≥ threshold) for p ~ Beta(good, bad).

    By the regularized incomplete beta function (service/STATISTICS.md#accuracy).
    """
    if not (good > 0 and bad > 0 and math.isfinite(good) and math.isfinite(bad)):
        raise ValueError("probability_at_least needs counts above zero")
    if not 0 <= threshold <= 1:
        raise ValueError("probability_at_least needs a threshold between 0 and 1")
    return float(_upper_tail()(good, bad, threshold))


@cache
def _upper_tail() -> Callable[..., SupportsFloat]:
    from scipy.special import betaincc  # noqa: PLC0415 - no Decide needs to import SciPy

    return betaincc


def at_least_so_many(
    hits: NDArray[np.float64], size: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Return the probability of `hits` or more of `size`, each with probability `share`.

    The binomial tail as a regularized incomplete beta function, also for counts that are not whole.
    """
    from scipy.special import betainc  # noqa: PLC0415 - as in _upper_tail

    found = hits * 0.0 + 1.0
    some = hits > 0
    found[some] = betainc(hits[some], (size - hits)[some].clip(0.0) + 1.0, share)
    return found


def count_interval(count: float, confidence: float) -> tuple[float, float]:
    """Return the exact limits of a Poisson mean (service/STATISTICS.md#error-rates-of-agents)."""
    from scipy.special import gammainccinv, gammaincinv  # noqa: PLC0415 - as in _upper_tail

    tail = (1 - confidence) / 2
    low = float(gammaincinv(count, tail)) if count else 0.0
    return low, float(gammainccinv(count + 1, tail))


def odds_interval(ones: float, others: float, confidence: float) -> tuple[float, float]:
    """Return the exact limits of the odds of two binomial counts; the upper one may be infinite.

    See service/STATISTICS.md#error-rates-of-agents.
    """
    from scipy.special import betaincinv  # noqa: PLC0415 - as in _upper_tail

    tail = (1 - confidence) / 2
    low = float(betaincinv(ones, others + 1, tail)) if ones else 0.0
    high = float(betaincinv(ones + 1, others, 1 - tail)) if others else 1.0
    return low / (1 - low), high / (1 - high) if high < 1 else math.inf


def wilson_lower(successes: float, trials: float, confidence: float) -> float:
    """Return the lower end of the one-sided Wilson score interval (Wilson 1927)."""
    center, half = _wilson(successes, trials, confidence)
    return max(0.0, center - half)


def wilson_upper(successes: float, trials: float, confidence: float) -> float:
    """Return the upper end of the one-sided Wilson score interval (Wilson 1927)."""
    center, half = _wilson(successes, trials, confidence)
    return min(1.0, center + half)


def _wilson(successes: float, trials: float, confidence: float) -> tuple[float, float]:
    """Return center and half width."""
    if not (trials > 0 and 0 <= successes <= trials and math.isfinite(trials)):
        raise ValueError("a Wilson bound needs 0 <= successes <= trials and trials above zero")
    if not 0 < confidence < 1:
        raise ValueError("a Wilson bound needs a confidence between 0 and 1")
    z = _deviate(confidence)
    total = trials + z * z
    half = z * math.sqrt(successes * ((trials - successes) / trials) + z * z / 4) / total
    return (successes + z * z / 2) / total, half


@lru_cache
def _deviate(confidence: float) -> float:
    return NormalDist().inv_cdf(confidence)


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two middle values."""
    ordered = _finite(values, "median")
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def mad(values: Sequence[float]) -> float:
    """Return the median absolute deviation; × 1.4826 it estimates a standard deviation."""
    center = median(values)
    return median([abs(value - center) for value in values])


def quantile(values: Sequence[float], share: float) -> float:
    """Return the `share` quantile, linear between neighbors (Hyndman and Fan's type 7)."""
    ordered = _finite(values, "quantile")
    if not 0 <= share <= 1:
        raise ValueError("quantile needs a share between 0 and 1")
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def peer_band(peers: Sequence[float], spread: float, scale: float) -> float:
    """Return how far from the median of its peers one more value may lie: half a prediction band.

    It is as wide as `spread` standard deviations of a normal distribution. The peers' own deviation
    is moderated by a usual `scale`, which weighs as much as four of them (Smyth 2004). See
    service/STATISTICS.md#propensity.
    """
    if not (spread > 0 and scale > 0 and math.isfinite(spread) and math.isfinite(scale)):
        raise ValueError("peer_band needs a spread and a scale above zero")
    size = len(peers)
    deviation = _NORMAL_MAD * mad(peers) * size / (size - _MAD_BIAS)
    moderated = (_USUAL * scale**2 + (size - 1) * deviation**2) / (_USUAL + size - 1)
    of_median = math.pi / (2 * size)
    return _student(spread, _USUAL + size - 1) * math.sqrt(moderated * (1 + of_median))


_NORMAL_MAD = 1.4826
_MAD_BIAS = 0.8  # in small samples (Croux and Rousseeuw 1992)
_USUAL = 4


@lru_cache
def _student(deviate: float, freedom: int) -> float:
    """Return the quantile of Student's t that is as improbable as a normal deviate."""
    from scipy.special import ndtr, stdtrit  # noqa: PLC0415 - as in _upper_tail

    return -float(stdtrit(freedom, ndtr(-deviate)))


def _finite(values: Sequence[float], name: str) -> list[float]:
    """Return the values in order; reject an empty list, NaN and infinities."""
    if not values:
        raise ValueError(f"{name} of an empty list")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name} of a list with NaN or infinity")
    return sorted(values)


def logit(share: float) -> float:
    """Return ln(p / (1 - p)) for 0 < p < 1."""
    if 0 < share < 1:
        return log(share / (1 - share))
    raise ValueError("logit needs a share strictly between 0 and 1")
