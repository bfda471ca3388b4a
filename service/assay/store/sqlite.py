"""SQLite: its file, which may be deleted or replaced while it is open, and its write-ahead log.

How it works
    A process that has a file open can go on writing to it after someone deleted it: every commit
    succeeds, and is lost. So each connection remembers which file it opened (device and inode), and
    compares it with the file that the path names now: before it is used, and again after each
    commit. Only then does the commit count.

    A connection to another file is closed, and the file that is there now is opened. A missing
    file is never created again, except when a database is opened for the first time.

    The write-ahead log belongs to one file. SQLite would apply what is left of it to the file that
    replaced the first, and damage it. Therefore it is set aside before another file is opened.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError, OperationalError

from assay.engine.errors import StoreUnavailable
from assay.store.time_limits import LOCK_S, POOL_S, WaitCeiling

BUSY_TIMEOUT_S: Final = 10
WAL_LIMIT: Final = 64 * 1024 * 1024
"""The size in bytes to which the write-ahead log is cut back, once no reader needs it."""

SET_ASIDE: Final = "-of-the-file-before"
_FILE_MODE: Final = 0o600
_ATTEMPT_MS: Final = 250  # one attempt to get the write lock
_CUT_MS: Final = 500  # how long cutting the log back waits for readers
_CUT_EVERY_S: Final = 10.0
_FILE: Final = "assay_file"  # execution option: the file of a database
_PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}",
    "PRAGMA journal_mode = WAL",
    f"PRAGMA journal_size_limit = {WAL_LIMIT}",
    "PRAGMA synchronous = FULL",  # a commit is the only copy: the journal deletes shipped records
    "PRAGMA foreign_keys = ON",
)
_Identity = tuple[int, int] | None
log = structlog.get_logger("assay.store")


class FileReplaced(StoreUnavailable):
    """The database file was deleted or replaced while it was written; the commit may be lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"database sqlite:///{path}: the file was deleted or replaced while it was open"
        )


@dataclass(slots=True)
class SqliteFile:
    """The file of a database, and which file and log were there when it was last used."""

    path: Path
    used: _Identity = None
    used_log: _Identity = None
    cut_at: float = 0.0

    @property
    def log_path(self) -> Path:
        """Where SQLite keeps the write-ahead log."""
        return Path(f"{self.path}-wal")

    def identity(self) -> _Identity:
        """Return device and inode of the file that the path names now."""
        return _identity(self.path)

    def note_use(self, own: _Identity) -> None:
        """Remember the file and its log."""
        self.used, self.used_log = own, _identity(self.log_path)

    def set_log_aside(self) -> None:
        """Rename the log of the file that was used before, if another file is there now."""
        now, used = self.identity(), self.used
        if used is None or now is None or now == used:
            return
        log.warning("the database file was replaced; the new one is opened", path=str(self.path))
        if self.used_log is not None and _identity(self.log_path) == self.used_log:
            with suppress(OSError):
                self.log_path.rename(f"{self.log_path}{SET_ASIDE}")
                Path(f"{self.path}-shm").unlink()
        self.used = now

    def log_size(self) -> int:
        """Return the size of the write-ahead log in bytes."""
        try:
            return self.log_path.stat().st_size
        except OSError:
            return 0


def _identity(path: Path) -> _Identity:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def open_sqlite(url: URL, ceiling: WaitCeiling, *, create: bool) -> Engine:
    """Return an engine for a SQLite file; raises OSError if there is none."""
    file = SqliteFile(Path(url.database or "").absolute())
    if create:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # SQLite reports what is wrong
            os.close(os.open(file.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE))
    elif not file.path.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no such file; `assay migrate` creates one")
    options = {_FILE: file}
    database = create_engine(url, pool_timeout=POOL_S, execution_options=options)

    def connect(
        _dialect: object, _record: object, _names: object, options: dict[str, Any]
    ) -> sqlite3.Connection:
        file.set_log_aside()
        name = f"{file.path.as_uri()}?mode=rw"  # INVARIANT: a deleted file is not created again
        found: sqlite3.Connection = sqlite3.connect(name, uri=True, **options)
        return found

    def prepare(connection: sqlite3.Connection, record: Any) -> None:  # noqa: ANN401 - of a pool
        record.info[_FILE] = file.identity()
        connection.isolation_level = None  # the driver must not begin transactions on its own
        for pragma in _PRAGMAS:
            connection.execute(pragma)

    def check(_connection: object, record: Any, _proxy: object) -> None:  # noqa: ANN401 - of a pool
        own = record.info[_FILE]
        if own is None or file.identity() != own:
            raise DisconnectionError("the database file was deleted or replaced")
        file.note_use(own)

    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("assay_writes", False):
            _begin_writing(connection, ceiling)
        else:
            connection.exec_driver_sql("BEGIN")

    event.listen(database, "do_connect", connect)
    event.listen(database, "connect", prepare)
    event.listen(database, "checkout", check)
    event.listen(database, "begin", begin)
    return database


def _begin_writing(connection: Connection, ceiling: WaitCeiling) -> None:
    """Take the write lock at once, since upgrading a read lock later may fail.

    Waits in short attempts, so that a process that stops need not wait to the end.
    """
    driver: Any = connection.connection.driver_connection
    started = time.monotonic()
    driver.execute(f"PRAGMA busy_timeout = {_ATTEMPT_MS}")
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as error:
                is_over = time.monotonic() - started >= min(LOCK_S, ceiling.seconds)
                if is_over or not _is_locked(error.orig):
                    ceiling.give_up()
                    raise
            else:
                return
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")


def _is_locked(error: BaseException | None) -> bool:
    """Whether only another connection is in the way."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_BUSY


def file_of(database: Engine | Connection) -> SqliteFile | None:
    """Return the file of a SQLite database."""
    found: SqliteFile | None = database.get_execution_options().get(_FILE)
    return found


def require_same_file(connection: Connection) -> None:
    """Raise FileReplaced unless what the connection has committed is in the file of the path.

    Cuts the write-ahead log back if it has grown.
    """
    file = file_of(connection)
    if file is None:
        return
    if file.identity() != connection.info[_FILE]:
        connection.invalidate()
        raise FileReplaced(file.path)
    now = time.monotonic()
    if now - file.cut_at >= _CUT_EVERY_S and file.log_size() > 2 * WAL_LIMIT:
        file.cut_at = now
        driver: Any = connection.connection.driver_connection
        driver.execute(f"PRAGMA busy_timeout = {_CUT_MS}")
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
