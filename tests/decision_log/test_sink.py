"""The sink stores every record once, whatever fails, and no record blocks those after it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, func, select, text, update
from tests.support.decision_streams import (
    OTHER,
    STREAM,
    Stream,
    empty_log,
    encode_row,
    make_rows,
    make_sink,
    payloads,
    read_log_tables,
    rejecting_writes,
    ship,
)

from assay.decision_log.queries import get_decision
from assay.decision_log.streams import LoggedRecord, records, streams, words_of
from assay.decision_log.tables import decision, journal_position, journal_record
from assay.engine.errors import StoreUnavailable
from assay.journal.sink import RecordKind, Sink, StreamPosition
from assay.store.database import open_database, writing
from assay.store.evidence_tables import tenant_activity
from assay.store.outcome_counters import ToolActivity


@pytest.fixture
def log(store: Engine) -> Iterator[Engine]:
    yield store
    empty_log(store)


def logged(database: Engine, stream: str = STREAM) -> list[LoggedRecord]:
    return list(records(database, stream))


def test_the_stored_numbers_of_record_kinds_do_not_change() -> None:
    assert {kind.name: kind.value for kind in RecordKind} == {
        "DECISION": 1,
        "TENANT": 2,
        "OUTCOMES": 3,
    }


def test_the_sink_implements_the_interface_of_the_shipper(log: Engine) -> None:
    sink: Sink = make_sink(log)
    assert sink.position(STREAM) is None


def test_every_record_and_row_is_stored(log: Engine) -> None:
    stream, rows = Stream(), make_rows(120)
    sent = [stream.tenant("acme", "tp_1"), *stream.records(payloads(rows))]
    stream.into(make_sink(log), sent)
    found = logged(log)
    assert [(r.seq, r.kind, r.payload, r.chain) for r in found] == [
        (r.seq, r.kind, r.payload, r.chain) for r in sent[1:]
    ]
    for row, record in zip(rows, found, strict=True):
        assert record.decision is not None
        for name in row.__slots__:
            if name not in {"words", "activity", "tried"}:
                assert getattr(record.decision, name) == getattr(row, name)
        assert get_decision(log, row.decision_id) == record.decision
    words = words_of(log, sorted({row.finding_set for row in rows}))
    assert words == {row.finding_set: {k: w for k, w in row.words.items() if w} for row in rows}
    (state,) = streams(log)
    assert state.head is not None
    assert (state.head.seq, state.head.chain, state.head.signature) == (
        120,
        stream.link,
        stream.head.signature,
    )
    assert make_sink(log).position(STREAM) == stream.position
    assert [row[:2] for row in read_log_tables(log)["tenant_pseudonym"]] == [("tp_1", "acme")]


def test_a_batch_sent_twice_is_stored_once(log: Engine) -> None:
    stream, sink = Stream(), make_sink(log)
    sent = [stream.tenant("acme", "tp_1"), *stream.records(payloads(make_rows(50)))]
    stream.into(sink, sent)
    before = read_log_tables(log)
    stream.into(sink, sent)
    assert read_log_tables(log) == before


def test_a_batch_that_begins_before_the_position_is_stored_from_the_position(log: Engine) -> None:
    activity = ToolActivity(("lab/one",), ())
    stream, sink, rows = Stream(), make_sink(log), make_rows(50, activity=activity)
    first = stream.records(payloads(rows[:30]))
    stream.into(sink, first)
    second = stream.records(payloads(rows[30:]))
    stream.into(sink, first[10:] + second)
    assert [record.seq for record in logged(log)] == list(range(1, 51))
    with log.connect() as connection:
        counted = connection.scalar(select(func.sum(tenant_activity.c.tool_decisions)))
    assert counted == 50


def test_the_position_never_decreases(log: Engine) -> None:
    stream, sink, rows = Stream(), make_sink(log), make_rows(20)
    early = Stream()
    first = early.records(payloads(rows[:10]))
    ship(log, stream, rows)
    early.into(sink, first)
    assert sink.position(STREAM) == stream.position


@pytest.mark.parametrize(
    "table",
    [
        "journal_record",
        "decision",
        "finding_set_word",
        "tenant_pseudonym",
        "unreadable_record",
        "journal_position",
        "chain_head",
    ],
)
def test_a_failed_batch_leaves_nothing_and_is_stored_once_by_a_retry(
    log: Engine, table: str
) -> None:
    stream, sink = Stream(), make_sink(log)
    sent = [
        stream.tenant("acme", "tp_1"),
        stream.unchained(9, b"?"),
        *stream.records(payloads(make_rows(30))),
    ]
    with rejecting_writes(log, table):
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="refused"):
                stream.into(sink, sent)
        assert not any(read_log_tables(log).values())
        assert sink.position(STREAM) is None
    stream.into(sink, sent)
    assert [record.seq for record in logged(log)] == list(range(1, 31))
    counts = {name: len(rows) for name, rows in read_log_tables(log).items()}
    assert counts.pop("finding_set_word") > 0
    assert counts == {
        "journal_position": 1,
        "journal_record": 30,
        "decision": 30,
        "tenant_pseudonym": 1,
        "unreadable_record": 1,
        "chain_head": 1,
        "pruned": 0,
    }


def test_every_record_is_stored_once_whichever_statement_fails(log: Engine) -> None:
    class Failed(Exception):
        pass

    for kth in range(1, 100):
        empty_log(log)
        stream, sink = Stream(), make_sink(log)
        left = kth

        def fail(*_: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Failed

        first, second = stream.records(payloads(make_rows(10))), [stream.tenant("acme", "tp_1")]
        stream.into(sink, first)
        second += stream.records(payloads(make_rows(10, seed=2)))
        event.listen(log, "before_cursor_execute", fail)
        try:
            stream.into(sink, second)
        except Failed:
            failed = True
        else:
            failed = False
        event.remove(log, "before_cursor_execute", fail)
        assert len(logged(log)) == (10 if failed else 20)
        stream.into(sink, second)
        assert [(r.seq, r.decision is None) for r in logged(log)] == [
            (seq, False) for seq in range(1, 21)
        ]
        if not failed:
            break
    assert kth > 6


def test_rows_are_stored_once_after_the_position_was_lost(log: Engine) -> None:
    stream, sink = Stream(), make_sink(log)
    sent = stream.records(payloads(make_rows(30)))
    stream.into(sink, sent)
    before = read_log_tables(log)
    with writing(log) as connection:
        connection.execute(delete(journal_position))
        connection.execute(delete(decision).where(decision.c.seq == 7))
        connection.execute(delete(journal_record).where(journal_record.c.seq == 8))
    stream.into(sink, sent)
    assert read_log_tables(log) == before


def test_a_forged_row_is_replaced_by_the_journaled_one(log: Engine) -> None:
    stream, sink, rows = Stream(), make_sink(log), make_rows(20)
    stream.into(sink, stream.records(payloads(rows[:10])))
    forged = replace(rows[12], decision_id="forged")
    forger = Stream(OTHER)
    forger.into(sink, forger.records([encode_row(forged)]))
    with writing(log) as connection:
        connection.execute(
            update(journal_record)
            .where(journal_record.c.stream == OTHER)
            .values(stream=STREAM, seq=13)
        )
        connection.execute(
            update(decision).where(decision.c.stream == OTHER).values(stream=STREAM, seq=13)
        )
    stream.into(sink, stream.records(payloads(rows[10:])))
    found = logged(log)
    assert [r.payload for r in found] == payloads(rows)
    assert [r.decision and r.decision.decision_id for r in found] == [
        row.decision_id for row in rows
    ]


def test_an_id_in_two_streams_has_one_row_and_two_records(log: Engine) -> None:
    rows = make_rows(5)
    ship(log, Stream(), rows)
    ship(log, Stream(OTHER), rows)
    assert len(read_log_tables(log)["decision"]) == 5
    assert [record.decision for record in logged(log, OTHER)] == [None] * 5
    assert all(record.decision for record in logged(log))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"request_id": "a\0b"}, id="NUL"),
        pytest.param({"model": "\ud800"}, id="half a surrogate pair"),
        pytest.param({"first_endpoint": "é" * 3000}, id="too long for an index"),
        pytest.param({"tools": 2**63}, id="an integer beyond 64 bits"),
        pytest.param({"attempts": 2**31}, id="a count beyond 32 bits"),
        pytest.param({"demoted": -(2**31) - 1}, id="a count below 32 bits"),
        pytest.param(
            {"decided_at": datetime(2026, 7, 4)},  # noqa: DTZ001 - on purpose
            id="a time without a zone",
        ),
        pytest.param({"finding_set": "odd", "words": {"reason": ("a\0b",)}}, id="NUL in a word"),
        pytest.param({"finding_set": "odd", "words": {"reason": ("x" * 3000,)}}, id="a long word"),
        pytest.param({"policy_revision": "seven"}, id="text for a number"),
        pytest.param({"activity": ToolActivity(("a\0b",), ())}, id="NUL in a model with tools"),
        pytest.param({"activity": ToolActivity((), ("x" * 3000,))}, id="a long ignored name"),
    ],
)
def test_a_record_whose_row_does_not_fit_the_columns_has_no_row(
    log: Engine, changed: dict[str, Any]
) -> None:
    stream, sink, rows = Stream(), make_sink(log), make_rows(3)
    rows[1] = replace(rows[1], **changed)
    stream.into(sink, stream.records(payloads(rows)))
    assert [record.decision is None for record in logged(log)] == [False, True, False]
    assert sink.unlisted == 1


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(
            {"tools": 2**63 - 1, "plan_ns": -(2**63), "attempts": 2**31 - 1},
            id="the largest integers",
        ),
        pytest.param(
            {"request_id": "\U0001f600" * 256, "model": "é\uffff\U0010ffff"},
            id="the largest characters",
        ),
        pytest.param({"decided_at": datetime.max.replace(tzinfo=UTC)}, id="the last instant"),
        pytest.param({"decided_at": datetime.min.replace(tzinfo=UTC)}, id="the first instant"),
        pytest.param({"words": {}, "finding_set": "none"}, id="no words"),
        pytest.param({"request_id": "\\N\t\n'\"\\"}, id="characters that COPY and SQL quote"),
    ],
)
def test_extreme_values_are_read_back_unchanged(log: Engine, changed: dict[str, Any]) -> None:
    (row,) = make_rows(1, **changed)
    ship(log, Stream(), [row])
    found = get_decision(log, row.decision_id)
    assert {name: getattr(found, name) for name in changed if name != "words"} == {
        name: value for name, value in changed.items() if name != "words"
    }


def test_an_unreadable_record_is_stored_and_later_ones_have_rows(log: Engine) -> None:
    stream, sink, rows = Stream(), make_sink(log), make_rows(2)
    stream.into(
        sink,
        stream.records([encode_row(rows[0]), b"\x00\xff not a record", b"", encode_row(rows[1])]),
    )
    assert [(r.payload, r.decision is None) for r in logged(log)][1:3] == [
        (b"\x00\xff not a record", True),
        (b"", True),
    ]
    assert get_decision(log, rows[1].decision_id) is not None


def test_a_chained_record_of_an_unknown_kind_is_stored(log: Engine) -> None:
    stream = Stream()
    stream.into(make_sink(log), stream.records([b"evidence"], kind=77))
    assert [(r.kind, r.payload, r.decision) for r in logged(log)] == [(77, b"evidence", None)]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        pytest.param(99, b"new", id="an unknown kind"),
        pytest.param(RecordKind.TENANT, b"not JSON", id="a tenant that is not JSON"),
        pytest.param(
            RecordKind.TENANT,
            b'{"tenant": "a", "pseudonym": 7, "at_us": 0}',
            id="a pseudonym that is a number",
        ),
        pytest.param(
            RecordKind.TENANT,
            b'{"tenant": "a\\u0000", "pseudonym": "b", "at_us": 0}',
            id="NUL in a name",
        ),
        pytest.param(
            RecordKind.TENANT,
            b'{"tenant": "a", "pseudonym": "b", "at_us": 1e300}',
            id="a time after the last date",
        ),
        pytest.param(RecordKind.TENANT, b"[]", id="a list"),
    ],
)
def test_an_unreadable_record_outside_the_chain_is_stored_once(
    log: Engine, kind: int, payload: bytes
) -> None:
    stream, sink = Stream(), make_sink(log)
    sent = [stream.unchained(kind, payload), stream.unchained(kind, payload)]
    stream.into(sink, sent)
    assert [row[2:] for row in read_log_tables(log)["unreadable_record"]] == [(kind, payload)]
    assert read_log_tables(log)["tenant_pseudonym"] == []


def test_two_shippers_of_one_stream_store_every_record_once(log: Engine) -> None:
    rows = make_rows(2000)
    failures: list[Exception] = []

    def ship_all() -> None:
        try:
            ship(log, Stream(), rows)
        except Exception as error:  # noqa: BLE001 - the assertion below shows it
            failures.append(error)

    threads = [threading.Thread(target=ship_all) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [(r.seq, r.payload) for r in logged(log)] == list(enumerate(payloads(rows), start=1))
    assert len(read_log_tables(log)["decision"]) == 2000


def test_streams_are_shipped_concurrently(log: Engine) -> None:
    names = [f"{number:032x}" for number in range(4)]
    rows = {name: make_rows(500, seed=number) for number, name in enumerate(names)}
    threads = [
        threading.Thread(target=ship, args=(log, Stream(name), rows[name])) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        assert [r.payload for r in logged(log, name)] == payloads(rows[name])
    sets = {row.finding_set: row.words for each in rows.values() for row in each}
    assert words_of(log, sorted(sets)) == {
        n: {k: w for k, w in words.items() if w} for n, words in sets.items()
    }


def test_a_locked_database_raises_an_error_and_accepts_the_batch_later(log: Engine) -> None:
    if log.dialect.name != "sqlite":
        pytest.skip("PostgreSQL locks rows")
    hasty = open_database(str(log.url))
    event.listen(
        hasty, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 50")
    )
    hasty.dispose()
    stream, sink = Stream(), make_sink(hasty)
    sent = stream.records(payloads(make_rows(10)))
    with writing(log), pytest.raises(StoreUnavailable, match="locked"):
        stream.into(sink, sent)
    stream.into(sink, sent)
    hasty.dispose()
    assert len(logged(log)) == 10


def test_imports_do_not_block_shipping_on_postgresql(log: Engine) -> None:
    if log.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer")
    with writing(log):
        ship(log, Stream(), make_rows(10))
    assert len(logged(log)) == 10


def test_a_connection_closed_by_the_server_is_replaced(log: Engine) -> None:
    if log.dialect.name == "sqlite":
        pytest.skip("no server")
    stream, sink, rows = Stream(), make_sink(log), make_rows(20)
    stream.into(sink, stream.records(payloads(rows[:10])))
    with log.connect() as connection:
        other = open_database(log.url.render_as_string(hide_password=False))
        with other.connect() as killer:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            killer.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        other.dispose()
        connection.invalidate()
    stream.into(sink, stream.records(payloads(rows[10:])))
    assert len(logged(log)) == 20
    assert isinstance(sink.position(STREAM), StreamPosition)
