"""The functions that rules may call besides those of CEL itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assay.engine.cel.schema import BOOL, DOUBLE, INT, STRING, Function, Type, list_of, record
from assay.engine.evidence import statistics
from assay.engine.world.slug import provider_matches

DOUBLES = list_of(DOUBLE)
STRINGS = list_of(STRING)
ENDPOINT = record("endpoint")


def matches_any(endpoint: Mapping[str, object], names: Sequence[str]) -> bool:
    """Whether any name means this endpoint."""
    return any(matches(endpoint, name) for name in names)


def rank_in(endpoint: Mapping[str, object], names: Sequence[str]) -> int:
    """The place (from 0) of the first name that means this endpoint, or the number of names."""
    return next((place for place, name in enumerate(names) if matches(endpoint, name)), len(names))


def matches(endpoint: Mapping[str, object], name: str) -> bool:
    """Whether a provider name means this endpoint."""
    return provider_matches(
        name, str(endpoint["provider"]), str(endpoint["tag"]), str(endpoint["service_tier"])
    )


def named_in(endpoint: Mapping[str, object], names: Sequence[str]) -> bool:
    """Whether the list holds the endpoint's own tag."""
    return endpoint["tag"] in names


def benchmark_score(
    endpoint: Mapping[str, Sequence[object]], series: str, within_days: int
) -> object:
    """The endpoint's latest score in a series of `endpoint.benchmarks.series`; absent where none is so young."""
    if benchmark_age(endpoint, series) > within_days:
        raise KeyError("benchmarks.scores")
    return endpoint["benchmarks.scores"][endpoint["benchmarks.series"].index(series)]


def benchmark_age(endpoint: Mapping[str, Sequence[Any]], series: str) -> int:
    """Whole days since the endpoint's latest run of a series; absent where there is none."""
    if series not in endpoint["benchmarks.series"]:
        raise KeyError("benchmarks.age_days")
    days: int = endpoint["benchmarks.age_days"][endpoint["benchmarks.series"].index(series)]
    return days


def greatest(one: float, other: float) -> float:
    """The larger of two."""
    return max(one, other)


def least(one: float, other: float) -> float:
    """The smaller of two."""
    return min(one, other)


def percent(share: float) -> str:
    """A share as text: 0.953 is `95.3%`."""
    return f"{share * 100:.1f}%"


def fixed(value: float, digits: int) -> str:
    """A number as text with up to 9 digits after the point."""
    if not 0 <= digits <= 9:  # noqa: PLR2004 - nine digits are the documented bound
        raise ValueError("fixed takes 0 to 9 digits")
    return f"{value:.{digits}f}"


def declare(  # noqa: PLR0913 - the columns of the table below
    name: str,
    implementation: Callable[..., object],
    parameters: tuple[Type, ...],
    result: Type,
    receiver: Type | None = None,
    *,
    judging: bool = False,
) -> Function:
    """One row of the table below."""
    return Function(name, parameters, result, implementation, receiver, judging)


FUNCTIONS: tuple[Function, ...] = (
    declare("matches_any", matches_any, (STRINGS,), BOOL, ENDPOINT),
    declare("named_in", named_in, (STRINGS,), BOOL, ENDPOINT),
    declare("rank_in", rank_in, (STRINGS,), INT, ENDPOINT),
    declare("benchmark_score", benchmark_score, (STRING, INT), DOUBLE, ENDPOINT),
    declare("benchmark_age", benchmark_age, (STRING,), INT, ENDPOINT),
    declare("abs", abs, (DOUBLE,), DOUBLE),
    declare("greatest", greatest, (DOUBLE, DOUBLE), DOUBLE),
    declare("least", least, (DOUBLE, DOUBLE), DOUBLE),
    declare("percent", percent, (DOUBLE,), STRING),
    declare("fixed", fixed, (DOUBLE, INT), STRING),
    declare("logit", statistics.logit, (DOUBLE,), DOUBLE),
    declare("median", statistics.median, (DOUBLES,), DOUBLE),
    declare("mad", statistics.mad, (DOUBLES,), DOUBLE),
    declare("quantile", statistics.quantile, (DOUBLES, DOUBLE), DOUBLE),
    declare("wilson_lower", statistics.wilson_lower, (DOUBLE, DOUBLE, DOUBLE), DOUBLE),
    declare("wilson_upper", statistics.wilson_upper, (DOUBLE, DOUBLE, DOUBLE), DOUBLE),
    declare(
        "probability_at_least",
        statistics.probability_at_least,
        (DOUBLE, DOUBLE, DOUBLE),
        DOUBLE,
        judging=True,
    ),
)
