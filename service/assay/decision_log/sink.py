"""Where shipping ends: records, position and head of one stream in one transaction.

How it works
------------
A shipper may send a batch again: it may have died after the commit and before it noticed. So each
transaction first locks the stream's row in `journal_position` and leaves out what that row covers.
If the row is behind the position after which the batch begins, the database has lost commits, by
a failover or a restored backup: nothing is stored, and the shipper goes back to the row's position.
The sink itself remembers nothing; any number of processes may ship, also the same stream in turn.

Since the position proves that no row is there yet, rows need no staging table: SQLite's driver runs
one `executemany`, PostgreSQL a binary COPY. If a row is in the way all the same, because someone
edited the tables, the database reports it, and the batch is written again row by row.

Deadlocks are avoided by order: all shippers take the position first, then the tables in the same
order, and within a table the rows in the order of their keys. Words of finding sets are shared by
all streams; the advisory lock FINDING_SETS is held shared by shippers and exclusively by the
removal of unused sets, so that no set disappears between a decision and its words.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import cache
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Connection,
    Dialect,
    Engine,
    Insert,
    Integer,
    LargeBinary,
    Row,
    Table,
    bindparam,
    func,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from assay.decision_log.decision_row import ROW_COLUMNS, DerivedDecision, Words, derive_row
from assay.decision_log.outcome_matching import (
    PlanCache,
    PlannedAttempts,
    PreparedBatch,
    count_batches,
    find_plans,
    planned_attempts,
    prepare_batches,
)
from assay.decision_log.tables import (
    chain_head,
    decision,
    finding_set_word,
    journal_position,
    journal_record,
    unreadable_record,
)
from assay.engine.errors import quoted
from assay.engine.world.clock import EPOCH
from assay.journal.sink import (
    JournalRecord,
    PositionChanged,
    RecordBatch,
    RecordKind,
    StreamPosition,
)
from assay.outcomes.checks import BatchName
from assay.outcomes.outcome import OutcomeBatch, decode_outcomes
from assay.store.database import reading, translate_errors, writing_concurrently
from assay.store.imports.log import insert_missing
from assay.store.outcome_counters import ToolActivity, count_activity
from assay.store.tables import tenant_pseudonym
from assay.store.types import UtcTime
from assay.store.upserts import Cells, keep_first

FINDING_SETS: Final = 0x41_73_73_61_7A
"""The advisory lock of finding sets."""

MAX_TEXT: Final = 500
"""Characters of an indexed text: PostgreSQL's index entries hold at most 2,704 bytes."""


@dataclass(frozen=True, slots=True)
class RecordReaders:
    """The functions that decode records; each raises ValueError if the bytes are not valid."""

    decision: Callable[[bytes], DerivedDecision] = derive_row
    outcomes: Callable[[bytes], OutcomeBatch] = decode_outcomes


READERS: Final = RecordReaders()

_OWN: Final = tuple(decision.c[name] for name in ROW_COLUMNS if name != "decided_at")
_TEXTS: Final = tuple(column for column in _OWN if column.type.python_type is str)
_COUNTS: Final = tuple(column for column in _OWN if column.type.python_type is int)
CELLS: Final = tuple(column.name for column in _TEXTS + _COUNTS)
"""The columns stored as they are in the row; stream, number and time precede them."""

_values_of: Final = attrgetter(*CELLS)
_bind_time: Final = UtcTime().process_bind_param
_DAY_0: Final = EPOCH.toordinal()


@dataclass(slots=True)
class LogBatch:
    """The rows of one batch by table, built before any lock is taken; cells are as in COLUMNS.

    `words` is keyed by finding set, `plans` by decision. `activity` holds number, tenant and day
    since 1970 of each decision with tools. `unlisted` counts decisions whose record cannot be read.
    """

    records: list[Cells] = field(default_factory=list)
    decisions: list[Cells] = field(default_factory=list)
    plans: dict[str, PlannedAttempts] = field(default_factory=dict)
    words: dict[str, Words] = field(default_factory=dict)
    pseudonyms: list[dict[str, object]] = field(default_factory=list)
    activity: list[tuple[int, str, int, ToolActivity]] = field(default_factory=list)
    outcomes: list[OutcomeBatch] = field(default_factory=list)
    unreadable: list[dict[str, object]] = field(default_factory=list)
    unlisted: int = 0


