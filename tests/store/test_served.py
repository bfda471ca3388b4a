"""Speed and uptime of the last day, from counters, for endpoints without a stated speed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from assay.engine.world.catalog import Endpoint, Percentiles
from assay.engine.world.clock import EPOCH, HOUR
from assay.engine.world.measurements import ServedSpeed
from assay.outcomes.counting import bounds, bucket_of
from assay.store.database import reading, writing
from assay.store.evidence_tables import service_counter
from assay.store.traffic import endpoints_without_speed, load_served
from assay.store.upserts import add_up

NOW = datetime(2026, 7, 4, 14, 30, tzinfo=UTC)
HOUR_NOW = (NOW - EPOCH) // HOUR


def count(store: Engine, *rows: tuple[str, int, str, int, int]) -> None:
    with writing(store) as connection:
        add_up(connection, service_counter, sorted(rows))


def read(store: Engine, *endpoints: str, at: datetime = NOW) -> dict[str, ServedSpeed]:
    with reading(store) as connection:
        return load_served(connection, endpoints or ("m@a", "m@b"), at)


def test_the_counters_of_a_day_become_percentiles(store: Engine) -> None:
    half_a_second, forty = bucket_of(500), bucket_of(40_000)
    count(
        store,
        *(("m@a", HOUR_NOW - hour, "latency_ms", half_a_second, 10) for hour in range(1, 25)),
        *(("m@a", HOUR_NOW - hour, "throughput_mtps", forty, 10) for hour in (1, 24)),
        ("m@a", HOUR_NOW - 3, "answered", 0, 97), ("m@a", HOUR_NOW - 9, "failed", 0, 3),
        ("m@b", HOUR_NOW - 1, "answered", 0, 49),
    )  # fmt: skip
    found = read(store)
    low, high = bounds(half_a_second)
    assert found["m@a"].latency_s.p50 == pytest.approx((low * high) ** 0.5 / 1000)
    assert found["m@a"].throughput_tps == Percentiles()
    assert found["m@a"].uptime_percent == 97.0
    assert found["m@b"] == ServedSpeed()


@pytest.mark.parametrize(("hour", "seen"), [(0, False), (1, True), (24, True), (25, False)])
def test_only_the_last_24_closed_hours_count(store: Engine, hour: int, *, seen: bool) -> None:
    count(store, ("m@a", HOUR_NOW - hour, "answered", 0, 50))
    assert bool(read(store)) is seen
    assert read(store, at=NOW + timedelta(days=3)) == {}


def test_only_requested_endpoints_are_read(store: Engine) -> None:
    count(store, ("m@a", HOUR_NOW - 1, "answered", 0, 50), ("m@b", HOUR_NOW - 1, "answered", 0, 50))
    assert list(read(store, "m@b")) == ["m@b"]
    with reading(store) as connection:
        assert load_served(connection, (), NOW) == {}


def test_endpoints_with_an_unknown_speed_or_uptime_are_selected() -> None:
    slow, fast = Percentiles(p50=1.0), Percentiles(p50=9.0)
    down = Endpoint("m@down", "m", "p", "p", latency_s=slow, throughput_tps=fast)
    quick = Endpoint("m@quick", "m", "p", "p", latency_s=slow, uptime_1d_percent=99.0)
    complete = replace(down, endpoint_id="m@complete", uptime_30m_percent=99.0)
    assert endpoints_without_speed([complete, down, quick]) == ["m@down", "m@quick"]
