"""The file of a SQLite database: private, not created by mistake, noticed if it is replaced."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select
from tests.support.commands import assay, assert_rejected

from assay.engine.errors import StoreUnavailable
from assay.store import sqlite
from assay.store.database import open_database, reading, writing
from assay.store.tables import provider

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)


@pytest.fixture
def path(sqlite_template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(sqlite_template, tmp_path / "assay.db"))


def add(database: Engine, name: str) -> None:
    with writing(database) as connection:
        connection.execute(insert(provider), {"provider": name, "created_at": NOON})


def names(database: Engine) -> list[str]:
    with reading(database) as connection:
        return list(connection.execute(select(provider.c.provider)).scalars())


def test_a_deleted_file_is_an_error_and_is_not_created_again(path: Path) -> None:
    database = open_database(f"sqlite:///{path}")
    add(database, "before")
    kept = path.with_suffix(".kept")
    path.rename(kept)
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        add(database, "lost")
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        names(database)
    assert not path.exists()
    kept.rename(path)
    assert names(database) == ["before"]
    database.dispose()


def test_a_commit_into_a_file_that_was_deleted_meanwhile_does_not_count(path: Path) -> None:
    database = open_database(f"sqlite:///{path}")

    def write_and_delete() -> None:
        with writing(database) as connection:
            connection.execute(insert(provider), {"provider": "lost", "created_at": NOON})
            path.unlink()

    with pytest.raises(StoreUnavailable, match="deleted or replaced while it was open"):
        write_and_delete()
    database.dispose()


def test_a_file_that_was_replaced_is_opened_without_the_log_of_the_one_before(path: Path) -> None:
    older = Path(shutil.copyfile(path, path.with_suffix(".older")))
    database = open_database(f"sqlite:///{path}")
    with reading(database) as reader:  # the log is not moved into the file meanwhile
        assert reader.execute(select(provider)).all() == []
        for number in range(50):
            add(database, f"provider-{number}")
        older.replace(path)
        assert names(database) == []
        add(database, "after")
        assert names(database) == ["after"]
    database.dispose()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert Path(f"{path}-wal{sqlite.SET_ASIDE}").exists()


def test_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "assay.db"
    assert assay("migrate", "--database", f"sqlite:///{path}").code == 0
    database = open_database(f"sqlite:///{path}")
    with reading(database) as connection:
        connection.execute(select(provider))
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == dict.fromkeys(("assay.db", "assay.db-wal", "assay.db-shm"), 0o600)
    database.dispose()


def test_the_write_ahead_log_is_cut_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "WAL_LIMIT", 10_000)
    database = open_database(f"sqlite:///{path}")
    file = sqlite.file_of(database)
    assert file is not None
    with reading(database) as reader:
        assert reader.execute(select(provider)).all() == []
        for number in range(20):
            add(database, f"provider-{number}")
        assert file.log_size() > 2 * 10_000
    file.cut_at = 0.0  # as after a while
    add(database, "one more")
    assert file.log_size() == 0
    database.dispose()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("pool", "lab/mixed:exacto"), id="pool"),
        pytest.param(("decide", "lab/mixed"), id="decide"),
        pytest.param(("outcomes",), id="outcomes"),
        pytest.param(("policy", "list"), id="policy list"),
        pytest.param(("audit", "list"), id="audit list"),
        pytest.param(("audit", "verify"), id="audit verify"),
        pytest.param(("audit", "prune", "--older-than", "90d", "--yes"), id="audit prune"),
        pytest.param(("curator", "repair"), id="curator repair"),
    ],
)
def test_a_command_that_reads_does_not_create_a_database(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "data" / "asay.db"
    refusal = assay(*command, "--database", f"sqlite:///{path}")
    assert_rejected(refusal, 1, str(path), "no such file")
    assert not path.parent.exists()
