"""The decision log in SQL: shipping against plain inserts, and filters on a million decisions."""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import partial

import psycopg
import pytest
from sqlalchemy import Engine, text
from tests.bench.ledger import Ledger
from tests.bench.measure import compared, measured
from tests.support.decision_rows import BEGIN, SPAN, journalled, rows
from tests.support.population import AS_OF, MODEL, snapshot

from assay.decision_log.decision_row import DerivedDecision, Words, derive_row
from assay.decision_log.filter import read_filter
from assay.decision_log.queries import list_decisions
from assay.decision_log.record import DecisionRecord, encode_record, to_micros
from assay.decision_log.sink import (
    COPY,
    INSERT,
    TYPES,
    LogBatch,
    LogSink,
    RecordReaders,
    add_words,
    batch_of,
    load,
)
from assay.decision_log.tables import decision, journal_record
from assay.engine.decide.plan import Moment, plan
from assay.engine.world.request import Request
from assay.journal.chain import Head
from assay.journal.sink import JournalRecord, RecordBatch, RecordKind, StreamPosition
from assay.outcomes.outcome import decode_outcomes
from assay.store.database import open_database, writing_concurrently

STREAM = "s" * 32
BATCH = 500
ROUNDS, CALLS = 5, 6
BATCHES = 1 + ROUNDS * CALLS + CALLS
SAME = 10  # decisions that share a plan, so that making them takes no longer than the bench
DECISIONS = int(os.environ.get("ASSAY_BENCH_DECISIONS", "1000000"))
END = BEGIN + SPAN
A_DAY = (BEGIN + timedelta(days=20), BEGIN + timedelta(days=21))
TABLES = (
    "journal_position, journal_record, decision, finding_set_word, tenant_pseudonym, chain_head"
)

NewDatabase = Callable[[], AbstractContextManager[str]]


def made_up() -> tuple[list[list[JournalRecord]], Callable[[bytes], DerivedDecision]]:
    """Return batches of records, and a lookup of their rows that costs almost nothing."""
    draw, source = random.Random(1), rows(BATCHES * BATCH)
    known: dict[bytes, DerivedDecision] = {}
    batches = []
    for start in range(0, BATCHES * BATCH, BATCH):
        batches.append(journalled(start + 1, BATCH, draw))
        known |= {record.payload: row for record, row in zip(batches[-1], source, strict=False)}
    return batches, known.__getitem__


def recorded() -> tuple[list[list[JournalRecord]], Callable[[bytes], DerivedDecision]]:
    """Return batches of real records of plans for 20 endpoints, and their reader."""
    draw, world = random.Random(1), snapshot()
    records = []
    for number in range(0, BATCHES * BATCH, SAME):
        request = Request(
            f"{MODEL}:exacto" if number % (2 * SAME) else MODEL, tools=2, request_id=f"r{number}"
        )
        moment = Moment(AS_OF, draw.randbytes(32))
        made = plan(request, world, moment)
        for n in range(number, number + SAME):
            record = DecisionRecord(
                decision_id=f"{n:032x}",
                at_us=to_micros(AS_OF) + n,
                moment=moment,
                tenant="tp_1",
                request=request,
                snapshot_id=made.snapshot_id,
                policy_revision=1,
                policy_digest="d" * 64,
                engine_version="0.1.0",
                plan_ns=9,
                plan=made.canonical(),
            )
            records.append(
                JournalRecord(n + 1, RecordKind.DECISION, encode_record(record), draw.randbytes(32))
            )
    return [records[start : start + BATCH] for start in range(0, len(records), BATCH)], derive_row


@contextmanager
def bare(database: Engine, batches: Sequence[LogBatch]) -> Iterator[Callable[[], None]]:
    """Load prebuilt rows into the same tables with the driver, one transaction per batch."""
    queue = iter(batches)
    if database.dialect.name == "sqlite":
        connection = sqlite3.connect(str(database.url.database), isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")

        def insert() -> None:
            batch = next(queue)
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT["sqlite"][journal_record], batch.records)
            connection.executemany(INSERT["sqlite"][decision], batch.decisions)
            connection.execute("COMMIT")

        yield insert
        connection.close()
        return
    address = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address) as server:

        def copy() -> None:
            batch = next(queue)
            with server.cursor() as cursor:
                for table, cells in ((journal_record, batch.records), (decision, batch.decisions)):
                    with cursor.copy(COPY[table].encode()) as into:
                        into.set_types(TYPES[table])
                        for row in cells:
                            into.write_row(row)
            server.commit()

        yield copy


