"""Streams of made-up decisions, chained as the journal does, and their rows in a database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Engine, delete, select, text
from tests.support.decision_rows import rows

from assay.decision_log.decision_row import DerivedDecision
from assay.decision_log.sink import LogSink, RecordReaders
from assay.decision_log.tables import (
    chain_head,
    decision,
    finding_set_word,
    journal_position,
    journal_record,
    pruned,
    unreadable_record,
)
from assay.journal.chain import Head, chain_link, genesis_link
from assay.journal.sink import JournalRecord, RecordBatch, RecordKind, StreamPosition
from assay.store.database import writing
from assay.store.tables import tenant_pseudonym

LOG = (
    journal_position,
    journal_record,
    decision,
    finding_set_word,
    tenant_pseudonym,
    unreadable_record,
    chain_head,
    pruned,
)
STREAM = "a" * 32
OTHER = "b" * 32


@dataclass
class Stream:
    """A stream as the journal would hand it over."""

    name: str = STREAM
    seq: int = 0
    link: bytes = b""
    offset: int = 0

    def __post_init__(self) -> None:
        self.link = self.link or genesis_link(self.name)

    def records(
        self, payloads: Iterable[bytes], kind: int = RecordKind.DECISION
    ) -> list[JournalRecord]:
        made = []
        for payload in payloads:
            self.seq += 1
            self.link = chain_link(self.link, self.seq, kind, payload)
            self.offset += len(payload)
            made.append(JournalRecord(self.seq, kind, payload, self.link))
        return made

    def tenant(self, tenant: str, pseudonym: str) -> JournalRecord:
        self.offset += 1
        payload = json.dumps(
            {"tenant": tenant, "pseudonym": pseudonym, "at_us": 1_783_173_600_000_000}
        ).encode()
        return JournalRecord(0, RecordKind.TENANT, payload, None)

    def unchained(self, kind: int, payload: bytes) -> JournalRecord:
        self.offset += 1
        return JournalRecord(0, kind, payload, None)

    @property
    def position(self) -> StreamPosition:
        return StreamPosition(1, self.offset, self.seq, self.link)

    @property
    def head(self) -> Head:
        return Head(self.name, self.seq, self.link, sha256(self.link).digest() * 2, "k")

    def into(self, sink: LogSink, records: Sequence[JournalRecord]) -> None:
        sink.store(RecordBatch(None, self.position, records, self.head))


BY_PAYLOAD: dict[bytes, DerivedDecision] = {}


def encode_row(row: DerivedDecision) -> bytes:
    """Bytes from which `derive` gives the row again."""
    payload = (
        f"{row.decision_id} {row.finding_set} {sha256(repr(row).encode()).hexdigest()}".encode()
    )
    BY_PAYLOAD[payload] = row
    return payload


def derive(payload: bytes) -> DerivedDecision:
    try:
        return BY_PAYLOAD[payload]
    except KeyError:
        raise ValueError("no record") from None


READERS = RecordReaders(derive)


def make_sink(database: Engine) -> LogSink:
    return LogSink(database, READERS)


def make_rows(count: int, seed: int = 1, **changed: Any) -> list[DerivedDecision]:
    return [replace(row, **changed) for row in rows(count, seed)]


def payloads(found: Iterable[DerivedDecision]) -> list[bytes]:
    return [encode_row(row) for row in found]


def ship(
    database: Engine, stream: Stream, found: Sequence[DerivedDecision], batch: int = 100
) -> None:
    """All rows, batch by batch."""
    sink = make_sink(database)
    for start in range(0, len(found), batch):
        stream.into(sink, stream.records(payloads(found[start : start + batch])))


def spread_out(
    found: Sequence[DerivedDecision], begin: datetime, step: timedelta
) -> list[DerivedDecision]:
    return [replace(row, decided_at=begin + step * number) for number, row in enumerate(found)]


def read_log_tables(database: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Everything the log holds."""
    with database.connect() as connection:
        return {table.name: sorted(map(tuple, connection.execute(select(table)))) for table in LOG}


def empty_log(database: Engine) -> None:
    with writing(database) as connection:
        for table in LOG:
            connection.execute(delete(table))


@contextmanager
def rejecting_writes(database: Engine, table: str, when: str = "INSERT") -> Iterator[None]:
    """A database that refuses to write to a table."""
    trigger = f"CREATE TRIGGER refuse BEFORE {when} ON {table}"
    body = "RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$"
    if database.dialect.name == "sqlite":
        make = [f"{trigger} BEGIN SELECT RAISE(ABORT, 'refused'); END"]
        drop = ["DROP TRIGGER refuse"]
    else:
        make = [
            f"CREATE FUNCTION refuse() {body}",
            f"{trigger} FOR EACH ROW EXECUTE FUNCTION refuse()",
        ]
        drop = [f"DROP TRIGGER refuse ON {table}", "DROP FUNCTION refuse"]
    for statements, between in ((make, True), (drop, False)):
        with writing(database) as connection:
            for statement in statements:
                connection.execute(text(statement))
        if between:
            yield