def batch_of(
    stream: str, records: Iterable[JournalRecord], readers: RecordReaders, dialect: Dialect
) -> LogBatch:
    """Build the rows of a batch; no record is lost.

    A decision that cannot be read is stored without a row; verification reports it.
    """
    batch = LogBatch()
    for record in records:
        if record.chain is None:
            _add_unchained(batch, stream, record, readers)
            continue
        batch.records.append((stream, record.seq, record.kind, record.payload, record.chain))
        if record.kind == RecordKind.DECISION:
            try:
                _add_decision(batch, stream, record.seq, readers.decision(record.payload), dialect)
            except Exception:  # noqa: BLE001 - one bad record must not block the records behind it
                batch.unlisted += 1
    return batch


def _add_decision(
    batch: LogBatch, stream: str, seq: int, row: DerivedDecision, dialect: Dialect
) -> None:
    """Add the rows of a decision, all or none; raise ValueError if a column cannot hold a value."""
    if row.finding_set not in batch.words:
        for words in row.words.values():
            _require_storable(words)
        batch.words[row.finding_set] = row.words
    activity = row.activity
    if activity is not None:
        _require_storable((*activity.models, *activity.ignored))
    batch.decisions.append((stream, seq, _bind_time(row.decided_at, dialect), *_cells_of(row)))
    batch.plans[row.decision_id] = planned_attempts(row)
    if activity is not None:
        batch.activity.append((seq, row.tenant, row.decided_at.toordinal() - _DAY_0, activity))


def _cells_of(row: DerivedDecision) -> Cells:
    """Return the values of CELLS; raise ValueError if a column cannot hold one."""
    values: Cells = _values_of(row)
    _require_storable(values[: len(_TEXTS)])
    counts = values[len(_TEXTS) :]
    if min(counts) < 0 or max(counts) >= 2**31:
        for column, count in zip(_COUNTS, counts, strict=True):
            limit = 2**63 if isinstance(column.type, BigInteger) else 2**31
            if not -limit <= count < limit:
                raise ValueError(f"{column.name}: {count} is out of the column's range")
    return values


def _require_storable(texts: Sequence[str]) -> None:
    """Raise ValueError for NUL, lone surrogates, and texts too long for an index."""
    together = "".join(texts)
    if not together.isascii():
        together.encode()  # raises at a lone surrogate
    if "\0" in together or (len(together) > MAX_TEXT and max(map(len, texts)) > MAX_TEXT):
        raise ValueError(f"{quoted(together)} cannot be stored as names")


def _add_unchained(
    batch: LogBatch, stream: str, record: JournalRecord, readers: RecordReaders
) -> None:
    """Add a record outside the chain: a pseudonym, outcomes, or bytes for a newer version."""
    with suppress(KeyError, TypeError, ValueError, OverflowError):
        if record.kind == RecordKind.OUTCOMES:
            outcomes = readers.outcomes(record.payload)
            _require_storable((outcomes.source, outcomes.batch_id))
            for group in outcomes.groups:
                _require_storable((group.tenant, group.endpoint_id, group.provider))
                _require_storable([outcome.decision_id for outcome in group.outcomes])
                _require_storable([outcome.result for outcome in group.outcomes])
            for kind, endpoint_id, _ in outcomes.rejected:
                _require_storable((kind, endpoint_id))
            batch.outcomes.append(outcomes)
            return
        if record.kind == RecordKind.TENANT:
            found = json.loads(record.payload)
            row = {"pseudonym": found["pseudonym"], "tenant": found["tenant"]}
            _require_storable(tuple(row.values()))
            created_at = EPOCH + timedelta(microseconds=found["at_us"])
            batch.pseudonyms.append({**row, "created_at": created_at})
            return
    digest = sha256(record.payload).hexdigest()
    batch.unreadable.append(
        {"stream": stream, "digest": digest, "kind": record.kind, "payload": record.payload}
    )


_SELECT_POSITION: Final = select(journal_position).where(
    journal_position.c.stream == bindparam("name")
)


RECENT: Final = 20_000
"""Decisions, at least, whose plans a sink remembers for the outcomes that follow."""


