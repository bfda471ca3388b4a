"""`assay audit list`, `show` and `replay` on real databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import audited_log as audited
from tests.support.audited_log import EXACTO, OURS, AuditedLog, Tamper
from tests.support.catalogs import KIMI, NOW, POLICY
from tests.support.commands import assay, assay_process, assert_rejected, copy_policy


def test_a_recorded_decision_is_answered_found_shown_and_replayed(log: AuditedLog) -> None:
    here = ["--now", NOW, "--database", log.url, "--json"]
    ran = assay(
        "decide",
        f"{KIMI}:exacto",
        "--tools",
        2,
        "--tenant",
        "acme",
        *here,
        "--record",
        "--journal",
        log.journal,
    )
    assert (ran.code, ran.err) == (0, "")
    plain = assay("decide", f"{KIMI}:exacto", "--tools", 2, *here)

    assert [a["tag"] for a in ran.json["attempts"]]
    assert ran.json["excluded"] == plain.json["excluded"]
    assert ran.json["policy_revision"]["number"] == 1
    assert log.listed("--filter", f'{OURS} && decision.tenant == "acme"') == [
        ran.json["decision_id"]
    ]
    shown = log.audit("show", ran.json["decision_id"], "--json").json
    assert shown["replay"] == {"outcome": "identical", "detail": ""}
    assert (shown["tenant"], shown["record"]["snapshot"]) == ("acme", ran.json["snapshot_id"])
    reasons = {
        x["endpoint_id"]: {(r["reason"], r["message"]) for r in x["reasons"]}
        for x in ran.json["excluded"]
    }
    assert {
        x["endpoint_id"]: {(r["reason"], r["message"]) for r in x["reasons"]}
        for x in shown["excluded"]
    } == reasons
    assert log.verify().code == 0
    assert log.audit("replay", ran.json["decision_id"]).code == 0


def test_the_environment_sets_the_journal_directory(log: AuditedLog, tmp_path: Path) -> None:
    named = tmp_path / "named"
    ran = assay_process("decide", KIMI, "--record", "--database", log.url, ASSAY_JOURNAL=str(named))

    assert (ran.code, ran.err) == (0, "")
    assert {"heads.jsonl", "signing.key"} <= {path.name for path in named.iterdir()}
    assert (
        assay_process("audit", "verify", "--database", log.url, ASSAY_JOURNAL=str(named)).code == 0
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--record", "--explain"], "--record", id="explain"),
        pytest.param(["--record", "--server", "127.0.0.1:1"], "--record", id="server"),
        pytest.param(["--journal", "j"], "--journal", id="journal alone"),
    ],
)
def test_options_of_recording_are_rejected_without_recording(
    small: str, options: list[str], words: str
) -> None:
    assert_rejected(assay("decide", "lab/mixed", *options, "--database", small), 2, words)


def test_an_unusable_journal_is_one_line_and_no_answer(log: AuditedLog, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = assay("decide", KIMI, "--record", "--journal", tmp_path / "file", "--database", log.url)

    assert_rejected(ran, 1, "journal")
    assert log.listed() == []


def test_lists_by_filter_time_and_page(kept: AuditedLog) -> None:
    exacto, plain, picky = kept.ids

    assert kept.listed() == [picky, plain, exacto]
    assert kept.listed("--oldest") == [exacto, plain, picky]
    assert kept.listed("--filter", OURS) == [exacto]
    assert kept.listed(
        "--filter", 'decision.tenant == "acme" && "ignored" in decision.reasons'
    ) == [picky]
    first = kept.audit("list", "--limit", 2, "--json").json
    assert [d["decision_id"] for d in first["decisions"]] == [picky, plain]
    assert first["next_after"] == plain
    rest = kept.audit("list", "--limit", 2, "--after", plain, "--json").json
    assert ([d["decision_id"] for d in rest["decisions"]], rest["next_after"]) == ([exacto], None)
    assert kept.listed("--until", first["decisions"][1]["decided_at"]) == [exacto]
    assert kept.listed("--since", first["decisions"][1]["decided_at"]) == [picky, plain]
    assert kept.listed("--until", "2020-01-01T00:00:00Z") == []


def test_rows_show_utc_tenant_names_and_reasons(kept: AuditedLog) -> None:
    people, programs = kept.audit("list"), kept.audit("list", "--json").json["decisions"]

    assert (people.code, people.err) == (0, "")
    assert [d["tenant"] for d in programs] == ["acme", "", ""]
    assert all(d["decided_at"].endswith("Z") for d in programs)
    for word in ("3 decisions", kept.ids[0], "acme", f"{KIMI}:exacto", "ACCURACY", "ignored"):
        assert word in people.out
    assert "no decision" in kept.audit("list", "--filter", "decision.tools == 7").out
    assert "continue with --after" in kept.audit("list", "--limit", 1).out


@pytest.mark.parametrize("command", ["list", "replay", "show", "export"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(
            ["--filter", "decision.prompt == 1"],
            ["decision.prompt", "filter:1:"],
            id="unknown field",
        ),
        pytest.param(["--filter", "decision.tools + 1"], ["filter:1:"], id="not a condition"),
        pytest.param(["--filter", "1=1'; DROP TABLE decision --"], ["filter:1:"], id="SQL"),
        pytest.param(["--filter", "x" * 5000], ["--filter", "4096"], id="too long"),
        pytest.param(
            ["--filter", "true", "--since", "yesterday"], ["--since", "yesterday"], id="not a time"
        ),
        pytest.param(
            ["--filter", "true", "--until", "2025-09-23T12:00:00"],
            ["--until", "zone"],
            id="no zone",
        ),
        pytest.param(
            ["--filter", "true", "--since", "2999-01-01T00:00:00Z"],
            ["--since", "before"],
            id="since after until",
        ),
    ],
)
def test_an_invalid_filter_or_time_is_one_line(
    small: str, tmp_path: Path, command: str, options: list[str], words: list[str]
) -> None:
    more = ["--output", tmp_path / "x"] if command == "export" else []
    assert_rejected(assay("audit", command, *options, *more, "--database", small), 2, *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["list", "--limit", 0], 2, "--limit", id="list with a limit of zero"),
        pytest.param(
            ["list", "--after", "no-such-id"],
            2,
            "'no-such-id' is not in the log",
            id="list after an unknown id",
        ),
        pytest.param(
            ["list", "--after", "x", "--oldest"], 2, "--after", id="list after an id, oldest first"
        ),
        pytest.param(["show"], 2, "ID", id="show without an id"),
        pytest.param(["show", "x", "--filter", "true"], 2, "ID", id="show an id and a filter"),
        pytest.param(
            ["show", "no-such-id"], 2, "'no-such-id' is not in the log", id="show an unknown id"
        ),
        pytest.param(["show", "--filter", "false"], 2, "no decision", id="show without a match"),
        pytest.param(["replay"], 2, "--filter", id="replay without an id"),
        pytest.param(
            ["replay", "x", "--filter", "true"], 2, "--filter", id="replay an id and a filter"
        ),
        pytest.param(["replay", "x", "--limit", 3], 2, "--limit", id="replay ids with a limit"),
        pytest.param(
            ["replay", "x", "--candidate", POLICY],
            2,
            "'x' is not in the log",
            id="compare an unknown id",
        ),
        pytest.param(
            ["replay", "x", "--candidate", "/nowhere"],
            1,
            "'/nowhere' does not exist",
            id="missing candidate",
        ),
        pytest.param(["verify", "--heads", "/no/heads"], 1, "'/no/heads'", id="missing heads"),
        pytest.param(["verify", "--key", "/no/key"], 1, "'/no/key'", id="missing key"),
        pytest.param(["verify", "--key", "/dev/null"], 1, "Ed25519", id="an empty key"),
        pytest.param(["prune"], 2, "--before", id="prune without a time"),
        pytest.param(["prune", "--older-than", "1d"], 2, "--yes", id="prune unconfirmed"),
        pytest.param(
            ["prune", "--older-than", "soon", "--yes"], 2, "'soon'", id="prune with an invalid age"
        ),
        pytest.param(
            ["prune", "--older-than", "999999d", "--yes"],
            2,
            "'999999d'",
            id="prune with an age before the first date",
        ),
        pytest.param(
            ["prune", "--before", "2999-01-01T00:00:00Z", "--yes"], 2, "past", id="prune the future"
        ),
        pytest.param(["erase", "acme"], 2, "--yes", id="erase unconfirmed"),
        pytest.param(["erase", "", "--yes"], 2, "TENANT", id="erase no tenant"),
        pytest.param(["revisions", 7], 2, "7", id="unknown revision"),
        pytest.param(["revisions", 0], 2, "0", id="revision zero"),
        pytest.param(
            ["export", "--output", "/no/such/place"],
            1,
            "'/no/such/place'",
            id="export to a missing directory",
        ),
        pytest.param(
            ["export", "--output", "x", "--format", "xlsx"], 2, "xlsx", id="unknown format"
        ),
    ],
)
def test_an_invalid_command_fails_with_one_line(
    small: str, tmp_path: Path, arguments: list[object], code: int, words: str
) -> None:
    journal = ["--journal", tmp_path] if arguments[0] == "verify" else []
    (tmp_path / "heads.jsonl").write_text("")
    assert_rejected(assay("audit", *arguments, *journal, "--database", small), code, words)


def test_show_prints_the_messages_of_reasons(kept: AuditedLog) -> None:
    ran = kept.audit("show", "--filter", OURS)

    assert (ran.code, ran.err) == (0, "")
    for word in (
        kept.ids[0],
        "identical",
        "P(accuracy >= 95.0%) is",
        "number 1 of stream",
        "revision 1",
    ):
        assert word in " ".join(ran.out.split())


def test_replay_accepts_ids_a_filter_or_a_limit(kept: AuditedLog) -> None:
    by_id = kept.audit("replay", *kept.ids, "--json")
    assert (by_id.code, by_id.json) == (
        0,
        {"decisions": 3, "outcomes": {"identical": 3}, "differences": []},
    )
    assert kept.audit("replay", "--filter", "decision.tools > 0", "--json").json["decisions"] == 1
    assert kept.audit("replay", "--filter", "true", "--limit", 2, "--json").json["decisions"] == 2
    assert "3 replayed: 3 identical" in kept.audit("replay", "--filter", "true").out
    unknown = kept.audit("replay", kept.ids[0], "no-such-id", "--json")
    assert (unknown.code, unknown.json["outcomes"]) == (1, {"identical": 1, "not_found": 1})
    nothing = kept.audit("replay", "--filter", "false")
    assert (nothing.code, nothing.err) == (1, "")


def test_replay_reports_differences_and_names_another_engine_version(kept: AuditedLog) -> None:
    def alter(old: bytes, new: bytes) -> Tamper:
        return lambda connection: audited.alter(connection, 2, old, new)

    kept.tamper(alter(b'"availability":""', b'"availability":"x"'))
    differs = kept.audit("replay", "--filter", "true", "--json")
    assert (differs.code, differs.json["outcomes"]) == (1, {"identical": 2, "differs": 1})
    assert [found["decision_id"] for found in differs.json["differences"]] == [kept.ids[1]]
    kept.tamper(alter(b'"engine":"', b'"engine":"0.0.'))
    ran = kept.audit("replay", kept.ids[1])
    assert ran.code == 1
    assert "engine_differs" in ran.out
    assert "decided by Assay 0.0." in ran.out
    shown = kept.audit("show", kept.ids[1], "--json").json
    assert shown["replay"]["outcome"] == "engine_differs"
    assert len(shown["attempts"]) > 3


def test_a_candidate_report_has_coverage_changes_shares_prices_and_errors(
    kept: AuditedLog, tmp_path: Path
) -> None:
    kept.decide(*[EXACTO] * 20)
    same = kept.audit("replay", "--filter", "true", "--candidate", POLICY, "--json")
    assert (same.code, same.json["decisions"], same.json["covered"]) == (0, 23, 23)
    assert (same.json["changed_first"], same.json["changed_attempts"]) == (0, 0)
    assert same.json["before"] == same.json["after"]
    stricter = copy_policy(tmp_path)
    exacto = stricter / "exacto.yaml"
    exacto.write_text(exacto.read_text().replace("accuracy_enter: 0.95", "accuracy_enter: 0.97"))

    found = kept.audit(
        "replay", "--filter", 'decision.variant == "exacto"', "--candidate", stricter, "--json"
    ).json
    people = kept.audit(
        "replay", "--filter", 'decision.variant == "exacto"', "--candidate", stricter
    )

    assert (found["decisions"], found["covered"], found["uncovered"]) == (21, 21, {})
    assert found["changed_attempts"] == 21
    assert 0 < found["changed_first"] <= 21
    assert len(found["changed_ids"]) == min(20, found["changed_first"])
    moved = {share["provider"]: share["after"] - share["before"] for share in found["shares"]}
    assert min(moved.values()) < 0 < max(moved.values())
    assert abs(sum(moved.values())) < 1e-9
    before, after = found["before"], found["after"]
    assert before["mean_list_price_usd_per_mtok"] > 0 < after["mean_list_price_usd_per_mtok"]
    assert after["errored_requests_expected"] < before["errored_requests_expected"]
    assert people.code == 0
    assert people.out.startswith("21 of 21 decisions (100.0%) can be compared")
    for word in (
        "changed shares of first attempts",
        "mean list price",
        "errored tool-call requests expected",
    ):
        assert word in people.out
    exacto.write_text("nonsense: [")
    assert_rejected(
        kept.audit("replay", "--filter", "true", "--candidate", stricter), 3, "exacto.yaml"
    )
