"""Where shipping ends: records, position and head of one stream in one transaction, every decision once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Generic, Protocol, TypeVar

from sqlalchemy import Connection, Engine, Insert, Table, bindparam, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError

from assay.decision_log.batch import Batch, Journalled, Readers, batch_of
from assay.decision_log.loading import Load, add_missing, add_words, fill_in, load
from assay.decision_log.tables import (
    chain_head,
    journal_position,
    tenant_pseudonym,
    unreadable_record,
)
from assay.store.database import reading, translated
from assay.store.outcome_counters import EvidenceRows, count_once, count_rows, note_activity

POSITION: Final = select(journal_position).where(journal_position.c.stream == bindparam("name"))
FINDING_SETS: Final = (
    0x41_73_73_61_7A  # the advisory lock that shippers share, and who removes unused sets has alone
)


class Place(Protocol):
    """How far a stream was stored."""

    @property
    def segment(self) -> int:
        """The segment of the last record."""

    @property
    def offset(self) -> int:
        """Where in it that record ends."""

    @property
    def seq(self) -> int:
        """The number of the last record in the chain."""

    @property
    def chain(self) -> bytes:
        """Its link."""


class SignedHead(Protocol):
    """How far a stream had come, signed."""

    @property
    def seq(self) -> int:
        """The number of the last record in the chain."""

    @property
    def chain(self) -> bytes:
        """Its link."""

    @property
    def signature(self) -> bytes:
        """Over stream, number and link."""

    @property
    def key_id(self) -> str:
        """Whose signature."""


P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Sent:
    """One batch of a stream, and how far it brings the stream."""

    stream: str
    batch: Batch
    evidence: EvidenceRows
    position: Place
    head: SignedHead


class AuditSink(Generic[P]):
    """Keeps what the journal ships. `read` reads records; `place` makes the caller's own positions.

    It remembers nothing of what is stored, so that any number of processes may ship, also the same stream one after the
    other. `unlisted` counts decisions whose record was kept, but could not be read.
    """

    def __init__(
        self, database: Engine, read: Readers, place: Callable[[int, int, int, bytes], P]
    ) -> None:
        self.database = database
        self._read = read
        self._place = place
        self.unlisted = 0

    def position(self, stream: str) -> P | None:
        """How far this stream was stored, as of the last transaction that was committed."""
        with reading(self.database) as connection:
            row = connection.execute(POSITION, {"name": stream}).one_or_none()
        return (
            None
            if row is None
            else self._place(row.segment, row.byte_offset, row.seq, bytes(row.chain))
        )

    def store(
        self, stream: str, records: Sequence[Journalled], position: Place, head: SignedHead
    ) -> None:
        """Keep records, position and head; what lies before the stored position is there already and not kept again.

        The position rules out that a row is in the way. Where one is all the same, the batch goes in row by row.
        """
        batch = batch_of(stream, records, self._read, self.database.dialect)
        evidence = count_rows(batch.outcomes)
        with translated(self.database):
            try:
                self._store(load, Sent(stream, batch, evidence, position, head))
            except (IntegrityError, DataError):
                self._store(fill_in, Sent(stream, batch, evidence, position, head))
        self.unlisted += batch.unlisted

    def _store(self, into: Load, sent: Sent) -> None:
        batch = sent.batch
        with shipping(self.database) as connection:
            stored = connection.execute(
                POSITION.with_for_update(), {"name": sent.stream}
            ).one_or_none()
            if stored is not None:
                if (stored.segment, stored.byte_offset) >= (
                    sent.position.segment,
                    sent.position.offset,
                ):
                    return
                batch = after(batch, stored.seq)
            into(connection, batch)
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock_shared(FINDING_SETS)))
            add_words(connection, batch.words)
            add_missing(connection, tenant_pseudonym, batch.pseudonyms)
            add_missing(connection, unreadable_record, batch.unreadable)
            count_once(connection, sent.stream, sent.evidence)
            note_activity(connection, batch.activity)
            note(connection, sent.stream, sent.position, sent.head)


@contextmanager
def shipping(database: Engine) -> Iterator[Connection]:
    """One transaction of a shipper: on PostgreSQL, streams do not wait for each other nor for imports."""
    with database.connect() as connection:
        connection.execution_options(assay_writes=True)
        with connection.begin():
            yield connection


def after(batch: Batch, seq: int) -> Batch:
    """Leave out what was stored before."""
    if not batch.records or batch.records[0][1] > seq:
        return batch
    return replace(
        batch,
        records=[row for row in batch.records if row[1] > seq],
        decisions=[row for row in batch.decisions if row[1] > seq],
        activity=[each for each in batch.activity if each[0] > seq],
    )


def note(connection: Connection, stream: str, position: Place, head: SignedHead) -> None:
    """Set how far the stream has come; it never goes back."""
    place = {
        "stream": stream,
        "segment": position.segment,
        "byte_offset": position.offset,
        "seq": position.seq,
        "chain": position.chain,
    }
    forward(connection, journal_position, place, ("segment", "byte_offset"))
    signed = {
        "stream": stream,
        "seq": head.seq,
        "chain": head.chain,
        "key_id": head.key_id,
        "signature": head.signature,
    }
    forward(connection, chain_head, signed, ("seq",))


def forward(
    connection: Connection, table: Table, row: dict[str, object], by: tuple[str, ...]
) -> None:
    """Put the row in the place of the stream's former one, unless that is further already."""
    connection.execute(forwarding(connection.dialect.name, table, by), row)


@cache
def forwarding(dialect: str, table: Table, by: tuple[str, ...]) -> Insert:
    """The statement for that, made once: it is part of every batch."""
    added = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    new = added.excluded
    further = tuple_(*(new[name] for name in by)) >= tuple_(*(table.c[name] for name in by))
    values = {column.name: new[column.name] for column in table.columns if column.name != "stream"}
    return added.on_conflict_do_update(index_elements=["stream"], set_=values, where=further)
