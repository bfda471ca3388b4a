"""A database that goes away under load: no Decide fails, and no decision is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.database_outages import (
    decide_while_postgresql_is_stopped,
    decide_while_sqlite_is_locked,
)


@pytest.mark.slow
def test_postgresql_is_stopped_under_load_and_started_again(tmp_path: Path) -> None:
    decide_while_postgresql_is_stopped(tmp_path, seconds=3.0)


@pytest.mark.slow
def test_sqlite_is_locked_by_another_process_under_load(
    sqlite_template: Path, tmp_path: Path
) -> None:
    decide_while_sqlite_is_locked(sqlite_template, tmp_path, seconds=3.0)
