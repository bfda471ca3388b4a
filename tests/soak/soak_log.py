"""What tests/journeys/test_log_survives.py and test_log_outages.py ask, at length."""

from __future__ import annotations

from pathlib import Path

from tests.support.log_load import require_complete, set_test, settled
from tests.support.log_outages import postgresql_stopped, sqlite_locked

KILLS = 10
ANSWERS = 50_000
OUTAGE_SECONDS = 60.0


def test_kill_9_at_random_instants(backend: str, database_url: str, tmp_path: Path) -> None:
    answered = set_test(database_url, tmp_path, kills=KILLS, answers=ANSWERS, seed=len(backend))
    assert len(answered.ids) >= ANSWERS
    require_complete(settled(database_url, tmp_path / "journal"), answered)


def test_postgresql_is_away_for_a_minute(tmp_path: Path) -> None:
    postgresql_stopped(tmp_path, seconds=OUTAGE_SECONDS)


def test_sqlite_is_locked_for_a_minute(sqlite_template: Path, tmp_path: Path) -> None:
    sqlite_locked(sqlite_template, tmp_path, seconds=OUTAGE_SECONDS)
