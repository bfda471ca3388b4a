"""How endpoints served in the day up to a closed hour, from counters in buckets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from sqlalchemy import Column, Connection, Integer, MetaData, Table, cast, func, select

from assay.engine.evidence.speed import NO_PERCENTILES, HistogramBin, latencies, throughputs, uptime
from assay.engine.world.catalog import Endpoint
from assay.engine.world.clock import EPOCH, HOUR, HOURS_PER_DAY
from assay.engine.world.measurements import ServedSpeed
from assay.outcomes.counting import bounds
from assay.store.evidence_tables import service_counter
from assay.store.types import NAME
from assay.store.upserts import keep_first

THOUSANDTHS = 1000.0
Counts = Mapping[int, int]  # by bucket

temporary = MetaData()
silent_endpoint = Table(  # of which the catalog leaves something open
    "silent_endpoint",
    temporary,
    Column("endpoint_id", NAME, primary_key=True),
    prefixes=["TEMPORARY"],
)


def silent(endpoints: Iterable[Endpoint]) -> list[str]:
    """The endpoints of whose speed or uptime the catalog says nothing."""
    return [
        e.endpoint_id
        for e in endpoints
        if NO_PERCENTILES in (e.latency_s, e.throughput_tps)
        or (e.uptime_30m_percent is None and e.uptime_1d_percent is None)
    ]


def load_served(
    connection: Connection, endpoints: Collection[str], as_of: datetime
) -> dict[str, ServedSpeed]:
    """What the last 24 closed hours say of those endpoints, where they say anything."""
    if not endpoints:
        return {}
    temporary.create_all(connection, checkfirst=False)
    keep_first(connection, silent_endpoint, [(name,) for name in sorted(endpoints)])
    c, end = service_counter.c, (as_of - EPOCH) // HOUR
    query = (
        select(c.endpoint_id, c.metric, c.bucket, cast(func.sum(c.count), Integer))
        .join(silent_endpoint, silent_endpoint.c.endpoint_id == c.endpoint_id)
        .where(c.hour >= end - HOURS_PER_DAY, c.hour < end)
        .group_by(c.endpoint_id, c.metric, c.bucket)
    )
    found: defaultdict[str, defaultdict[str, dict[int, int]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for endpoint_id, metric, bucket, count in connection.execute(query):
        found[endpoint_id][metric][bucket] = int(count)
    temporary.drop_all(connection, checkfirst=False)
    return {endpoint_id: served(found[endpoint_id]) for endpoint_id in sorted(found)}


def served(metrics: Mapping[str, Counts]) -> ServedSpeed:
    """One endpoint's counters."""
    return ServedSpeed(
        latencies(bins(metrics.get("latency_ms", {}))),
        throughputs(bins(metrics.get("throughput_mtps", {}))),
        uptime(metrics.get("answered", {}).get(0, 0), metrics.get("failed", {}).get(0, 0)),
    )


def bins(counts: Counts) -> list[HistogramBin]:
    """Buckets of thousandths as bins of whole units."""
    edges = {bucket: bounds(bucket) for bucket in counts}
    return [
        HistogramBin(low / THOUSANDTHS, high / THOUSANDTHS, counts[k])
        for k, (low, high) in edges.items()
    ]
