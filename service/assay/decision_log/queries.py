"""Finding decisions, newest first, in pages.

How it works
------------
A filter that matches much is cheapest by walking the time index; one that matches little, by an
index of its own. Neither database can tell them apart: SQLite has no statistics, and PostgreSQL's
do not know which values occur together.

So a page is looked for in windows of time, from the newest back, each eight times as long as the
one before. If much matches, the first window, a few thousand decisions, fills the page. If little
matches, the longer windows let an index find it. The cost stays near that of the better plan.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
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
    true,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql import operators, visitors

from assay.decision_log.decision_row import ListKey, StoredDecision
from assay.decision_log.tables import decision
from assay.engine.errors import StoreUnavailable
from assay.store.database import reading
from assay.store.tables import tenant_pseudonym
from assay.store.types import MICROSECOND


def distinct_values(column: Column[str]) -> Select[Any]:
    """Select the distinct values of a column that comes first in an index, in order."""
    first = select(func.min(column).label("value")).cte("each_value", recursive=True)
    following = select(func.min(column)).where(column > first.c.value).scalar_subquery()
    values = first.union_all(select(following).where(first.c.value.is_not(None)))
    return select(values.c.value).where(values.c.value.is_not(None))


_PROGRESS_STEPS: Final = 20_000  # steps of SQLite's virtual machine: about a millisecond


class QueryTooSlow(StoreUnavailable):
    """The query reads more of the log than the time limit allows."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"no result within {seconds:g} s: use a shorter time range or a narrower filter"
        )
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class TimedConnection:
    """A connection on which all queries together must end by `deadline`."""

    connection: Connection
    deadline: float
    seconds: float

    def rows(self, query: Executable) -> list[Row[Any]]:
        """Return all rows of one query."""
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
    """Read one consistent state, within so many seconds; raise QueryTooSlow."""
    with reading(database) as connection:
        deadline = time.monotonic() + seconds
        timed = TimedConnection(connection, deadline, seconds)
        if connection.dialect.name == "postgresql":
            yield timed
            return
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(lambda: time.monotonic() >= deadline, _PROGRESS_STEPS)
        try:
            yield timed
        finally:
            driver.set_progress_handler(None, 0)


def tenants_by_pseudonym(database: Engine) -> dict[str, str]:
    """Return the tenant of every pseudonym; a tenant may have several."""
    with reading(database) as connection:
        rows = connection.execute(select(tenant_pseudonym)).all()
    return {row.pseudonym: row.tenant for row in rows}


def pseudonyms_by_tenant(database: Engine, most: int) -> dict[str, str]:
    """Return the newest pseudonym of each tenant, of so many pseudonyms at most."""
    newest = tenant_pseudonym.c.created_at.desc(), tenant_pseudonym.c.pseudonym.desc()
    query = select(tenant_pseudonym).order_by(*newest).limit(most)
    with reading(database) as connection:
        rows = connection.execute(query).all()
    return {row.tenant: row.pseudonym for row in reversed(rows)}


SECONDS: Final = 5.0
FIRST_WINDOW: Final = 2000
GROWTH: Final = 8
_MAX_RESOLVED: Final = 1000


def listed(row: Sequence[Any]) -> StoredDecision:
    """Return the decision of a row with all columns."""
    return StoredDecision(*row)


def get_decision(database: Engine, decision_id: str) -> StoredDecision | None:
    """Return one decision; `streams.records_of` has its record."""
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
    """Return the newest decisions from `since` and before `until`, after the key `after`.

    Raises QueryTooSlow.
    """
    with reading_for(database, seconds) as timed:
        asked = None if where is None else _resolve_lookups(timed, where)
        found: list[StoredDecision] = []
        at = decision.c.decided_at
        for window in _windows(timed, since, until, after):
            query = select(decision).where(window, true() if asked is None else asked)
            newest_first = query.order_by(at.desc(), decision.c.decision_id.desc())
            found += map(listed, timed.rows(newest_first.limit(limit - len(found))))
            if len(found) >= limit:
                break
    return tuple(found)


def _windows(
    timed: TimedConnection, since: datetime, until: datetime, after: ListKey | None
) -> Iterator[ColumnElement[bool]]:
    """Yield windows of the time from `since` to `until`, after the key `after`, newest first."""
    at = decision.c.decided_at
    if after is not None and after[0] < until:
        ends = and_(at <= after[0], or_(at < after[0], decision.c.decision_id < after[1]))
        until = after[0] + MICROSECOND
    else:
        ends = at < until
    newest_first = select(at).where(at >= since, at < until).order_by(at.desc())
    beyond = timed.rows(newest_first.offset(FIRST_WINDOW).limit(1))
    begin = beyond[0].decided_at if beyond else since
    while begin > since:
        yield and_(at >= begin, ends)
        ends = at < begin
        length = max(until - begin, MICROSECOND) * GROWTH
        begin = max(since, until - min(length, until - since))
    yield and_(at >= since, ends)


def _resolve_lookups(timed: TimedConnection, where: ColumnElement[bool]) -> ColumnElement[bool]:
    """Replace each `column IN (SELECT …)` that depends on no decision by its values, if few.

    Then the database knows how many finding sets or pseudonyms it needs before it plans.
    """

    def values_of(
        element: Any,  # noqa: ANN401 - SQLAlchemy visits every element
        **_: Any,  # noqa: ANN401 - as its protocol says
    ) -> ColumnElement[bool] | None:
        if not _is_lookup(element):
            return None
        rows = timed.rows(select(element.right.element.subquery()).limit(_MAX_RESOLVED + 1))
        values = [value for (value,) in rows]
        if len(values) > _MAX_RESOLVED:
            return None
        column: Column[Any] = element.left
        return column.in_(values) if element.operator is operators.in_op else column.not_in(values)

    replaced: ColumnElement[bool] = visitors.replacement_traverse(where, {}, values_of)
    return replaced


def _is_lookup(element: object) -> bool:
    """Return whether this is `column IN (SELECT …)` or NOT IN, without reading the decision."""
    return (
        isinstance(element, BinaryExpression)
        and element.operator in {operators.in_op, operators.not_in_op}
        and isinstance(element.left, Column)
        and element.left.table is decision
        and isinstance(element.right, ScalarSelect)
        and all(
            part is not decision and getattr(part, "table", None) is not decision
            for part in visitors.iterate(element.right)
        )
    )