class LogSink:
    """Stores what the journal ships.

    `unlisted` counts stored decisions that could not be read, `unreadable` other records that were
    set aside for a newer version, `uncounted` outcomes that moved nothing, by kind.
    """

    def __init__(self, database: Engine, readers: RecordReaders = READERS) -> None:
        self.database = database
        self._readers = readers
        self._plans = PlanCache(RECENT)
        self.unlisted = 0
        self.unreadable = 0
        self.uncounted: Counter[str] = Counter()

    def position(self, stream: str) -> StreamPosition | None:
        """Return how far this stream is stored, as of the last commit."""
        with reading(self.database) as connection:
            row = connection.execute(_SELECT_POSITION, {"name": stream}).one_or_none()
        return None if row is None else _position_of(row)

    def store(self, batch: RecordBatch) -> None:
        """Store records, position and head, except what the stored position already covers."""
        rows = batch_of(batch.stream, batch.records, self._readers, self.database.dialect)
        outcomes = prepare_batches(rows.outcomes)
        with translate_errors(self.database):
            try:
                uncounted = self._store(load, rows, outcomes, batch)
            except (IntegrityError, DataError):
                uncounted = self._store(_load_row_by_row, rows, outcomes, batch)
            except PositionChanged:
                self._plans = PlanCache(RECENT)  # some are of decisions that were lost
                raise
        # INVARIANT: only plans of committed decisions are remembered.
        self._plans.update(rows.plans)
        self.unlisted += rows.unlisted
        self.unreadable += len(rows.unreadable)
        self.uncounted = self.uncounted + uncounted  # swapped: metrics read it meanwhile

    def _store(
        self,
        load_rows: Callable[[Connection, LogBatch], None],
        batch: LogBatch,
        outcomes: Mapping[BatchName, PreparedBatch],
        shipped: RecordBatch,
    ) -> Counter[str]:
        stream, lock = shipped.stream, _SELECT_POSITION.with_for_update()
        with writing_concurrently(self.database) as connection:
            row = connection.execute(lock, {"name": stream}).one_or_none()
            stored = None if row is None else _position_of(row)
            if not shipped.may_follow(stored):
                raise PositionChanged(stream)
            if stored is not None:
                if stored.place >= shipped.end.place:
                    return Counter()
                seq = stored.seq
                batch = replace(
                    batch,
                    records=[row for row in batch.records if row[1] > seq],
                    decisions=[row for row in batch.decisions if row[1] > seq],
                    activity=[each for each in batch.activity if each[0] > seq],
                )
            load_rows(connection, batch)
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock_shared(FINDING_SETS)))
            add_words(connection, batch.words)
            insert_missing(connection, tenant_pseudonym, batch.pseudonyms)
            insert_missing(connection, unreadable_record, batch.unreadable)
            read = self._readers.decision
            plans = find_plans(connection, outcomes.values(), batch.plans, self._plans, read)
            settled = count_batches(connection, stream, outcomes, plans, batch.plans)
            count_activity(connection, batch.activity)
            _store_progress(connection, shipped)
            return settled.by_kind()


def _position_of(row: Row[Any]) -> StreamPosition:
    return StreamPosition(row.segment, row.byte_offset, row.seq, bytes(row.chain))


def _store_progress(connection: Connection, shipped: RecordBatch) -> None:
    position, head = shipped.end, shipped.head
    place = {
        "stream": head.stream,
        "segment": position.segment,
        "byte_offset": position.offset,
        "seq": position.seq,
        "chain": position.chain,
    }
    advance(connection, journal_position, place, by=("segment", "byte_offset"))
    advance(connection, chain_head, asdict(head), by=("seq",))


def advance(
    connection: Connection, table: Table, row: dict[str, object], *, by: tuple[str, ...]
) -> None:
    """Replace the stream's row, unless the stored one is further ahead by these columns."""
    connection.execute(_advancing(connection.dialect.name, table, by), row)


@cache
def _advancing(dialect: str, table: Table, by: tuple[str, ...]) -> Insert:
    insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    new = insert.excluded
    is_ahead = tuple_(*(new[name] for name in by)) >= tuple_(*(table.c[name] for name in by))
    values = {column.name: new[column.name] for column in table.columns if column.name != "stream"}
    return insert.on_conflict_do_update(index_elements=["stream"], set_=values, where=is_ahead)


