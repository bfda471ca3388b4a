"""Reading the log from its first record to its last, to verify, replay and export it.

Each piece is read in a short transaction of its own, so that reading for hours blocks nothing. Rows
never change; `streams` shows which records were removed by age.
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
from assay.decision_log.verify import ChainPoint
from assay.journal.chain import Head
from assay.store.database import reading

_PIECE: Final = 500
_WINDOW: Final = 2000

_at_same_place = and_(
    decision.c.stream == journal_record.c.stream, decision.c.seq == journal_record.c.seq
)
_time_and_id = tuple_(decision.c.decided_at, decision.c.decision_id)


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """A record and the row that lists it, unless the record is unreadable or not a decision."""

    stream: str
    seq: int
    kind: int
    payload: bytes
    chain: bytes
    decision: StoredDecision | None


@dataclass(frozen=True, slots=True)
class StreamState:
    """What was removed from a stream by age, how far it was shipped, and its newest head."""

    stream: str
    pruned: ChainPoint | None
    pruned_at: datetime | None
    shipped: ChainPoint | None
    head: Head | None


def records(
    database: Engine, stream: str, *, after: int = 0, until: int | None = None
) -> Iterator[LoggedRecord]:
    """Yield the records of a stream numbered above `after` and up to `until`, in order."""
    number = journal_record.c.seq
    query = _select_with_decision().where(
        journal_record.c.stream == stream, true() if until is None else number <= until
    )
    while True:
        rows = _fetch_all(database, query.where(number > after).order_by(number).limit(_PIECE))
        yield from map(_record_of, rows)
        if len(rows) < _PIECE:
            return
        after = rows[-1].seq


def records_of(database: Engine, decision_ids: Sequence[str]) -> Iterator[LoggedRecord]:
    """Yield the records of these decisions in order, without those that do not exist."""
    for start in range(0, len(decision_ids), _PIECE):
        piece = decision_ids[start : start + _PIECE]
        rows = _fetch_all(
            database, _select_with_decision().where(decision.c.decision_id.in_(piece))
        )
        found = {row.decision_id: row for row in rows}
        yield from (_record_of(found[each]) for each in piece if each in found)


def records_between(
    database: Engine, where: ColumnElement[bool] | None, *, since: datetime, until: datetime
) -> Iterator[LoggedRecord]:
    """Yield the records of all decisions for which `where` holds, oldest first."""
    condition = true() if where is None else where
    begin: ColumnElement[bool] = decision.c.decided_at >= since
    while True:
        end = _end_of_window(database, begin, until)
        ends = decision.c.decided_at < until if end is None else _time_and_id <= end
        query = (
            _select_with_decision()
            .where(begin, ends, condition)
            .order_by(decision.c.decided_at, decision.c.decision_id)
        )
        yield from map(_record_of, _fetch_all(database, query))
        if end is None:
            return
        begin = and_(decision.c.decided_at >= end[0], _time_and_id > end)


def _end_of_window(database: Engine, begin: ColumnElement[bool], until: datetime) -> ListKey | None:
    """Return the key of the last of the next _WINDOW decisions, or None if there are fewer."""
    query = select(decision.c.decided_at, decision.c.decision_id).where(
        begin, decision.c.decided_at < until
    )
    query = query.order_by(decision.c.decided_at, decision.c.decision_id)
    rows = _fetch_all(database, query.offset(_WINDOW - 1).limit(1))
    return (rows[0].decided_at, rows[0].decision_id) if rows else None


def streams(database: Engine) -> tuple[StreamState, ...]:
    """Return every known stream, oldest first."""
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
    """Return the signed heads of a stream that are stored: only the newest."""
    return tuple(
        map(_head_of, _fetch_all(database, select(chain_head).where(chain_head.c.stream == stream)))
    )


def strays(database: Engine) -> tuple[StoredDecision, ...]:
    """Return decision rows without a record: only tampering creates them."""
    query = select(decision).where(~exists(select(journal_record.c.seq).where(_at_same_place)))
    return tuple(map(listed, _fetch_all(database, query.limit(_PIECE))))


def words_of(
    database: Engine, finding_sets: Sequence[str]
) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Return the words of these finding sets, by kind, in order."""
    found: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in finding_sets}
    for start in range(0, len(finding_sets), _PIECE):
        piece = finding_sets[start : start + _PIECE]
        table = finding_set_word.c
        query = select(finding_set_word).where(table.finding_set.in_(piece))
        for row in _fetch_all(database, query.order_by(table.finding_set, table.kind, table.word)):
            found[row.finding_set][row.kind] = (*found[row.finding_set].get(row.kind, ()), row.word)
    return found


def snapshot_ids_in_use(database: Engine) -> tuple[str, ...]:
    """Return the ids of all snapshots that logged decisions used."""
    return tuple(row[0] for row in _fetch_all(database, distinct_values(decision.c.snapshot_id)))


def _select_with_decision() -> Select[Any]:
    return select(journal_record, decision).select_from(
        journal_record.outerjoin(decision, _at_same_place)
    )


def _record_of(row: Sequence[Any]) -> LoggedRecord:
    stream, seq, kind, payload, chain, *found = row
    return LoggedRecord(
        stream, seq, kind, bytes(payload), bytes(chain), None if found[0] is None else listed(found)
    )


def _head_of(row: Row[Any]) -> Head:
    return Head(row.stream, row.seq, bytes(row.chain), bytes(row.signature), row.key_id)


def _point_of(row: Row[Any] | None) -> ChainPoint | None:
    return None if row is None else ChainPoint(row.seq, bytes(row.chain))


def _fetch_all(database: Engine, query: Select[Any]) -> Sequence[Row[Any]]:
    with reading(database) as connection:
        return connection.execute(query).all()
