"""A server whose database stands still answers decisions, says so in its health, and stops."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.databases import create_database, migrate_all, running_postgresql
from tests.support.decide_load import import_small_catalog
from tests.support.processes import serving
from tests.support.server_calls import decide, health_status, scrape_metrics, wait_for_health
from tests.support.suspended_postgresql import suspended_postgresql

from assay.v1 import audit_pb2, audit_pb2_grpc

STORE, CURATOR, SNAPSHOT = "assay.store", "assay.curator", "assay.snapshot"


@pytest.mark.slow
def test_a_server_notices_a_database_that_stands_still_and_recovers(tmp_path: Path) -> None:
    with running_postgresql() as postgresql:
        url = create_database(postgresql.url, "still")
        migrate_all(url)
        import_small_catalog(url, tmp_path)
        options = ("--journal", tmp_path / "journal", "--metrics", "127.0.0.1:0")
        with serving("--database", url, *options) as server, server.channel() as channel:
            wait_for_health(channel, "SERVING", SNAPSHOT)
            metrics = str(server.ready["metrics"])
            with suspended_postgresql(url):
                list_decisions = audit_pb2_grpc.AuditServiceStub(channel).ListDecisions
                request = audit_pb2.ListDecisionsRequest()
                waiting = [list_decisions.future(request, timeout=60) for _ in range(8)]
                assert decide(channel, "lab/mixed").attempts
                assert not any(call.done() for call in waiting)
                wait_for_health(channel, "NOT_SERVING", STORE, SNAPSHOT, CURATOR)
                assert health_status(channel, "assay.v1.RoutingService") == "SERVING"
                assert scrape_metrics(metrics)['assay_healthy{service="assay.store"}'] == 0
            wait_for_health(channel, "SERVING", STORE, SNAPSHOT, CURATOR)
            assert scrape_metrics(metrics)['assay_healthy{service="assay.store"}'] == 1
            red = [line for line in server.log if line["event"] == "not serving"]
            assert all(line["cause"] for line in red)
            assert STORE in {line["service"] for line in red}
            assert server.stop() == 0


@pytest.mark.slow
def test_a_server_stops_while_its_database_stands_still(tmp_path: Path) -> None:
    with running_postgresql() as postgresql:
        url = create_database(postgresql.url, "still")
        migrate_all(url)
        options = ("--database", url, "--journal", tmp_path / "journal")
        with (
            serving(*options) as server,
            suspended_postgresql(url),
            server.channel() as channel,
        ):
            wait_for_health(channel, "NOT_SERVING", STORE)
            # After STOP_LIMIT_S, the process would end with another code.
            assert server.stop() == 0
