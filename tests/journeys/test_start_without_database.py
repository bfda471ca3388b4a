"""A decider starts without its database from its last snapshot, and follows once it is back."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.commands import assay, assay_process
from tests.support.databases import create_database, migrate_all, running_postgresql
from tests.support.decide_load import import_small_catalog
from tests.support.processes import serving
from tests.support.server_calls import decide, health_status, wait_for_health
from tests.support.waiting import eventually

STORE, SNAPSHOT, ROUTING = "assay.store", "assay.snapshot", "assay.v1.RoutingService"


@pytest.mark.slow
def test_a_decider_starts_while_its_database_is_away(tmp_path: Path) -> None:
    with running_postgresql() as postgresql:
        url = create_database(postgresql.url, "away")
        migrate_all(url)
        import_small_catalog(url, tmp_path)
        options = ("--database", url, "--journal", tmp_path / "journal")
        with serving(*options) as server, server.channel() as channel:
            wait_for_health(channel, "SERVING", SNAPSHOT)
            eventually((tmp_path / "journal" / "snapshot.copy").exists)
            before = decide(channel, "lab/mixed", tenant="acme")
        postgresql.stop_immediately()
        with serving("--target", "decide", *options) as server, server.channel() as channel:
            assert health_status(channel, ROUTING) == "SERVING"
            wait_for_health(channel, "NOT_SERVING", STORE, SNAPSHOT)
            meanwhile = decide(channel, "lab/mixed", tenant="acme")
            assert meanwhile.snapshot_id == before.snapshot_id
            postgresql.start()
            wait_for_health(channel, "SERVING", STORE, SNAPSHOT)
            after = decide(channel, "lab/mixed", tenant="acme")
            assert server.stop() == 0
        own = ("--filter", 'decision.tenant == "acme"', "--database", url, "--json")
        listed = assay("audit", "list", *own).json
        found = {each["decision_id"] for each in listed["decisions"]}
        assert {each.decision_id for each in (before, meanwhile, after)} <= found


@pytest.mark.slow
def test_without_a_copy_a_decider_does_not_start(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    url = "postgresql://assay@127.0.0.1:1/none"
    ended = assay_process("serve", "--target", "decide", "--database", url, "--journal", journal)
    assert ended.code == 1
    assert "127.0.0.1" in ended.err
