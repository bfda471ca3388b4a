"""`assay audit export`, `prune`, `erase` and `revisions` on real databases."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tests.support import audited_log as audited
from tests.support.audited_log import OURS, PLAIN, AuditedLog
from tests.support.catalogs import KIMI, NOW, POLICY
from tests.support.commands import CommandResult, assay, assert_rejected, copy_policy

from assay.cli.output import utc
from assay.engine.world.request import Request
from assay.journal.writer import Journal
from assay.server.database import open_current_database
from assay.server.service import recording_decider
from assay.server.settings import wall_clock


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_exports_the_same_rows_as_parquet_and_as_json_lines(
    kept: AuditedLog, tmp_path: Path
) -> None:
    lines, table = tmp_path / "x.jsonl", tmp_path / "x.parquet"
    ran = kept.audit("export", "--format", "jsonl", "--output", lines, "--json")
    assert (ran.code, ran.err, ran.json["decisions"]) == (0, "", 3)
    assert kept.audit("export", "--format", "parquet", "--output", table).code == 0
    assert {stat.S_IMODE(path.stat().st_mode) for path in (lines, table)} == {0o600}

    rows = rows_of(lines)
    read = [{**r, "decided_at": utc(r["decided_at"])} for r in pq.read_table(table).to_pylist()]

    assert read == [{**r, "decided_at": utc(audited.instant_of(r["decided_at"]))} for r in rows]
    assert [r["decision_id"] for r in rows] == kept.ids
    assert "deepinfra" in rows[0]["excluded_providers"]
    assert json.loads(rows[0]["record"])["id"] == kept.ids[0]
    assert "acme" not in lines.read_text()
    assert sorted(path.name for path in tmp_path.glob("*x.*")) == ["x.jsonl", "x.parquet"]


def test_an_export_may_be_empty(kept: AuditedLog, tmp_path: Path) -> None:
    path = tmp_path / "x"
    for form in ("parquet", "jsonl"):
        assert (
            kept.audit(
                "export", "--format", form, "--output", path, "--filter", OURS, "--json"
            ).json["decisions"]
            == 1
        )
        assert (
            kept.audit("export", "--format", form, "--output", path, "--until", NOW, "--json").json[
                "decisions"
            ]
            == 0
        )
    assert path.read_bytes() == b""


def test_a_failed_export_keeps_the_existing_file(kept: AuditedLog, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "x").write_text("before")
    kept.tamper(lambda connection: audited.alter(connection, 2, b'"v":1', b'"v":9'))

    assert_rejected(
        kept.audit("export", "--format", "jsonl", "--output", folder / "x"), 1, "assay audit verify"
    )
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("x", "before")]


def test_pruning_leaves_a_log_that_verifies(log: AuditedLog) -> None:
    with (
        open_current_database(log.url) as database,
        recording_decider(database, POLICY, None, log.journal) as decider,
    ):
        for _ in range(3):
            decider.decide(PLAIN)
        middle = wall_clock()
        young = [decider.decide(PLAIN).decision_id for _ in range(3)]

    pruned = log.audit("prune", "--before", utc(middle), "--yes", "--json")

    assert (pruned.code, pruned.json["records"]) == (0, 3)
    assert log.listed("--oldest") == young
    found = log.verify("--json")
    assert (
        found.code,
        found.json["streams"][0]["pruned"],
        found.json["streams"][0]["checked"],
    ) == (0, 3, 3)
    assert log.audit("replay", *young).code == 0
    assert "3 records" in log.audit("prune", "--older-than", "0h", "--yes").out
    assert log.verify().code == 0


def test_an_erased_tenant_is_found_nowhere_and_the_log_still_verifies(
    log: AuditedLog, tmp_path: Path, backend: str
) -> None:
    (tmp_path / "tenants.yaml").write_text("- tenant: canary-corp\n  only: [novita]\n")
    assert assay("import", "tenants", tmp_path / "tenants.yaml", "--database", log.url).code == 0
    log.decide(Request(model=KIMI, tenant="canary-corp"), PLAIN)
    assert log.listed("--filter", 'decision.tenant == "canary-corp"') == log.ids[:1]
    assert log.audit("replay", *log.ids).code == 0

    ran = log.audit("erase", "canary-corp", "--journal", log.journal, "--yes", "--json")

    assert (ran.code, ran.err) == (0, "")
    assert ran.json["rows"] >= 3
    assert log.listed("--filter", 'decision.tenant == "canary-corp"') == []
    assert "(erased)" in log.audit("list").out
    assert log.verify().code == 0
    replayed = log.audit("replay", *log.ids, "--json")
    assert (replayed.code, replayed.json["outcomes"]) == (1, {"tenant_erased": 1, "identical": 1})
    shown = log.audit("show", log.ids[0], "--json").json
    assert [a["provider"] for a in shown["attempts"]] == ["novita"]
    assert {r["reason"] for x in shown["excluded"] for r in x["reasons"]} == {"allowed_providers"}
    if backend == "sqlite":
        base = Path(log.url.removeprefix("sqlite:///"))
        assert [
            p.name for p in base.parent.glob(f"{base.name}*") if b"canary-corp" in p.read_bytes()
        ] == []
    assert [
        p.name for p in log.journal.rglob("*") if p.is_file() and b"canary-corp" in p.read_bytes()
    ] == []


def test_revisions_show_when_and_what_changed(log: AuditedLog, tmp_path: Path) -> None:
    assert "no policy" in log.audit("revisions").out
    stricter = copy_policy(tmp_path)
    (stricter / "exacto.yaml").write_text(
        (stricter / "exacto.yaml")
        .read_text()
        .replace("accuracy_enter: 0.95", "accuracy_enter: 0.97")
    )

    def record(policy: Path) -> CommandResult:
        return assay(
            "decide",
            KIMI,
            "--policy",
            policy,
            "--record",
            "--journal",
            log.journal,
            "--database",
            log.url,
        )

    assert [record(policy).code for policy in (POLICY, stricter)] == [0, 0]
    listed = log.audit("revisions", "--json").json
    assert [revision["number"] for revision in listed] == [2, 1]
    assert all(revision["created_at"].endswith("Z") for revision in listed)
    changed = log.audit("revisions", 2)
    assert (changed.code, changed.err) == (0, "")
    assert [" ".join(line.split()) for line in changed.out.splitlines() if line[:1] in "+-"][
        2:
    ] == [
        "- accuracy_enter: 0.95",
        "+ accuracy_enter: 0.97",
    ]
    assert log.audit("revisions", 2, "--json").json["diff"].count("accuracy_enter") == 2
    assert len(log.listed("--filter", "decision.policy_revision == 2")) == 1


def test_nothing_is_erased_while_a_journal_that_is_named_cannot_be_emptied(
    log: AuditedLog, tmp_path: Path
) -> None:
    log.decide(Request(model=KIMI, tenant="canary-corp"))
    erase = ("erase", "canary-corp", "--yes", "--journal")

    with Journal(log.journal):
        assert_rejected(log.audit(*erase, log.journal), 1, str(log.journal), "stop it first")
    assert_rejected(log.audit(*erase, tmp_path / "none"), 2, "--journal", "none")

    assert log.listed("--filter", 'decision.tenant == "canary-corp"') == log.ids
    assert log.audit(*erase, log.journal).code == 0
