"""The log itself: every stream from its first record to its last, for verifying, replaying and exporting.

Read in pieces, each a short transaction of its own, so that a reading of hours holds nothing up. Rows are never
changed; that a beginning was removed by age meanwhile shows in `streams`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, Row, Select, and_, exists, select, true, tuple_

from assay.decision_log.decision_row import ListKey, StoredDecision
from assay.decision_log.queries import distinct_values, listed
from assay.decision_log.tables import (
    chain_head,
    decision,
    finding_set_word,
    journal_position,
    journal_record,
    pruned,
)
from assay.journal.chain import Head
from assay.store.database import reading

PIECE: Final = 500
WINDOW: Final = 2000

at_same_place = and_(
    decision.c.stream == journal_record.c.stream, decision.c.seq == journal_record.c.seq
)
time_and_id = tuple_(decision.c.decided_at, decision.c.decision_id)


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """A record as journalled, and the row it is found by: none where the bytes cannot be read or are no decision."""

    stream: str
    seq: int
    kind: int
    payload: bytes
    chain: bytes
    decision: StoredDecision | None


@dataclass(frozen=True, slots=True)
class ChainPoint:
    """A place in a stream: a number and the link there."""

    seq: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class StreamState:
    """What is known of a stream beside its records: what was removed by age, how far it has come, its newest head."""

    stream: str
    pruned: ChainPoint | None
    pruned_at: datetime | None
    shipped: ChainPoint | None
    head: Head | None


def records(
    database: Engine, stream: str, *, after: int = 0, until: int | None = None
) -> Iterator[LoggedRecord]:
    """The records of a stream in its order, those numbered above `after` and up to `until`."""
    number = journal_record.c.seq
    query = with_decision().where(
        journal_record.c.stream == stream, true() if until is None else number <= until
    )
    while True:
        rows = all_rows(database, query.where(number > after).order_by(number).limit(PIECE))
        yield from map(logged, rows)
        if len(rows) < PIECE:
            return
        after = rows[-1].seq


def records_of(database: Engine, decision_ids: Sequence[str]) -> Iterator[LoggedRecord]:
    """The records of these decisions, in their order; those that are not there are left out."""
    for start in range(0, len(decision_ids), PIECE):
        piece = decision_ids[start : start + PIECE]
        rows = all_rows(database, with_decision().where(decision.c.decision_id.in_(piece)))
        found = {row.decision_id: row for row in rows}
        yield from (logged(found[each]) for each in piece if each in found)


def records_between(
    database: Engine, where: ColumnElement[bool] | None, *, since: datetime, until: datetime
) -> Iterator[LoggedRecord]:
    """The records of all decisions that `where` holds for, oldest first, however many and however long it takes."""
    asked = true() if where is None else where
    begin: ColumnElement[bool] = decision.c.decided_at >= since
    while True:
        end = end_of_window(database, begin, until)
        ends = decision.c.decided_at < until if end is None else time_and_id <= end
        query = (
            with_decision()
            .where(begin, ends, asked)
            .order_by(decision.c.decided_at, decision.c.decision_id)
        )
        yield from map(logged, all_rows(database, query))
        if end is None:
            return
        begin = and_(decision.c.decided_at >= end[0], time_and_id > end)


def end_of_window(database: Engine, begin: ColumnElement[bool], until: datetime) -> ListKey | None:
    """The place of the last of the next WINDOW decisions; none where there are fewer."""
    query = select(decision.c.decided_at, decision.c.decision_id).where(
        begin, decision.c.decided_at < until
    )
    query = query.order_by(decision.c.decided_at, decision.c.decision_id)
    rows = all_rows(database, query.offset(WINDOW - 1).limit(1))
    return (rows[0].decided_at, rows[0].decision_id) if rows else None


def streams(database: Engine) -> tuple[StreamState, ...]:
    """Every stream that anything is known of, the oldest first."""
    with reading(database) as connection:
        removed = {row.stream: row for row in connection.execute(select(pruned))}
        shipped = {row.stream: row for row in connection.execute(select(journal_position))}
        newest = {row.stream: _head_of(row) for row in connection.execute(select(chain_head))}
        logged_in = set(connection.execute(distinct_values(journal_record.c.stream)).scalars())
    names = sorted(logged_in.union(removed, shipped, newest))
    return tuple(
        StreamState(
            stream=name,
            pruned=_point_of(removed.get(name)),
            pruned_at=removed[name].pruned_at if name in removed else None,
            shipped=_point_of(shipped.get(name)),
            head=newest.get(name),
        )
        for name in names
    )


def heads(database: Engine, stream: str) -> tuple[Head, ...]:
    """The signed heads of a stream that are kept: the newest."""
    return tuple(
        map(_head_of, all_rows(database, select(chain_head).where(chain_head.c.stream == stream)))
    )


def strays(database: Engine) -> tuple[StoredDecision, ...]:
    """Rows of decisions that no record is there for: nobody but a forger writes them."""
    query = select(decision).where(~exists(select(journal_record.c.seq).where(at_same_place)))
    return tuple(map(listed, all_rows(database, query.limit(PIECE))))


def words_of(
    database: Engine, finding_sets: Sequence[str]
) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """The words of these sets of findings, by kind, in order."""
    found: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in finding_sets}
    for start in range(0, len(finding_sets), PIECE):
        piece = finding_sets[start : start + PIECE]
        table = finding_set_word.c
        query = select(finding_set_word).where(table.finding_set.in_(piece))
        for row in all_rows(database, query.order_by(table.finding_set, table.kind, table.word)):
            found[row.finding_set][row.kind] = (*found[row.finding_set].get(row.kind, ()), row.word)
    return found


def snapshot_ids_in_use(database: Engine) -> tuple[str, ...]:
    """The snapshots that decisions in the log were made from."""
    return tuple(row[0] for row in all_rows(database, distinct_values(decision.c.snapshot_id)))


def with_decision() -> Select[Any]:
    """Records, each with the row it is found by."""
    return select(journal_record, decision).select_from(
        journal_record.outerjoin(decision, at_same_place)
    )


def logged(row: Sequence[Any]) -> LoggedRecord:
    """Read a row of `with_decision`."""
    stream, seq, kind, payload, chain, *found = row
    return LoggedRecord(
        stream, seq, kind, bytes(payload), bytes(chain), None if found[0] is None else listed(found)
    )


def _head_of(row: Row[Any]) -> Head:
    """Read a row of `chain_head`."""
    return Head(row.stream, row.seq, bytes(row.chain), bytes(row.signature), row.key_id)


def _point_of(row: Row[Any] | None) -> ChainPoint | None:
    """Read number and link of a row, if there is one."""
    return None if row is None else ChainPoint(row.seq, bytes(row.chain))


def all_rows(database: Engine, query: Select[Any]) -> Sequence[Row[Any]]:
    """The rows of one query."""
    with reading(database) as connection:
        return connection.execute(query).all()
