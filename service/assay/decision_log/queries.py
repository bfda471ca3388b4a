"""Finding decisions: newest first, in pages, whatever the question.

A page is looked for in windows of time, from the newest back, each eight times as long as the one before. Where much
matches, the first window, some thousand decisions, fills the page; where little does, an index finds it in the longer
ones. So the cost stays near that of the better way, whichever the database chooses within a window, and it needs no
statistics for that: SQLite has none, and PostgreSQL's say nothing of what comes together with what.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BinaryExpression,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Row,
    ScalarSelect,
    Select,
    and_,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql import operators, visitors

from assay.decision_log.decision_row import ListKey, StoredDecision
from assay.decision_log.tables import decision
from assay.engine.errors import StoreUnavailable
from assay.store.database import reading
from assay.store.tables import tenant_pseudonym


def distinct_values(column: Column[str]) -> Select[Any]:
    """Select the values in order; `column` comes first in an index."""
    first = select(func.min(column).label("value")).cte("each_value", recursive=True)
    following = select(func.min(column)).where(column > first.c.value).scalar_subquery()
    values = first.union_all(select(following).where(first.c.value.is_not(None)))
    return select(values.c.value).where(values.c.value.is_not(None))


CHECKED_EVERY: Final = 20_000  # steps of SQLite's machine: about a millisecond


class QueryTooSlow(StoreUnavailable):
    """The question was given up: it has to read more of the log than there is time for."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not answered within {seconds:g} s: ask for a shorter time, or for less")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class TimedConnection:
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
def reading_for(database: Engine, seconds: float) -> Iterator[TimedConnection]:
    """Read one consistent state, for so many seconds at most; raises QueryTooSlow."""
    with reading(database) as connection:
        deadline = time.monotonic() + seconds
        timed = TimedConnection(connection, deadline, seconds)
        if connection.dialect.name == "postgresql":
            yield timed
            return
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(lambda: time.monotonic() >= deadline, CHECKED_EVERY)
        try:
            yield timed
        finally:
            driver.set_progress_handler(None, 0)


def tenants_by_pseudonym(database: Engine) -> dict[str, str]:
    """The tenant of every pseudonym that was not erased; a tenant may have several."""
    with reading(database) as connection:
        rows = connection.execute(
            select(tenant_pseudonym.c.pseudonym, tenant_pseudonym.c.tenant)
        ).all()
    return {row.pseudonym: row.tenant for row in rows}


def pseudonyms_by_tenant(database: Engine) -> dict[str, str]:
    """The newest pseudonym of every tenant, to go on with."""
    query = select(tenant_pseudonym).order_by(
        tenant_pseudonym.c.created_at, tenant_pseudonym.c.pseudonym
    )
    with reading(database) as connection:
        rows = connection.execute(query).all()
    return {row.tenant: row.pseudonym for row in rows}


SECONDS: Final = 5.0
FIRST_WINDOW: Final = 2000
GROWTH: Final = 8
RESOLVED: Final = 1000
INSTANT: Final = timedelta(microseconds=1)


def listed(row: Sequence[Any]) -> StoredDecision:
    """Read a row of all columns of `decision`."""
    return StoredDecision(*row)


def get_decision(database: Engine, decision_id: str) -> StoredDecision | None:
    """One decision by its id; `audit_log.records_of` has its record."""
    with reading_for(database, SECONDS) as timed:
        rows = timed.rows(select(decision).where(decision.c.decision_id == decision_id))
    return listed(rows[0]) if rows else None


def list_decisions(  # noqa: PLR0913 - the question, its time, its place in the list
    database: Engine,
    where: ColumnElement[bool] | None,
    *,
    since: datetime,
    until: datetime,
    after: ListKey | None = None,
    limit: int,
    seconds: float = SECONDS,
) -> tuple[StoredDecision, ...]:
    """The newest decisions from `since` on and before `until` that `where` holds for, behind `after` in the list.

    Raises QueryTooSlow when there is no answer in time.
    """
    with reading_for(database, seconds) as timed:
        asked = None if where is None else resolved(timed, where)
        found: list[StoredDecision] = []
        for window in windows(timed, since, until, after):
            query = newest_first(select(decision).where(window), limit - len(found))
            found += map(listed, timed.rows(query if asked is None else query.where(asked)))
            if len(found) >= limit:
                break
    return tuple(found)


def newest_first(query: Select[Any], limit: int) -> Select[Any]:
    """The first so many rows of the list."""
    return query.order_by(decision.c.decided_at.desc(), decision.c.decision_id.desc()).limit(limit)


def windows(
    timed: TimedConnection, since: datetime, until: datetime, after: ListKey | None
) -> Iterator[ColumnElement[bool]]:
    """The time from `since` to `until` that lies behind `after`, in pieces, the newest first."""
    at = decision.c.decided_at
    if after is not None and after[0] < until:
        ends = and_(at <= after[0], or_(at < after[0], decision.c.decision_id < after[1]))
        until = after[0] + INSTANT
    else:
        ends = at < until
    begin = begin_of_first(timed, since, until)
    while begin > since:
        yield and_(at >= begin, ends)
        ends = at < begin
        begin = longer(since, begin, until)
    yield and_(at >= since, ends)


def begin_of_first(timed: TimedConnection, since: datetime, until: datetime) -> datetime:
    """When the first of the last FIRST_WINDOW decisions before `until` was made, or `since`."""
    at = decision.c.decided_at
    query = (
        select(at).where(at >= since, at < until).order_by(at.desc()).offset(FIRST_WINDOW).limit(1)
    )
    rows = timed.rows(query)
    return rows[0].decided_at if rows else since


def longer(since: datetime, begin: datetime, until: datetime) -> datetime:
    """Where the next window begins: GROWTH times as far from `until` as this one."""
    return max(since, until - min(max(until - begin, INSTANT) * GROWTH, until - since))


def resolved(timed: TimedConnection, where: ColumnElement[bool]) -> ColumnElement[bool]:
    """Put in the place of each `column IN (SELECT …)` that depends on no decision what it selects, unless that is long.

    Then the database knows how many sets of findings or pseudonyms are meant before it chooses its way.
    """

    def looked_up(element: Any, **_: Any) -> ColumnElement[bool] | None:  # noqa: ANN401 - as SQLAlchemy has it
        if not is_lookup(element):
            return None
        rows = timed.rows(select(element.right.element.subquery()).limit(RESOLVED + 1))
        values = [value for (value,) in rows]
        if len(values) > RESOLVED:
            return None
        column: Column[Any] = element.left
        return column.in_(values) if element.operator is operators.in_op else column.not_in(values)

    replaced: ColumnElement[bool] = visitors.replacement_traverse(where, {}, looked_up)
    return replaced


def is_lookup(element: object) -> bool:
    """Whether this is `column IN (SELECT …)`, or NOT IN, of a select that does not look at the decision."""
    return (
        isinstance(element, BinaryExpression)
        and element.operator in {operators.in_op, operators.not_in_op}
        and isinstance(element.left, Column)
        and element.left.table is decision
        and isinstance(element.right, ScalarSelect)
        and all(part is not decision for part in visitors.iterate(element.right))
        and all(
            getattr(part, "table", None) is not decision for part in visitors.iterate(element.right)
        )
    )
