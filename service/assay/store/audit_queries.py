"""Finding decisions: newest first, in pages, whatever the question.

A page is looked for in windows of time, from the newest back, each eight times as long as the one before. Where much
matches, the first window, some thousand decisions, fills the page; where little does, an index finds it in the longer
ones. So the cost stays near that of the better way, whichever the database chooses within a window, and it needs no
statistics for that: SQLite has none, and PostgreSQL's say nothing of what comes together with what.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BinaryExpression, Column, ColumnElement, Engine, ScalarSelect, Select, and_, or_, select
from sqlalchemy.sql import operators, visitors

from assay.store.audit_deadline import QueryTooSlow, Timed, reading_for
from assay.store.audit_tables import decision

__all__ = ["DecisionListed", "QueryTooSlow", "get_decision", "list_decisions"]

SECONDS: Final = 5.0
FIRST_WINDOW: Final = 2000
GROWTH: Final = 8
RESOLVED: Final = 1000
INSTANT: Final = timedelta(microseconds=1)

Key = tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class DecisionListed:
    """A row of `decision`."""

    decision_id: str
    stream: str
    seq: int
    decided_at: datetime
    tenant: str
    request_id: str
    model: str
    variant: str
    tools: int
    attempts: int
    excluded: int
    first_provider: str
    first_endpoint: str
    availability: str
    policy_revision: int
    snapshot_id: str
    engine_version: str
    demoted: int
    plan_ns: int
    finding_set: str

    @property
    def key(self) -> Key:
        """Its place in the list."""
        return self.decided_at, self.decision_id


def listed(row: Sequence[Any]) -> DecisionListed:
    """Read a row of all columns of `decision`."""
    return DecisionListed(*row)


def get_decision(engine: Engine, decision_id: str) -> DecisionListed | None:
    """One decision by its id; `audit_log.records_of` has its record."""
    with reading_for(engine, SECONDS) as timed:
        rows = timed.rows(select(decision).where(decision.c.decision_id == decision_id))
    return listed(rows[0]) if rows else None


def list_decisions(  # noqa: PLR0913 - the question, its time, its place in the list
    engine: Engine,
    where: ColumnElement[bool] | None,
    *,
    since: datetime,
    until: datetime,
    after: Key | None = None,
    limit: int,
    seconds: float = SECONDS,
) -> tuple[DecisionListed, ...]:
    """The newest decisions from `since` on and before `until` that `where` holds for, behind `after` in the list.

    Raises QueryTooSlow when there is no answer in time.
    """
    with reading_for(engine, seconds) as timed:
        asked = None if where is None else resolved(timed, where)
        found: list[DecisionListed] = []
        for window in windows(timed, since, until, after):
            query = newest_first(select(decision).where(window), limit - len(found))
            found += map(listed, timed.rows(query if asked is None else query.where(asked)))
            if len(found) >= limit:
                break
    return tuple(found)


def newest_first(query: Select[Any], limit: int) -> Select[Any]:
    """The first so many rows of the list."""
    return query.order_by(decision.c.decided_at.desc(), decision.c.decision_id.desc()).limit(limit)


def windows(timed: Timed, since: datetime, until: datetime, after: Key | None) -> Iterator[ColumnElement[bool]]:
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


def begin_of_first(timed: Timed, since: datetime, until: datetime) -> datetime:
    """When the first of the last FIRST_WINDOW decisions before `until` was made, or `since`."""
    at = decision.c.decided_at
    query = select(at).where(at >= since, at < until).order_by(at.desc()).offset(FIRST_WINDOW).limit(1)
    rows = timed.rows(query)
    return rows[0].decided_at if rows else since


def longer(since: datetime, begin: datetime, until: datetime) -> datetime:
    """Where the next window begins: GROWTH times as far from `until` as this one."""
    return max(since, until - min(max(until - begin, INSTANT) * GROWTH, until - since))


def resolved(timed: Timed, where: ColumnElement[bool]) -> ColumnElement[bool]:
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
        and all(getattr(part, "table", None) is not decision for part in visitors.iterate(element.right))
    )
