"""Issue 3, "It must show": no answered decision is ever missing or doubled, however often the server is killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.log_load import require_complete, set_test, settled

KILLS = {"sqlite": 3, "postgresql": 2}
ANSWERS = 10_000


@pytest.mark.slow
def test_kill_9_at_random_instants(backend: str, database_url: str, tmp_path: Path) -> None:
    answered = set_test(database_url, tmp_path, kills=KILLS[backend], answers=ANSWERS, seed=3)
    assert len(answered.ids) >= ANSWERS
    require_complete(settled(database_url, tmp_path / "journal"), answered)
