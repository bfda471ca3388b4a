"""A server that is killed again and again: no answered decision is missing or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.decide_load import assert_complete, kill_under_load, ship_and_read_log

KILLS = {"sqlite": 3, "postgresql": 2}
ANSWERS = 10_000


@pytest.mark.slow
def test_kills_at_random_instants_lose_no_decision(
    backend: str, database_url: str, tmp_path: Path
) -> None:
    answered = kill_under_load(
        database_url, tmp_path, kills=KILLS[backend], answers=ANSWERS, seed=3
    )
    assert len(answered.ids) >= ANSWERS
    assert_complete(ship_and_read_log(database_url, tmp_path / "journal"), answered)
