"""Long runs of two journeys: killed servers, and database outages."""

from __future__ import annotations

from pathlib import Path

from tests.support.database_outages import (
    decide_while_postgresql_is_stopped,
    decide_while_sqlite_is_locked,
)
from tests.support.decide_load import assert_complete, kill_under_load, ship_and_read_log

KILLS = 10
ANSWERS = 50_000
OUTAGE_SECONDS = 60.0


def test_every_answer_is_in_the_log_after_kill_9_at_random_times(
    backend: str, database_url: str, tmp_path: Path
) -> None:
    answered = kill_under_load(
        database_url, tmp_path, kills=KILLS, answers=ANSWERS, seed=len(backend)
    )
    assert len(answered.ids) >= ANSWERS
    assert_complete(ship_and_read_log(database_url, tmp_path / "journal"), answered)


def test_decisions_continue_while_postgresql_is_stopped_for_a_minute(tmp_path: Path) -> None:
    decide_while_postgresql_is_stopped(tmp_path, seconds=OUTAGE_SECONDS)


def test_decisions_continue_while_sqlite_is_locked_for_a_minute(
    sqlite_template: Path, tmp_path: Path
) -> None:
    decide_while_sqlite_is_locked(sqlite_template, tmp_path, seconds=OUTAGE_SECONDS)
