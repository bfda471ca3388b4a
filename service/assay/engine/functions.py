"""The functions that rules may call besides those of CEL itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import BuiltinFunctionType, FunctionType

from assay.engine import statistics
from assay.engine.cel.schema import BOOL, DOUBLE, INT, STRING, Function, Type, list_of, record
from assay.engine.slug import means

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
    return means(name, str(endpoint["provider"]), str(endpoint["tag"]), str(endpoint["service_tier"]))


def named_in(endpoint: Mapping[str, object], names: Sequence[str]) -> bool:
    """Whether the list holds the endpoint's own tag."""
    return endpoint["tag"] in names


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


def declare(
    implementation: FunctionType | BuiltinFunctionType,
    parameters: tuple[Type, ...],
    result: Type,
    receiver: Type | None = None,
    *,
    judging: bool = False,
) -> Function:
    """A Function under the implementation's own name."""
    return Function(implementation.__name__, parameters, result, implementation, receiver, judging)


FUNCTIONS: tuple[Function, ...] = (
    declare(matches_any, (STRINGS,), BOOL, ENDPOINT),
    declare(named_in, (STRINGS,), BOOL, ENDPOINT),
    declare(rank_in, (STRINGS,), INT, ENDPOINT),
    declare(abs, (DOUBLE,), DOUBLE),
    declare(greatest, (DOUBLE, DOUBLE), DOUBLE),
    declare(least, (DOUBLE, DOUBLE), DOUBLE),
    declare(percent, (DOUBLE,), STRING),
    declare(fixed, (DOUBLE, INT), STRING),
    declare(statistics.logit, (DOUBLE,), DOUBLE),
    declare(statistics.median, (DOUBLES,), DOUBLE),
    declare(statistics.mad, (DOUBLES,), DOUBLE),
    declare(statistics.quantile, (DOUBLES, DOUBLE), DOUBLE),
    declare(statistics.wilson_lower, (DOUBLE, DOUBLE, DOUBLE), DOUBLE),
    declare(statistics.wilson_upper, (DOUBLE, DOUBLE, DOUBLE), DOUBLE),
    declare(statistics.probability_at_least, (DOUBLE, DOUBLE, DOUBLE), DOUBLE, judging=True),
)
