"""Database errors at the n-th statement or commit of one process, before or after it took effect.

SQLAlchemy's events of an engine raise what the driver raises, so that the code under test sees an
ordinary error. An error after the commit leaves the caller in doubt, as a lost connection does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Literal

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

DatabaseFault = Literal["statement", "commit", "after commit", "die", "die after commit"]
AT_COMMIT = frozenset({"commit", "after commit", "die after commit"})


class ProcessDied(BaseException):
    """The simulated process ends here; nothing may catch it."""


class DatabaseFaults:
    """The faults of one engine; at most one is armed at a time, and `is_away` fails every call."""

    def __init__(self, database: Engine) -> None:
        self.is_away = False
        self.struck = 0
        self._fault: DatabaseFault | None = None
        self._calls = 0
        self._meanwhile: Callable[[], None] | None = None
        event.listen(database, "before_cursor_execute", self._on_statement)
        event.listen(database, "commit", self._on_commit)

    def arm(self, fault: DatabaseFault, calls: int) -> None:
        """Let a statement or commit fail once, after so many others."""
        self._fault, self._calls = fault, calls

    def pause(self, calls: int, meanwhile: Callable[[], None]) -> None:
        """Let something happen before a statement that reads, after so many others."""
        self._meanwhile, self._calls = meanwhile, calls

    def disarm(self) -> None:
        """Let everything succeed from now on."""
        self._fault, self._meanwhile, self.is_away = None, None, False

    def _is_due(self, *, commits: bool) -> bool:
        if self._fault is None or (self._fault in AT_COMMIT) != commits:
            return False
        self._calls -= 1
        return self._calls < 0

    def _on_statement(self, connection: Connection, *_: object) -> None:
        writes = connection.get_execution_options().get("assay_writes", False)
        if self._meanwhile is not None and not writes:
            self._calls -= 1
            if self._calls < 0:
                meanwhile, self._meanwhile = self._meanwhile, None
                meanwhile()
        if self.is_away or self._is_due(commits=False):
            self._strike("statement" if self.is_away else self._fault)

    def _on_commit(self, connection: Connection) -> None:
        if self.is_away:
            self._strike("commit")
        if self._is_due(commits=True):
            if self._fault != "commit":
                driver = connection.connection.driver_connection
                assert isinstance(driver, sqlite3.Connection)
                driver.commit()
            self._strike(self._fault)

    def _strike(self, fault: DatabaseFault | None) -> None:
        self.struck += 1
        self._fault = None
        if fault in {"die", "die after commit"}:
            raise ProcessDied
        broken = sqlite3.OperationalError("disk I/O error")
        raise OperationalError(f"injected: {fault}", None, broken)