@pytest.mark.parametrize(
    ("name", "make", "at_most"),
    [
        pytest.param("prebuilt rows", made_up, 1 / 0.6, id="rows"),
        pytest.param("read from records", recorded, None, id="read"),
    ],
)
def test_shipping_against_bare_loading(
    name: str,
    make: Callable[[], tuple[list[list[JournalRecord]], Callable[[bytes], DerivedDecision]]],
    at_most: float | None,
    new_database: NewDatabase,
    ledger: Ledger,
) -> None:
    with new_database() as ours, new_database() as theirs:
        database, other = open_database(ours), open_database(theirs)
        batches, read = make()
        prebuilt = [
            batch_of(STREAM, each, RecordReaders(read, decode_outcomes), database.dialect)
            for each in batches
        ]
        sink, queue = LogSink(database, RecordReaders(read, decode_outcomes)), iter(batches)

        def store() -> None:
            records = next(queue)
            last = records[-1]
            link = last.chain or b""
            end = StreamPosition(1, last.seq, last.seq, link)
            head = Head(STREAM, last.seq, link, b"s" * 64, "k" * 16)
            sink.store(RecordBatch(None, end, records, head))

        in_process = database.dialect.name == "sqlite"
        clock = time.process_time if in_process else time.perf_counter
        # Sets of findings repeat: all but the first of each are known.
        known = {name: words for batch in prebuilt for name, words in batch.words.items()}
        with writing_concurrently(database) as connection:
            add_words(connection, known)
        with bare(other, prebuilt) as load_bare:
            found = compared(store, load_bare, calls=CALLS, rounds=ROUNDS, clock=clock)
        for each in (database, other):
            empty(each)
            each.dispose()
    against = "bare executemany" if in_process else "bare COPY"
    ledger.slower(f"shipping {BATCH} decisions, {name}, against {against}", found, at_most=at_most)


def empty(database: Engine) -> None:
    """Empty the tables for the next test without deleting row by row."""
    if database.dialect.name == "postgresql":
        with database.begin() as connection:
            connection.execute(text(f"TRUNCATE {TABLES}"))


QUESTIONS: tuple[tuple[str, str, tuple[datetime, datetime]], ...] = (
    (
        "why was a provider left out for a tenant at that time",
        'decision.tenant == "tenant-0" && "provider-01" in decision.excluded_providers',
        A_DAY,
    ),
    (
        "the same, a rare tenant, over the whole time",
        'decision.tenant == "tenant-399" && "provider-01" in decision.excluded_providers',
        (BEGIN, END),
    ),
    (
        "the same, a provider rarely left out",
        'decision.tenant == "tenant-0" && "provider-59" in decision.excluded_providers',
        (BEGIN, END),
    ),
    (
        "every decision under the first policy revision",
        "decision.policy_revision == 1",
        (BEGIN, END),
    ),
    ("every decision under the last", "decision.policy_revision == 24", (BEGIN, END)),
    (
        "a model and variant",
        'decision.model == "acme/model-3" && decision.variant == "exacto"',
        (BEGIN, END),
    ),
    (
        "a rare model and variant",
        'decision.model == "acme/model-119" && decision.variant == "exacto:nitro"',
        (BEGIN, END),
    ),
    (
        "exacto, and a provider left out",
        'decision.variant == "exacto" && "provider-01" in decision.excluded_providers',
        (BEGIN, END),
    ),
    ("demoted endpoints", "decision.demoted > 0", (BEGIN, END)),
    ("a demoted endpoint", '"e-39" in decision.demoted_endpoints', (BEGIN, END)),
    ("a provider tried first", 'decision.first_provider == "provider-03"', (BEGIN, END)),
    ("a provider never tried first", 'decision.first_provider == "provider-59"', (BEGIN, END)),
    ("everything", "true", (BEGIN, END)),
)


def fill(database: Engine) -> None:
    """Fill a log without its records, which are in a table that no question reads."""
    source, seq = rows(DECISIONS), itertools.count(1)
    words: dict[str, Words] = {}
    while part := list(itertools.islice(source, 10_000)):
        by_payload = {b"%d" % number: row for number, row in zip(seq, part, strict=False)}
        records = [
            JournalRecord(int(payload), RecordKind.DECISION, payload, b"") for payload in by_payload
        ]
        batch = batch_of(
            STREAM,
            records,
            RecordReaders(by_payload.__getitem__, decode_outcomes),
            database.dialect,
        )
        batch.records.clear()
        words |= batch.words
        with writing_concurrently(database) as connection:
            load(connection, batch)
    with writing_concurrently(database) as connection:
        add_words(connection, words)
        names = [{"p": f"tp_{n:020x}", "t": f"tenant-{n}"} for n in range(400)]
        at = "0" if database.dialect.name == "sqlite" else "now()"
        insert = f"INSERT INTO tenant_pseudonym VALUES (:p, :t, {at})"  # noqa: S608 - constants
        connection.execute(text(insert), names)
    if database.dialect.name == "postgresql":
        with database.begin() as connection:
            connection.execute(text("ANALYZE"))  # as autovacuum does within minutes


def test_every_documented_question_is_answered_in_less_than_100_ms(
    new_database: NewDatabase, backend: str, ledger: Ledger
) -> None:
    with new_database() as url:
        database = open_database(url)
        fill(database)
        for name, filter_, (since, until) in QUESTIONS:
            ask = partial(
                list_decisions,
                database,
                read_filter(filter_).condition,
                since=since,
                until=until,
                limit=100,
            )
            first = ask()
            found = measured(ask, rounds=7, clock=time.perf_counter)
            ledger.took(
                f"{backend}, of {DECISIONS:,} decisions: {name} ({len(first)})", found, below=0.1
            )
            if len(first) == 100:
                following = measured(
                    partial(ask, after=first[-1].key), rounds=7, clock=time.perf_counter
                )
                ledger.took(f"{backend}, the next page of it", following, below=0.1)
        empty(database)
        database.dispose()
