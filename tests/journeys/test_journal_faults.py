"""Faults of the journal's files under a running server: health shows them, nothing is lost."""

from __future__ import annotations

import math
import resource
import shutil
from pathlib import Path

from tests.support.decide_load import (
    Answers,
    assert_complete,
    import_small_catalog,
    load,
    ship_and_read_log,
)
from tests.support.directories import delete_at_once
from tests.support.processes import serving_journal
from tests.support.server_calls import decide, health_status, scrape_metrics
from tests.support.waiting import eventually

SEVERAL = 300


def prepare(template: Path, folder: Path) -> str:
    path = folder / "assay.db"
    shutil.copyfile(template, path)
    url = f"sqlite:///{path}"
    import_small_catalog(url, folder)
    return url


def test_a_journal_directory_deleted_under_load_loses_no_answered_decision(
    sqlite_template: Path, tmp_path: Path
) -> None:
    url, journal, answered = prepare(sqlite_template, tmp_path), tmp_path / "journal", Answers()
    with serving_journal(url, journal) as server, server.channel() as channel:
        with load(server, answered, seed=1):
            answered.wait_for(SEVERAL)
            delete_at_once(journal)
            eventually(lambda: "journal restored" in server.log_text)
            answered.wait_for(len(answered.ids) + SEVERAL)
        eventually(lambda: health_status(channel, "assay.journal") == "SERVING")
        answered.ids.append(decide(channel, "lab/mixed").decision_id)
        assert server.stop() == 0
    # A decision that came between the deletion and its discovery may be refused, but not lost.
    assert {line.split(":")[0] for line in answered.failures} <= {"decision-not-logged"}
    assert_complete(ship_and_read_log(url, journal), answered)


def test_a_journal_that_cannot_be_restored_takes_no_decisions(
    sqlite_template: Path, tmp_path: Path
) -> None:
    url, journal, answered = prepare(sqlite_template, tmp_path), tmp_path / "journal", Answers()
    routing = "assay.v1.RoutingService"
    with serving_journal(url, journal) as server, server.channel() as channel:
        answered.ids.append(decide(channel, "lab/mixed").decision_id)
        gone = journal.rename(tmp_path / "gone")
        journal.touch()
        shutil.rmtree(gone)
        eventually(lambda: health_status(channel, routing) == "NOT_SERVING")
        assert health_status(channel, "assay.journal") == "NOT_SERVING"
        eventually(lambda: '"trouble"' in server.log_text)
        journal.unlink()
        eventually(lambda: health_status(channel, routing) == "SERVING")
        answered.ids.append(decide(channel, "lab/mixed").decision_id)
        eventually(lambda: "trouble is over" in server.log_text)
        assert server.stop() == 0
    events = [line["event"] for line in server.log if line.get("part") == "journal"]
    assert events == ["trouble", "trouble is over"]
    assert_complete(ship_and_read_log(url, journal), answered)


def test_a_server_without_descriptors_ships_again_once_it_has_some(
    sqlite_template: Path, tmp_path: Path
) -> None:
    url, journal, answered = prepare(sqlite_template, tmp_path), tmp_path / "journal", Answers()
    with (
        serving_journal(url, journal, "--metrics", "127.0.0.1:0") as server,
        server.channel() as channel,
    ):
        answered.ids.append(decide(channel, "lab/mixed").decision_id)
        scraped = scrape_metrics(server.ready["metrics"])
        assert not math.isnan(scraped["assay_shipping_behind_bytes"])
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (0, limits[1]))
        eventually(lambda: health_status(channel, "assay.store") == "NOT_SERVING")
        answered.ids += [decide(channel, "lab/mixed").decision_id for _ in range(20)]
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
        eventually(lambda: health_status(channel, "assay.store") == "SERVING")
        assert scrape_metrics(server.ready["metrics"])["assay_shipping_failures_total"] > 0
        assert server.stop() == 0
    assert_complete(ship_and_read_log(url, journal), answered)
