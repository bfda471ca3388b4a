"""A tick over 1,000 models with 20 endpoints, 100 tenants and 7 days of counters, warm and cold."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text
from tests.bench.ledger import Ledger
from tests.bench.measure import spread
from tests.support.curated_pool import FixedRules
from tests.support.population import AS_OF, MODEL, endpoint

from assay.curator.curator import Curator
from assay.engine.world.catalog import Model
from assay.engine.world.clock import EPOCH, HOUR
from assay.importers.documents import CatalogDocument
from assay.store.database import reading, writing
from assay.store.imports.catalog import apply_catalog
from assay.store.lease import read_lease, take_lease
from assay.store.traffic import load_traffic
from assay.store.world import load_world

MODELS, ENDPOINTS, TENANTS, HOURS = 1000, 20, 100, 7 * 24
FIRST = (AS_OF - EPOCH) // HOUR // 24 * 24 - 6 * 24
LAST = FIRST + HOURS  # a tick at midnight less one hour reads the most by the hour
CLOSING = range(LAST - 5, LAST)
GIGABYTE = 1e9
COLD = """
import json, resource, sys, time
started = time.perf_counter()
from tests.bench.bench_fold import close_hours
from assay.store.database import open_database
close_hours(open_database(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([time.perf_counter() - started, peak]))
"""

# A hundred tenants call each endpoint in turn, one in an hour, in one stratum;
# every eighth endpoint errs in a tenth of its calls.
CELLS = (
    "CREATE TABLE cell AS SELECT endpoint_id, "
    "ROW_NUMBER() OVER (ORDER BY endpoint_id) AS number FROM endpoint"
)
HOUR_ROWS = """
INSERT INTO evidence_counter
SELECT endpoint_id, 'gateway', 'tenant-' || ((number + CAST(:hour AS BIGINT)) % 100), number % 6,
       :hour, requests, requests / 2,
       requests / 2 * CASE WHEN number % 8 = 0 THEN 12 ELSE 1 END / 100, requests, requests / 2,
       requests
FROM (
    SELECT endpoint_id, number,
        40 + (number * 7919 + CAST(:hour AS BIGINT) * 104729) % 997 AS requests
    FROM cell
) AS drawn
"""
DAY_ROWS = """
INSERT INTO evidence_day
SELECT endpoint_id, source, tenant, stratum, hour / 24,
    SUM(requests), SUM(tool_call_requests), SUM(errored_requests),
       SUM(auto_requests), SUM(auto_tool_call_requests), SUM(attempts)
FROM evidence_counter GROUP BY endpoint_id, source, tenant, stratum, hour / 24
"""


def fill(database: Engine) -> None:
    """Store a catalog with speeds, and counters for every endpoint and hour."""
    names = [f"{MODEL}-{number}" for number in range(MODELS)]
    offers = [endpoint(index) for index in range(ENDPOINTS)]
    placed = (
        replace(e, endpoint_id=f"{name}@{e.tag}", model=name) for name in names for e in offers
    )
    listed = CatalogDocument(
        "bench", "bench", models=tuple(map(Model, names)), endpoints=tuple(placed)
    )
    apply_catalog(database, listed, now=AS_OF - timedelta(days=30))
    with writing(database) as connection:
        connection.execute(text(CELLS))
        for hour in range(FIRST, LAST):
            connection.execute(text(HOUR_ROWS), {"hour": hour})
        connection.execute(text(DAY_ROWS))
        connection.execute(text("DROP TABLE cell"))
        assert (
            connection.scalar(text("SELECT COUNT(*) FROM evidence_counter"))
            == MODELS * ENDPOINTS * HOURS
        )


def close_hours(database: Engine, first: int, last: int) -> list[float]:
    """Close hours as the curator does; return the seconds of each, from reading to committing."""
    curator = Curator(database, FixedRules(), lambda: AS_OF, lambda _: None)
    lease = take_lease(database, "bench", AS_OF + timedelta(days=1), seen=read_lease(database))
    assert lease is not None
    policy, taken = FixedRules().policy, []
    for hour in range(first, last + 1):
        started = time.perf_counter()
        curator.close_hour(lease, policy, hour)
        taken.append(time.perf_counter() - started)
    return taken


def timed(work: Callable[[], object]) -> list[float]:
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return taken


@pytest.fixture
def counters(store: Engine) -> Engine:
    fill(store)
    return store


def test_an_hourly_tick_takes_at_most_10_seconds(
    counters: Engine, database_url: str, backend: str, ledger: Ledger
) -> None:
    policy, as_of = FixedRules().policy, EPOCH + CLOSING[-1] * HOUR

    def sum_counters() -> None:
        with reading(counters) as connection:
            (tallies,) = load_traffic(connection, policy.folds, as_of).values()
        assert len(tallies.columns.endpoint) == MODELS * ENDPOINTS * TENANTS

    ledger.took(f"summing 3.36 M counters, {backend}", spread(timed(sum_counters)))
    ledger.took(
        f"reading the world, {backend}",
        spread(timed(lambda: load_world(counters, as_of, policy.folds))),
    )
    counters.dispose()
    span = [str(CLOSING[0]), str(CLOSING[0])]
    ran = subprocess.run(
        [sys.executable, "-c", COLD, database_url, *span],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, memory = json.loads(ran.stdout.splitlines()[-1])
    ledger.took(f"the first tick of a new process, {backend}", spread([seconds] * 2), below=300.0)
    ledger.counted(f"its memory below 1 GB, {backend}", round(GIGABYTE - memory), at_least=0)
    _, *later = close_hours(counters, CLOSING[1], CLOSING[-1])
    ledger.took(f"an hour's tick, read to committed, {backend}", spread(later), below=10.0)
