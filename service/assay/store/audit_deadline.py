"""Reading against the clock: a question that takes too long is given up by the database itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, Executable, Row, text
from sqlalchemy.exc import OperationalError

from assay.engine.errors import StoreUnavailable
from assay.store.engine import reading

CHECKED_EVERY: Final = 20_000  # steps of SQLite's machine: about a millisecond


class QueryTooSlow(StoreUnavailable):
    """The question was given up: it has to read more of the log than there is time for."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not answered within {seconds:g} s: ask for a shorter time, or for less")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Timed:
    """A connection on which everything together has to be done by `deadline`."""

    connection: Connection
    deadline: float
    seconds: float

    def rows(self, query: Executable) -> list[Row[Any]]:
        """All rows of one query."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise QueryTooSlow(self.seconds)
        try:
            if self.connection.dialect.name == "postgresql":
                milliseconds = max(1, int(left * 1000))
                self.connection.execute(text(f"SET LOCAL statement_timeout = {milliseconds}"))
            return list(self.connection.execute(query))
        except OperationalError as error:
            if time.monotonic() >= self.deadline:
                raise QueryTooSlow(self.seconds) from error
            raise


@contextmanager
def reading_for(engine: Engine, seconds: float) -> Iterator[Timed]:
    """Read one consistent state, for so many seconds at most; raises QueryTooSlow."""
    with reading(engine) as connection:
        deadline = time.monotonic() + seconds
        timed = Timed(connection, deadline, seconds)
        if connection.dialect.name == "postgresql":
            yield timed
            return
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(lambda: time.monotonic() >= deadline, CHECKED_EVERY)
        try:
            yield timed
        finally:
            driver.set_progress_handler(None, 0)
