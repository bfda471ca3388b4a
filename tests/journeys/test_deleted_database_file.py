"""A SQLite file that vanishes under a server: health says so, and no decision is lost."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.support.commands import assay
from tests.support.decide_load import import_small_catalog
from tests.support.processes import serving
from tests.support.server_calls import decide, health_status, wait_for_health

STORE, ROUTING = "assay.store", "assay.v1.RoutingService"


def back_up(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as database, sqlite3.connect(target) as copy:
        database.backup(copy)


@pytest.mark.parametrize("is_log_deleted", [False, True])
def test_decisions_made_without_the_file_are_in_the_restored_one(
    sqlite_template: Path, tmp_path: Path, *, is_log_deleted: bool
) -> None:
    path = Path(shutil.copyfile(sqlite_template, tmp_path / "assay.db"))
    url = f"sqlite:///{path}"
    import_small_catalog(url, tmp_path)
    options = ("--database", url, "--journal", tmp_path / "journal")
    with serving(*options) as server, server.channel() as channel:
        wait_for_health(channel, "SERVING", STORE)
        before = decide(channel, "lab/mixed")
        back_up(path, tmp_path / "backup.db")
        for ending in ("", "-wal", "-shm") if is_log_deleted else ("",):
            Path(f"{path}{ending}").unlink()
        meanwhile = [decide(channel, "lab/mixed") for _ in range(3)]
        wait_for_health(channel, "NOT_SERVING", STORE)
        assert health_status(channel, ROUTING) == "SERVING"
        meanwhile.append(decide(channel, "lab/mixed"))
        assert not path.exists()
        (tmp_path / "backup.db").rename(path)
        wait_for_health(channel, "SERVING", STORE)
        after = decide(channel, "lab/mixed")
        assert server.stop() == 0
    listed = assay("audit", "list", "--database", url, "--json").json["decisions"]
    made = [each.decision_id for each in (before, *meanwhile, after)]
    assert sorted(each["decision_id"] for each in listed) == sorted(made)
    assert assay("audit", "verify", "--database", url, "--journal", tmp_path / "journal").code == 0
