"""Metrics over HTTP, on loopback only."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import assay
from tests.support.decide_load import import_small_catalog
from tests.support.processes import serving_journal
from tests.support.server_calls import decide, scrape_metrics
from tests.support.waiting import eventually


def test_metrics_count_logged_and_shipped_records(database_url: str, tmp_path: Path) -> None:
    import_small_catalog(database_url, tmp_path)
    journal = tmp_path / "journal"
    with (
        serving_journal(database_url, journal, "--metrics", "127.0.0.1:0") as server,
        server.channel() as channel,
    ):
        for _ in range(3):
            decide(channel, "lab/mixed")
        address = server.ready["metrics"]
        metrics = eventually(
            lambda: scrape_metrics(address), lambda seen: seen["assay_shipped_records_total"] == 3
        )
        assert server.stop() == 0
    assert metrics["assay_journal_records_total"] == 3
    assert metrics["assay_journal_refused_records_total"] == 0
    assert metrics["assay_journal_accepting"] == 1
    for name in ("remembered_tenants", "remembered_attempts", "unnamed_tenants_total"):
        assert metrics[f"assay_{name}"] == 0


def test_metrics_are_served_on_loopback_only(database_url: str, tmp_path: Path) -> None:
    asked = assay(
        "serve", "--database", database_url, "--journal", tmp_path, "--metrics", "0.0.0.0:1",
        "--listen", f"unix:{tmp_path}/socket",
    )  # fmt: skip
    assert asked.code == 1
    assert "is not a loopback address" in asked.err
