"""Imports of Inspect logs, tau2 results and tables: each score is stored, or rejected with why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import assay, assert_rejected
from tests.support.databases import count_rows

AUGUST = "catalog/openrouter_2026-08-07T000104.json.gz"
GROQ = "openai/gpt-oss-120b@groq"
SIX = "tau2/results_telecom_gpt-4o_first6sims_trimmed.json"
TABLE = "provider_quality/kimi_k3_provider_benchmarks_latest.csv"
RUN_IDS = "2wRuCQ9hGYaGPyAdoobgYV/mj7khqpMM4GBCfVQozKgzB"
UNPINNED = (
    "the run is pinned to no provider, so any of them may have answered: "
    "name the endpoint with --endpoint"
)
CANCELLED = "status: 'cancelled' is not success: the run did not complete"
INSPECT = {
    "generated_ok_eval_0.3.140.eval": 6,
    "generated_ok_eval_0.3.285.eval": 6,
    "generated_ok_json_0.3.140.json": 6,
    "upstream_log_formats.eval": UNPINNED,
    "upstream_log_formats.json": UNPINNED,
    "upstream_popularity_cancelled.json": CANCELLED,
    "upstream_popularity_scored.eval": UNPINNED,
}
"""How many scores of each log are taken, or why none is."""


@pytest.fixture
def listed(database_url: str, data: Path) -> str:
    assert assay("import", "openrouter", data / AUGUST, "--database", database_url).code == 0
    return database_url


def take(url: str, code: int, *arguments: object) -> Any:
    ran = assay("import", *arguments, "--database", url, "--json")
    assert (ran.code, ran.err) == (code, "")
    return ran.json


def outcome(report: Any) -> int | str:
    taken = len(report["benchmarks"]["added"])
    reasons = [refusal["reason"] for refusal in report["refused"]]
    assert bool(taken) != bool(reasons)
    return taken or reasons[0]


def test_every_log_is_imported_or_rejected_with_the_reason(listed: str, data: Path) -> None:
    logs = sorted((data / "inspect_logs").iterdir())
    reports = take(listed, 3, "inspect", *logs)
    assert {Path(report["file"]).name: outcome(report) for report in reports} == INSPECT
    before = count_rows(listed)
    again = take(listed, 3, "inspect", *logs)
    assert all(
        report["benchmarks"]["added"] == report["benchmarks"]["changed"] == [] for report in again
    )
    after = count_rows(listed)
    assert {name for name in before if before[name] != after[name]} <= {"import_log"}


def test_an_unpinned_run_is_imported_for_the_endpoint_that_the_operator_names(
    listed: str, data: Path
) -> None:
    log = data / "inspect_logs" / "upstream_popularity_scored.eval"
    (report,) = take(listed, 0, "inspect", log, "--endpoint", GROQ)
    assert report["benchmarks"]["added"] == [
        f"{GROQ} popularity@0+limit=10 match/accuracy fraction by unknown {RUN_IDS}"
    ]


def test_six_simulations_give_three_of_six_to_the_named_endpoint(listed: str, data: Path) -> None:
    (report,) = take(listed, 3, "tau2", data / SIX)
    assert outcome(report) == UNPINNED
    (report,) = take(listed, 0, "tau2", data / SIX, "--endpoint", GROQ)
    series = "tau2/telecom@40f46d3540dc+tasks=6 pass^1 fraction by gpt-4o"
    assert report["benchmarks"]["added"] == [f"{GROQ} {series} 2025-08-10T02:44:06.511475"]
    shown = assay(
        "pool",
        "openai/gpt-oss-120b:exacto",
        "--now",
        "2025-08-20T03:00:00Z",
        "--database",
        listed,
        "--json",
    )
    facts = next(each["facts"] for each in shown.json["others"] if each["endpoint_id"] == GROQ)
    assert facts["benchmarks.series"] == [series]
    assert (facts["benchmarks.scores"], facts["benchmarks.age_days"]) == ([3 / 6], [10])


def test_both_forms_of_tau2_are_one_run(listed: str, data: Path, tmp_path: Path) -> None:
    results = json.loads((data / SIX).read_bytes())
    simulations = results.pop("simulations")
    index = [{"id": each["id"], "reward": each["reward_info"]["reward"]} for each in simulations]
    (tmp_path / "simulations").mkdir()
    (tmp_path / "results.json").write_text(json.dumps(results | {"simulation_index": index}))
    for each in simulations:
        (tmp_path / "simulations" / f"{each['id']}.json").write_text(json.dumps(each))
    take(listed, 0, "tau2", data / SIX, "--endpoint", GROQ)
    for form in (tmp_path, tmp_path / "results.json"):
        (report,) = take(listed, 0, "tau2", form, "--endpoint", GROQ)
        assert report["benchmarks"]["unchanged"] == 1
    (tmp_path / "simulations" / "outside.json").symlink_to(data / SIX)
    (report,) = take(listed, 3, "tau2", tmp_path, "--endpoint", GROQ)
    assert outcome(report) == "simulations/outside.json: not a plain file"
    shutil.rmtree(tmp_path / "simulations")
    (report,) = take(listed, 3, "tau2", tmp_path / "results.json", "--endpoint", GROQ)
    assert (
        outcome(report)
        == "simulation_index: the simulations themselves are missing, import their directory"
    )


def test_submissions_name_no_endpoint(listed: str, data: Path) -> None:
    reports = take(listed, 3, "tau2", *sorted((data / "tau2" / "submissions").iterdir()))
    assert [outcome(report) for report in reports] == [UNPINNED] * 8
    k3 = data / "tau2" / "submissions" / "kimi-k3_sierra_2026-08-04.json"
    (report,) = take(listed, 0, "tau2", k3, "--endpoint", "moonshotai/kimi-k3@together")
    assert len(report["benchmarks"]["added"]) == 4


def test_a_real_table_is_imported_row_by_row(listed: str, data: Path) -> None:
    (report,) = take(listed, 3, "benchmarks", data / TABLE)
    assert report["source"] == "github.com/MoonshotAI/Kimi-Vendor-Verifier README.md"
    named = {name.partition(" ")[0] for name in report["benchmarks"]["added"]}
    assert named == {
        f"moonshotai/kimi-k3@{tag}"
        for tag in ("baseten/fp8", "digitalocean", "modal/mxfp4", "together")
    }
    assert len(report["benchmarks"]["added"]) == 14
    reasons = {
        refusal["where"]: refusal["reason"].partition(":")[0] for refusal in report["refused"]
    }
    assert {reasons[f"line {n}"] for n in (20, 21)} == {"score"}
    assert "provider 'Fireworks' means any of" in reasons["line 6"]
    assert {reasons[f"line {n}"] for n in (2, 22, 26)} == {
        f"moonshotai/kimi-k3 has no provider {name!r}"
        for name in ("Moonshot", "Inferact (vLLM ref.)", "Nebius")
    }
    (again,) = take(listed, 3, "benchmarks", data / TABLE, "--source", "me")
    assert (again["source"], len(again["benchmarks"]["added"])) == ("me", 14)


@pytest.mark.parametrize("command", ["benchmarks", "inspect", "tau2"])
def test_an_invalid_endpoint_is_wrong_usage(
    database_url: str, tmp_path: Path, command: str
) -> None:
    file = tmp_path / "file"
    file.write_text("model,provider,suite,score,run_at\n")
    ran = assay(
        "import", command, file, "--endpoint", "lab/one@unknown", "--database", database_url
    )
    assert_rejected(ran, 2, "--endpoint", "'lab/one@unknown'")


@pytest.mark.parametrize("command", ["benchmarks", "inspect", "tau2"])
def test_a_missing_file_is_named(database_url: str, tmp_path: Path, command: str) -> None:
    assert_rejected(
        assay("import", command, tmp_path / "no", "--database", database_url),
        3,
        "no",
        "No such file",
    )
