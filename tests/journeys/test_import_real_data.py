"""Real catalogs and observations: imported twice, in order and out of order, and their pool."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from tests.support.catalogs import KIMI, KIMI_CSV, MEMBERS, NOW
from tests.support.commands import assay
from tests.support.databases import count_rows

JULY = "catalog/openrouter_2026-07-04T140407.json.gz"
AUGUST = "catalog/openrouter_2026-08-07T000104.json.gz"


def test_a_real_catalog_is_replaced_by_a_newer_one_but_not_by_an_older_one(
    database_url: str, data: Path
) -> None:
    def take(name: str) -> Any:
        ran = assay("import", "openrouter", data / name, "--database", database_url, "--json")
        assert (ran.code, ran.err) == (0, "")
        (report,) = ran.json
        assert report["refused"] == []
        return report

    first = take(JULY)
    assert (first["models"]["total"], first["endpoints"]["total"]) == (340, 852)
    assert (len(first["models"]["added"]), len(first["endpoints"]["added"])) == (340, 852)

    before = count_rows(database_url)
    second = take(JULY)
    for kind in ("providers", "models", "endpoints"):
        assert (second[kind]["added"], second[kind]["changed"], second[kind]["gone"]) == (
            [],
            [],
            [],
        )
        assert second[kind]["unchanged"] == first[kind]["total"]
    after = count_rows(database_url)
    assert {name for name in before if before[name] != after[name]} <= {"import_log"}

    third = take(AUGUST)
    for kind in ("models", "endpoints"):
        assert all(third[kind][what] for what in ("added", "changed", "gone"))
        stayed = first[kind]["total"] - len(third[kind]["gone"])
        assert len(third[kind]["changed"]) + third[kind]["unchanged"] == stayed

    before = count_rows(database_url)
    refused = assay("import", "openrouter", data / JULY, "--database", database_url, "--json")
    assert (refused.code, refused.out) == (3, "")
    assert all(word in refused.line for word in ("2026-07-04", "2026-08-07", "openrouter"))
    assert count_rows(database_url) == before


@pytest.fixture
def kimi_only(database_url: str) -> str:
    ran = assay(
        "import", "observations", "--create-endpoints", KIMI_CSV, "--database", database_url
    )
    assert (ran.code, ran.err) == (0, "")
    return database_url


def pool(url: str, *more: str) -> Any:
    ran = assay("pool", f"{KIMI}:exacto", "--database", url, "--json", *more)
    assert (ran.code, ran.err) == (0, "")
    return ran.json


def test_the_pool_of_real_observations_is_the_vetted_one(kimi_only: str) -> None:
    seen = pool(kimi_only, "--now", NOW)

    assert (seen["model"], seen["variant"], seen["rule_set"]) == (KIMI, "exacto", "exacto")
    assert seen["as_of"] == NOW
    assert {member["tag"] for member in seen["members"]} == MEMBERS
    out = {
        other["tag"]: {reason["reason"] for reason in other["reasons"]} for other in seen["others"]
    }
    assert set(out) == {
        "siliconflow",
        "volcengine",
        "deepinfra",
        "fireworks",
        "baseten",
        "together",
        "atlas-cloud",
    }
    for tag in ("siliconflow", "volcengine", "deepinfra", "fireworks"):
        assert out[tag] == {"ACCURACY"}
    for tag in ("baseten", "together", "atlas-cloud"):
        assert out[tag] >= {"ACCURACY", "PROPENSITY"}
    assert all(reason["message"] for other in seen["others"] for reason in other["reasons"])


def test_the_counts_shown_are_those_of_the_file(kimi_only: str) -> None:
    seen = pool(kimi_only, "--now", NOW)

    shown = {each["tag"]: each["facts"] for each in (*seen["members"], *seen["others"])}
    with KIMI_CSV.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(shown) == {row["tag"] for row in rows}
    for row in rows:
        for name in ("requests", "tool_call_requests", "errored_requests"):
            assert shown[row["tag"]][f"observed.{name}"] == int(row[name])


def test_without_now_the_same_evidence_is_stale_and_the_pool_empty(kimi_only: str) -> None:
    seen = pool(kimi_only)

    assert seen["members"] == []
    assert len(seen["others"]) == 11
    assert all(
        {r["reason"] for r in other["reasons"]} == {"EVIDENCE_STALE"} for other in seen["others"]
    )


def test_observations_of_unknown_endpoints_are_rejected_by_name(database_url: str) -> None:
    ran = assay("import", "observations", KIMI_CSV, "--database", database_url, "--json")

    assert (ran.code, ran.err) == (3, "")
    (report,) = ran.json
    assert len(report["refused"]) == 11
    assert all(KIMI in each["reason"] for each in report["refused"])
    assert count_rows(database_url)["observation"] == 0
