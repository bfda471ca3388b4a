"""`assay pool` shows how far each endpoint outside the pool is from it."""

from __future__ import annotations

import json

from tests.support.catalogs import NOW
from tests.support.commands import assay

KIMI = "moonshotai/kimi-k2-0905:exacto"


def test_each_endpoint_outside_has_its_distance(kimi: str) -> None:
    asked = assay("pool", KIMI, "--now", NOW, "--database", kimi, "--json")
    distances = {other["tag"]: other["distance"] for other in json.loads(asked.out)["others"]}
    assert len(distances) == 9
    deepinfra = distances["deepinfra"]
    assert [rule["rule"] for rule in deepinfra["rules"]] == ["tool_accuracy"]
    assert deepinfra["rules"][0]["seen"]["params.accuracy_enter"] == 0.95
    assert (
        deepinfra["accuracy"]["low"]
        < deepinfra["accuracy"]["value"]
        < deepinfra["accuracy"]["high"]
        < 0.95
    )
    assert 500 < deepinfra["clean_requests"] < 700
    assert deepinfra["hours"] > 0
    assert distances["groq"]["accuracy"] is None
    assert distances["groq"]["clean_requests"] == 132
    assert (
        distances["atlas-cloud"]["clean_requests"] is None
    )  # more calls do not mend how seldom it calls


def test_the_table_shows_the_distance(kimi: str) -> None:
    asked = assay("pool", KIMI, "--now", NOW, "--database", kimi)
    assert "what would admit them" in asked.out
    assert "no number is enough" in asked.out
