"""A database that loses its newest commits gets them again from the journal."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import func, select
from tests.support.databases import count_rows, create_database, migrate_all, running_postgresql
from tests.support.decide_load import (
    Answers,
    assert_complete,
    import_small_catalog,
    load,
    ship_and_read_log,
)
from tests.support.processes import AssayProcess, serving_journal
from tests.support.replicas import streaming_replica
from tests.support.server_calls import decide, health_status
from tests.support.waiting import eventually

from assay.store.database import open_database, reading
from assay.store.evidence_tables import outcome, service_counter, waiting_outcome
from assay.v1 import evidence_pb2 as pb, evidence_pb2_grpc as pb_grpc

LOST = 1000
"""Decisions, at least, whose commits are lost."""


@dataclass
class Reports:
    """The outcomes that were acknowledged, by decision."""

    acknowledged: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


def report_until_ended(address: str, answered: Answers, reports: Reports) -> None:
    """Decide, and report the outcome of the first attempt."""
    with grpc.insecure_channel(address) as channel:
        stub = pb_grpc.EvidenceServiceStub(channel)
        while not reports.ended.is_set():
            try:
                decision = decide(channel, "lab/mixed")
                answered.ids.append(decision.decision_id)
                at = Timestamp()
                at.GetCurrentTime()
                done = pb.Outcome(
                    endpoint_id=decision.attempts[0].endpoint_id,
                    at=at,
                    result=pb.RESULT_ANSWERED,
                    decision_id=decision.decision_id,
                    attempt=1,
                )
                batch = pb.ReportOutcomesRequest(
                    source="gw", batch_id=decision.decision_id, outcomes=[done]
                )
                assert stub.ReportOutcomes(batch, timeout=30).accepted == 1
                reports.acknowledged.append(decision.decision_id)
            except grpc.RpcError as error:
                reports.failures.append(f"{error.code().name}: {error.details()}")
                return


@contextmanager
def reporting(server: AssayProcess, answered: Answers, reports: Reports) -> Iterator[None]:
    reports.ended.clear()
    client = threading.Thread(target=report_until_ended, args=(server.address, answered, reports))
    client.start()
    try:
        yield
    finally:
        reports.ended.set()
        client.join(60)
        assert not client.is_alive()


def assert_counted_once(url: str, reports: Reports) -> None:
    """Check that every acknowledged outcome counts, once, and none waits."""
    database = open_database(url)
    with reading(database) as connection:
        counted = connection.execute(select(outcome.c.decision_id)).scalars().all()
        answers = select(func.sum(service_counter.c["count"])).where(
            service_counter.c.metric == "answered"
        )
        total = connection.scalar(answers)
        waiting = connection.scalar(select(func.count()).select_from(waiting_outcome))
    database.dispose()
    assert sorted(counted) == sorted(reports.acknowledged)
    assert (int(total or 0), waiting) == (len(reports.acknowledged), 0)


@pytest.mark.slow
def test_a_failover_to_a_replica_that_lags_loses_and_doubles_nothing(tmp_path: Path) -> None:
    answered, reports, journal = Answers(), Reports(), tmp_path / "journal"
    with running_postgresql() as primary:
        url = create_database(primary.url, "failover")
        migrate_all(url)
        import_small_catalog(url, tmp_path)
        with streaming_replica(primary) as replica:
            with serving_journal(url, journal) as server:
                with load(server, answered, seed=7), reporting(server, answered, reports):
                    answered.wait_for(200)
                    eventually(replica.has_caught_up)
                    replica.stop_receiving()
                    answered.wait_for(len(answered.ids) + 200)
                assert server.stop() == 0
            with serving_journal(url, journal) as server, server.channel() as channel:
                with load(server, answered, seed=8), reporting(server, answered, reports):
                    eventually(lambda: count_rows(url)["journal_record"] > LOST)
                    before = count_rows(url)["journal_record"]
                    replica.fail_over()
                    assert count_rows(url)["journal_record"] < before - LOST // 2
                    answered.wait_for(len(answered.ids) + 200)
                eventually(lambda: health_status(channel, "assay.store") == "SERVING")
                assert server.stop() == 0
        assert (answered.failures, reports.failures) == ([], [])
        assert_complete(ship_and_read_log(url, journal), answered)
        assert_counted_once(url, reports)


def back_up(path: Path, copy: Path) -> None:
    """Copy a SQLite database that is in use."""
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()


@pytest.mark.parametrize("is_deleted", [False, True], ids=["replaced", "deleted and restored"])
def test_a_restored_copy_of_a_sqlite_file_gets_everything_again(
    sqlite_template: Path, tmp_path: Path, *, is_deleted: bool
) -> None:
    answered, reports, journal = Answers(), Reports(), tmp_path / "journal"
    path, copy = tmp_path / "assay.db", tmp_path / "copy.db"
    shutil.copyfile(sqlite_template, path)
    url = f"sqlite:///{path}"
    import_small_catalog(url, tmp_path)
    with serving_journal(url, journal) as server, server.channel() as channel:
        with load(server, answered, seed=3), reporting(server, answered, reports):
            eventually(lambda: count_rows(url)["journal_record"] > 100)
            back_up(path, copy)
            saved = count_rows(f"sqlite:///{copy}")["journal_record"]
            eventually(lambda: count_rows(url)["journal_record"] > saved + 300)
            if is_deleted:
                path.unlink()
                eventually(lambda: health_status(channel, "assay.store") == "NOT_SERVING")
            copy.replace(path)
            answered.wait_for(len(answered.ids) + 300)
            eventually(lambda: health_status(channel, "assay.store") == "SERVING")
        assert server.stop() == 0
    assert (answered.failures, reports.failures) == ([], [])
    assert_complete(ship_and_read_log(url, journal), answered)
    assert_counted_once(url, reports)
