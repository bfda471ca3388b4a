"""What traffic says of an endpoint's speed and uptime, where the catalog says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from assay.engine.world.catalog import Endpoint, Percentiles
from assay.engine.world.measurements import ServedSpeed

LEAST: Final = 50
POINTS: Final = (0.50, 0.75, 0.90, 0.99)
NOTHING: Final = Percentiles()


@dataclass(frozen=True, slots=True)
class HistogramBin:
    """So many values from `low` up to `high`."""

    low: float
    high: float
    count: int


def latencies(bins: Sequence[HistogramBin]) -> Percentiles:
    """The times that 50, 75, 90 and 99 % of requests met; absent where there are too few to say."""
    return Percentiles(*(quantile(bins, point) for point in POINTS))


def throughputs(bins: Sequence[HistogramBin]) -> Percentiles:
    """The speeds that 50, 75, 90 and 99 % of requests exceeded; absent where there are too few to say."""
    return Percentiles(*(quantile(bins, 1.0 - point) for point in POINTS))


def uptime(answered: int, failed: int) -> float | None:
    """The share of requests answered, 0 to 100; absent where there are too few to say."""
    return 100.0 * answered / (answered + failed) if answered + failed >= LEAST else None


def quantile(bins: Sequence[HistogramBin], share: float) -> float | None:
    """The value below which a share of all lies: even within a bin by its logarithm, as the bins are made."""
    whole = sum(each.count for each in bins)
    if whole < LEAST:
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
    """The endpoint with what its catalog leaves open; what the catalog says of a kind stands, however little."""
    if served is None:
        return endpoint
    silent = endpoint.uptime_30m_percent is None and endpoint.uptime_1d_percent is None
    return replace(
        endpoint,
        latency_s=served.latency_s if endpoint.latency_s == NOTHING else endpoint.latency_s,
        throughput_tps=served.throughput_tps
        if endpoint.throughput_tps == NOTHING
        else endpoint.throughput_tps,
        uptime_1d_percent=served.uptime_percent if silent else endpoint.uptime_1d_percent,
    )