COLUMNS: Final[Mapping[Table, tuple[str, ...]]] = {
    journal_record: ("stream", "seq", "kind", "payload", "chain"),
    decision: ("stream", "seq", "decided_at", *CELLS),
}
"""The order of cells in a row of a batch."""

_PLACEHOLDER: Final = {"sqlite": "?", "postgresql": "%s"}
_POSTGRESQL_TYPES: Final = (
    (UtcTime, "timestamptz"),
    (LargeBinary, "bytea"),
    (BigInteger, "int8"),
    (Integer, "int4"),
)
_UNKNOWN_SETS: Final = {
    "sqlite": "SELECT value FROM json_each(?) WHERE NOT EXISTS"
    " (SELECT 1 FROM finding_set_word WHERE finding_set = value)",
    "postgresql": "SELECT value FROM json_array_elements_text(%s) AS value WHERE NOT EXISTS"
    " (SELECT 1 FROM finding_set_word WHERE finding_set = value)",
}


def _postgresql_type(column: Any) -> str:  # noqa: ANN401 - a column of any type
    found = (name for kind, name in _POSTGRESQL_TYPES if isinstance(column.type, kind))
    return next(found, "text")


INSERT: Final = {
    dialect: {
        table: f"INSERT INTO {table.name} ({', '.join(names)})"  # noqa: S608 - our names
        f" VALUES ({', '.join([mark] * len(names))})"
        for table, names in COLUMNS.items()
    }
    for dialect, mark in _PLACEHOLDER.items()
}
COPY: Final = {
    table: f"COPY {table.name} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)"
    for table, names in COLUMNS.items()
}
TYPES: Final = {
    table: [_postgresql_type(table.c[name]) for name in names] for table, names in COLUMNS.items()
}


def load(connection: Connection, batch: LogBatch) -> None:
    """Add records and decisions, none of which may be there yet."""
    for table, rows in ((journal_record, batch.records), (decision, batch.decisions)):
        if rows and connection.dialect.name == "sqlite":
            connection.exec_driver_sql(INSERT["sqlite"][table], rows)
        elif rows:
            _copy(connection, table, rows)


def _copy(connection: Connection, table: Table, rows: Sequence[Cells]) -> None:
    driver: Any = connection.connection.driver_connection
    with _driver_errors(connection), driver.cursor() as cursor, cursor.copy(COPY[table]) as target:
        target.set_types(TYPES[table])
        for row in rows:
            target.write_row(row)


@contextmanager
def _driver_errors(connection: Connection) -> Iterator[None]:
    """Raise the driver's errors as SQLAlchemy's."""
    dbapi = connection.dialect.loaded_dbapi
    try:
        yield
    except dbapi.Error as error:
        raise DBAPIError.instance(
            "COPY", None, error, dbapi.Error, dialect=connection.dialect
        ) from error


def _load_row_by_row(connection: Connection, batch: LogBatch) -> None:
    """Add rows one by one; the journal is right, so a record replaces a row that is in its way.

    A decision id that is stored elsewhere in the log stays there, and a decision row that the
    database rejects is left out. The record itself is stored in either case.
    """
    mark = _PLACEHOLDER[connection.dialect.name]
    insert = INSERT[connection.dialect.name]
    replacing = " ON CONFLICT (stream, seq) DO UPDATE SET" + ",".join(
        f" {name} = excluded.{name}" for name in ("kind", "payload", "chain")
    )
    where = f"stream = {mark} AND seq = {mark}"
    remove = f"DELETE FROM decision WHERE {where}"  # noqa: S608 - a mark is a placeholder
    for row in batch.records:
        connection.exec_driver_sql(insert[journal_record] + replacing, row)
        connection.exec_driver_sql(remove, row[:2])
    for row in batch.decisions:
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(insert[decision] + " ON CONFLICT DO NOTHING", row)
        except DataError:
            continue


def add_words(connection: Connection, words: Mapping[str, Words]) -> None:
    """Add the words of sets that are not stored yet, in the order of their keys."""
    if not words:
        return
    query = _UNKNOWN_SETS[connection.dialect.name]
    unknown = connection.exec_driver_sql(query, (json.dumps(list(words)),)).scalars()
    rows: list[Cells] = []
    for name in sorted(unknown):
        for kind, each in words[name].items():
            rows += [(name, kind, word) for word in each]
    keep_first(connection, finding_set_word, rows)
