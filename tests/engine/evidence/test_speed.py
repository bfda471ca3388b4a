"""Speed and uptime from enough traffic fill in for values missing from the catalog."""

from __future__ import annotations

import random

import pytest
from tests.support.worlds import MODEL, endpoint, judge_world, world

from assay.engine.evidence.speed import (
    HistogramBin,
    fill_from_traffic,
    latencies,
    quantile,
    throughputs,
    uptime,
)
from assay.engine.world.catalog import Percentiles
from assay.engine.world.measurements import ServedSpeed
from assay.engine.world.world import World
from assay.outcomes.counting import bounds, bucket_of


def binned(values: list[float]) -> list[HistogramBin]:
    """Values in the buckets of the counters, in thousandths."""
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_of(round(value * 1000))] = counts.get(bucket_of(round(value * 1000)), 0) + 1
    return [
        HistogramBin(low / 1000, high / 1000, counts[k])
        for k in counts
        for low, high in (bounds(k),)
    ]


@pytest.mark.parametrize(
    ("bins", "share", "value"),
    [
        pytest.param([HistogramBin(1, 2, 49)], 0.5, None, id="49 are too few"),
        pytest.param(
            [HistogramBin(1, 2, 50)], 0.5, 2**0.5, id="50 are not: the middle by the logarithm"
        ),
        pytest.param([HistogramBin(1, 2, 50)], 1.0, 2, id="the end"),
        pytest.param(
            [HistogramBin(1, 4, 25), HistogramBin(4, 16, 25)], 0.25, 2, id="in the first of two"
        ),
        pytest.param(
            [HistogramBin(4, 16, 25), HistogramBin(1, 4, 25)],
            0.75,
            8,
            id="in the second model, in any order",
        ),
        pytest.param(
            [HistogramBin(0, 1, 100)], 0.3, 0.3, id="a bin from zero is interpolated linearly"
        ),
        pytest.param(
            [HistogramBin(1, 2, 50), HistogramBin(2, 4, 0)],
            1.0,
            2,
            id="an empty histogram has no quantile",
        ),
        pytest.param([], 0.5, None, id="none at all"),
    ],
)
def test_quantiles_interpolate_within_bins(
    bins: list[HistogramBin], share: float, value: float | None
) -> None:
    assert quantile(bins, share) == (None if value is None else pytest.approx(value))


def test_percentiles_are_within_a_tenth_of_the_truth() -> None:
    rng = random.Random(2)
    values = sorted(rng.lognormvariate(0, 0.7) for _ in range(20_000))
    found = latencies(binned(values))
    for share, value in ((0.5, found.p50), (0.75, found.p75), (0.9, found.p90), (0.99, found.p99)):
        assert value == pytest.approx(values[int(share * len(values))], rel=0.05)
    assert throughputs(binned(values)).p90 == pytest.approx(values[len(values) // 10], rel=0.05)


@pytest.mark.parametrize(
    ("answered", "failed", "share"), [(0, 0, None), (40, 9, None), (49, 1, 98.0), (0, 50, 0.0)]
)
def test_uptime_is_the_share_of_answered_requests(
    answered: int, failed: int, share: float | None
) -> None:
    assert uptime(answered, failed) == share


def test_the_catalog_has_precedence() -> None:
    served = ServedSpeed(Percentiles(p50=1.0, p90=2.0), Percentiles(p50=50.0), 97.0)
    silent = endpoint("a")
    assert fill_from_traffic(silent, None) is silent
    found = fill_from_traffic(silent, served)
    assert (found.latency_s, found.throughput_tps, found.uptime_1d_percent) == (
        served.latency_s,
        served.throughput_tps,
        97,
    )
    listed = endpoint(
        "a",
        latency_s=Percentiles(p50=9.0),
        throughput_tps=Percentiles(p99=1.0),
        uptime_30m_percent=50.0,
    )
    assert fill_from_traffic(listed, served) == listed


def test_rules_read_measured_speed_like_the_catalogs() -> None:
    of = world(endpoint("a"), endpoint("b"))
    served = {
        of.endpoints[0].endpoint_id: ServedSpeed(Percentiles(p50=0.5), Percentiles(p90=80.0), 99.0)
    }
    first, second = next(
        iter(judge_world(World(of.models, of.endpoints, served=served)).models[MODEL].rows.values())
    )
    assert (first["latency.p50_s"], first["throughput.p90_tps"], first["uptime_percent"]) == (
        0.5,
        80.0,
        99.0,
    )
    assert "uptime_percent" not in second
