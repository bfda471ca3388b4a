"""Speed and uptime from traffic (service/STATISTICS.md#percentiles-of-speed)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from assay.engine.world.catalog import Endpoint, Percentiles
from assay.engine.world.measurements import ServedSpeed

_LEAST_REQUESTS: Final = 50
_POINTS: Final = (0.50, 0.75, 0.90, 0.99)
NO_PERCENTILES: Final = Percentiles()


@dataclass(frozen=True, slots=True)
class HistogramBin:
    """The number of values from `low` to below `high`."""

    low: float
    high: float
    count: int


def latencies(bins: Sequence[HistogramBin]) -> Percentiles:
    """Return the times that 50, 75, 90 and 99 % of requests do not exceed."""
    return Percentiles(*(quantile(bins, point) for point in _POINTS))


def throughputs(bins: Sequence[HistogramBin]) -> Percentiles:
    """Return the speeds that 50, 75, 90 and 99 % of requests reach."""
    return Percentiles(*(quantile(bins, 1.0 - point) for point in _POINTS))


def uptime(answered: int, failed: int) -> float | None:
    """Return the percentage of requests answered, or `None` for fewer than 50 requests."""
    return 100.0 * answered / (answered + failed) if answered + failed >= _LEAST_REQUESTS else None


def quantile(bins: Sequence[HistogramBin], share: float) -> float | None:
    """Return the value that a share of all values does not exceed, or `None` for fewer than 50.

    Values are taken as evenly spread by their logarithm within a bin.
    """
    whole = sum(each.count for each in bins)
    if whole < _LEAST_REQUESTS:
        return None
    rest = share * whole
    ordered = sorted((each for each in bins if each.count), key=lambda b: b.low)
    for each in ordered:
        if rest <= each.count:
            part = rest / each.count
            return each.low * (each.high / each.low) ** part if each.low else each.high * part
        rest -= each.count
    return ordered[-1].high


def fill_from_traffic(endpoint: Endpoint, served: ServedSpeed | None) -> Endpoint:
    """Return the endpoint with speed and uptime from traffic where the catalog states none."""
    if served is None:
        return endpoint
    is_unknown = endpoint.uptime_30m_percent is None and endpoint.uptime_1d_percent is None
    return replace(
        endpoint,
        latency_s=served.latency_s if endpoint.latency_s == NO_PERCENTILES else endpoint.latency_s,
        throughput_tps=served.throughput_tps
        if endpoint.throughput_tps == NO_PERCENTILES
        else endpoint.throughput_tps,
        uptime_1d_percent=served.uptime_percent if is_unknown else endpoint.uptime_1d_percent,
    )
