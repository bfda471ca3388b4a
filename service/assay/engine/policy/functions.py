"""The functions that rules may call besides those of CEL itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from assay.engine.cel.schema import BOOL, DOUBLE, INT, STRING, Function, list_of, record
from assay.engine.evidence import statistics
from assay.engine.world.request import provider_matches

DOUBLES = list_of(DOUBLE)
STRINGS = list_of(STRING)
ENDPOINT = record("endpoint")


def matches_any(endpoint: Mapping[str, object], names: Sequence[str]) -> bool:
    """Return whether any of the names means this endpoint."""
    return any(matches(endpoint, name) for name in names)


def rank_in(endpoint: Mapping[str, object], names: Sequence[str]) -> int:
    """Return the index of the first name that means this endpoint, or the number of names."""
    return next((place for place, name in enumerate(names) if matches(endpoint, name)), len(names))


def matches(endpoint: Mapping[str, object], name: str) -> bool:
    """Return whether a provider name means this endpoint."""
    return provider_matches(
        name, str(endpoint["provider"]), str(endpoint["tag"]), str(endpoint["service_tier"])
    )


def named_in(endpoint: Mapping[str, object], names: Sequence[str]) -> bool:
    """Return whether the names include the endpoint's own tag."""
    return endpoint["tag"] in names


def benchmark_score(
    endpoint: Mapping[str, Sequence[object]], series: str, within_days: int
) -> object:
    """Return the endpoint's latest score in a series; missing if it has none that recent."""
    if benchmark_age(endpoint, series) > within_days:
        raise KeyError("benchmarks.scores")
    return endpoint["benchmarks.scores"][endpoint["benchmarks.series"].index(series)]


def benchmark_age(endpoint: Mapping[str, Sequence[Any]], series: str) -> int:
    """Return the whole days since the endpoint's latest run of a series; missing if it has none."""
    if series not in endpoint["benchmarks.series"]:
        raise KeyError("benchmarks.age_days")
    days: int = endpoint["benchmarks.age_days"][endpoint["benchmarks.series"].index(series)]
    return days


def greatest(one: float, other: float) -> float:
    """Return the larger number."""
    return max(one, other)


def least(one: float, other: float) -> float:
    """Return the smaller number."""
    return min(one, other)


def hypot(one: float, other: float) -> float:
    """Return the square root of the sum of two squares, such as of independent errors."""
    return math.hypot(one, other)


def percent(share: float) -> str:
    """Return a share as text: 0.953 is `95.3%`."""
    return f"{share * 100:.1f}%"


def fixed(value: float, digits: int) -> str:
    """Return a number as text with 0 to 9 digits after the point."""
    if not 0 <= digits <= 9:  # noqa: PLR2004 - nine digits are the documented bound
        raise ValueError("fixed takes 0 to 9 digits")
    return f"{value:.{digits}f}"


FUNCTIONS: tuple[Function, ...] = (
    Function("matches_any", (STRINGS,), BOOL, matches_any, ENDPOINT),
    Function("named_in", (STRINGS,), BOOL, named_in, ENDPOINT),
    Function("rank_in", (STRINGS,), INT, rank_in, ENDPOINT),
    Function("benchmark_score", (STRING, INT), DOUBLE, benchmark_score, ENDPOINT),
    Function("benchmark_age", (STRING,), INT, benchmark_age, ENDPOINT),
    Function("abs", (DOUBLE,), DOUBLE, abs),
    Function("greatest", (DOUBLE, DOUBLE), DOUBLE, greatest),
    Function("least", (DOUBLE, DOUBLE), DOUBLE, least),
    Function("percent", (DOUBLE,), STRING, percent),
    Function("fixed", (DOUBLE, INT), STRING, fixed),
    Function("logit", (DOUBLE,), DOUBLE, statistics.logit),
    Function("median", (DOUBLES,), DOUBLE, statistics.median),
    Function("mad", (DOUBLES,), DOUBLE, statistics.mad),
    Function("peer_band", (DOUBLES, DOUBLE, DOUBLE), DOUBLE, statistics.peer_band, judging=True),
    Function("hypot", (DOUBLE, DOUBLE), DOUBLE, hypot),
    Function("quantile", (DOUBLES, DOUBLE), DOUBLE, statistics.quantile),
    Function("wilson_lower", (DOUBLE, DOUBLE, DOUBLE), DOUBLE, statistics.wilson_lower),
    Function("wilson_upper", (DOUBLE, DOUBLE, DOUBLE), DOUBLE, statistics.wilson_upper),
    Function(
        "probability_at_least",
        (DOUBLE, DOUBLE, DOUBLE),
        DOUBLE,
        statistics.probability_at_least,
        judging=True,
    ),
)
