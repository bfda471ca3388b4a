"""Counters of outcomes: each batch counts once, regardless of order, repetition and replica."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from msgspec.structs import replace as with_values
from sqlalchemy import Engine, delete, select
from tests.support.decision_streams import (
    OTHER,
    STREAM,
    Stream,
    empty_log,
    make_rows,
    make_sink,
    payloads,
    read_log_tables,
    rejecting_writes,
)
from tests.support.outcomes import (
    ALONE,
    COUNTERS,
    DECISION,
    HOUR_US,
    NOW_US,
    SOUND,
    change_outcome,
    make_batch,
    make_decision,
    report_outcome,
    sound_reports,
)

from assay.engine.errors import StoreUnavailable
from assay.journal.sink import JournalRecord, RecordKind
from assay.outcomes.counting import count_outcomes
from assay.outcomes.outcome import OutcomeBatch, OutcomeGroup, OutcomeReport, encode_outcomes
from assay.store.database import writing
from assay.store.evidence_tables import (
    evidence_batch,
    evidence_counter,
    outcome,
    service_counter,
    tenant_activity,
    tenant_ignore,
    tenant_provider,
    uncounted_outcome,
    waiting_outcome,
)
from assay.store.outcome_counters import ToolActivity

TABLES = (
    *COUNTERS,
    evidence_batch,
    outcome,
    tenant_activity,
    tenant_ignore,
    uncounted_outcome,
    waiting_outcome,
)
Rows = Mapping[str, Sequence[tuple[Any, ...]]]


@pytest.fixture
def log(store: Engine) -> Iterator[Engine]:
    yield store
    empty(store)


def empty(database: Engine) -> None:
    empty_log(database)
    with writing(database) as connection:
        for table in TABLES:
            connection.execute(delete(table))


def read_rows(database: Engine, *tables: Any) -> Rows:
    with database.connect() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))))
            for table in tables or TABLES
        }


def records(stream: Stream, *batches: OutcomeBatch) -> list[JournalRecord]:
    return [stream.unchained(RecordKind.OUTCOMES, encode_outcomes(batch)) for batch in batches]


def ship(database: Engine, stream: Stream, *batches: OutcomeBatch) -> None:
    stream.into(make_sink(database), records(stream, *batches))


def ship_decision(database: Engine, stream: Stream, *tried: str) -> None:
    stream.into(make_sink(database), stream.records(payloads([make_decision(*tried)])))


def one(batch_id: str = "b-1", *reports: OutcomeReport) -> OutcomeBatch:
    return make_batch(list(reports) or [report_outcome(ALONE)], batch_id)


def test_shipped_batches_are_stored_as_they_were_counted(log: Engine) -> None:
    reports = [
        report_outcome(SOUND),
        report_outcome(change_outcome(attempt=2, errored_requests=1), "lab/m0@two", ""),
        report_outcome(change_outcome(decision_id="", attempt=0, requests=7), tenant="beta"),
        report_outcome(change_outcome(attempt=3, result="timeout", tools=None), "lab/m0@three"),
    ]
    stream = Stream()
    ship_decision(log, stream)
    ship(log, stream, one("b-1", *reports))
    cells = count_outcomes([one("b-1", *reports)])
    assert read_rows(log, *COUNTERS) == {
        "capability_counter": sorted(
            (*cell, *counts) for cell, counts in cells.capabilities.items()
        ),
        "evidence_counter": sorted((*cell, *counts) for cell, counts in cells.evidence.items()),
        "evidence_day": sorted(
            (*cell[:4], cell[4] // 24, *counts) for cell, counts in cells.evidence.items()
        ),
        "service_counter": sorted((*cell, count) for cell, count in cells.service.items()),
        "tenant_provider": sorted((*cell, count) for cell, count in cells.providers.items()),
    }
    ((source, batch_id, stream, received_at),) = read_rows(log, evidence_batch)["evidence_batch"]
    assert (source, batch_id, stream, received_at.timestamp()) == (
        "gw",
        "b-1",
        STREAM,
        NOW_US / 1_000_000,
    )


def test_attempts_of_decisions_have_rows_and_the_first_report_counts(log: Engine) -> None:
    limited = change_outcome(
        attempt=2, result="rate_limited", retry_after_s=1.5, tools=None, duration_s=None
    )
    stream = Stream()
    ship_decision(log, stream)
    ship(log, stream, one("b-1", report_outcome(SOUND), report_outcome(limited, "lab/m0@two")))
    ship(log, stream, one("b-2", report_outcome(change_outcome(result="cut", tools=None))))
    rows = [(*row[:2], *row[3:-1]) for row in read_rows(log, outcome)["outcome"]]
    assert rows == [
        (DECISION, 1, "lab/m0@one", "gw", "answered", 250, 2000, 100, None, 3, 2, 0),
        (DECISION, 2, "lab/m0@two", "gw", "rate_limited", 250, None, 100, 1500, 0, 0, 0),
    ]
    assert {row[2].timestamp() for row in read_rows(log, outcome)["outcome"]} == {
        SOUND.at_us / 1_000_000
    }


def test_counts_of_many_batches_add_up(log: Engine) -> None:
    first, second = Stream(), Stream(OTHER)
    for number in range(6):
        ship(log, (first, second)[number % 2], one(f"b-{number}", report_outcome(ALONE)))
    ((*_, requests, calls, errored, auto, auto_calls, attempts),) = read_rows(
        log, evidence_counter
    )["evidence_counter"]
    assert (requests, calls, errored, auto, auto_calls, attempts) == (6, 6, 0, 6, 6, 6)


@pytest.mark.parametrize(
    "repeat",
    [
        pytest.param(
            lambda log, stream: stream.into(make_sink(log), records(stream, one())),
            id="by the same process",
        ),
        pytest.param(lambda log, _: ship(log, Stream(OTHER), one()), id="at another replica"),
        pytest.param(
            lambda log, _: ship(log, Stream(OTHER), one(), one(), one("b-2")), id="with a new one"
        ),
    ],
)
def test_a_batch_that_is_sent_again_counts_once(log: Engine, repeat: Any) -> None:
    stream = Stream()
    ship(log, stream, one(), one())
    repeat(log, stream)
    batches = len(read_rows(log, evidence_batch)["evidence_batch"])
    assert read_rows(log, evidence_counter)["evidence_counter"][0][5] == batches
    assert batches == 1 or ("gw", "b-2") in [
        row[:2] for row in read_rows(log, evidence_batch)["evidence_batch"]
    ]


def test_batches_of_different_sources_may_have_the_same_id(log: Engine) -> None:
    ship(log, Stream(), one(), make_batch([report_outcome(ALONE)], "b-1", "other"))
    assert [row[1] for row in read_rows(log, evidence_counter)["evidence_counter"]] == [
        "gw",
        "other",
    ]


@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(sound_reports(), min_size=1, max_size=12),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_counts_do_not_depend_on_order_batches_or_repetition_at_two_replicas(
    log: Engine, reports: list[OutcomeReport], pieces: int, random: Any
) -> None:
    empty(log)
    ship(log, Stream(), one("all", *reports))
    whole = read_rows(log, *COUNTERS)
    empty(log)
    sent = [
        one(f"b-{piece}", *reports[piece::pieces]) for piece in range(min(pieces, len(reports)))
    ] * 2
    random.shuffle(sent)
    first, second = Stream(), Stream(OTHER)
    cut = random.randint(0, len(sent))
    ship(log, first, *sent[:cut])
    for batch in sent[cut:]:
        ship(log, random.choice((first, second)), batch)
    assert read_rows(log, *COUNTERS) == whole


def test_two_concurrent_replicas_count_the_same_batches_once(log: Engine) -> None:
    """They ship in opposite orders and share counters, yet do not deadlock."""
    batches = [
        one(f"b-{n}", *(report_outcome(ALONE, f"lab/m0@{p}") for p in ("one", "two", "three")))
        for n in range(40)
    ]
    streams, troubles = (Stream(), Stream(OTHER)), []
    start = threading.Barrier(len(streams))

    def replica(stream: Stream, mine: Sequence[OutcomeBatch]) -> None:
        start.wait()
        try:
            for first in range(0, len(mine), 4):
                ship(log, stream, *mine[first : first + 4])
        except Exception as error:  # noqa: BLE001 - the test reports it below
            troubles.append(error)

    threads = [
        threading.Thread(target=replica, args=each)
        for each in zip(streams, (batches, batches[::-1]), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert [row[5] for row in read_rows(log, evidence_counter)["evidence_counter"]] == [40, 40, 40]


@pytest.mark.parametrize("table", [table.name for table in TABLES])
def test_a_failed_transaction_leaves_nothing_and_its_batches_count_once_later(
    log: Engine, table: str
) -> None:
    stream, sink = Stream(), make_sink(log)
    row = make_decision("lab/m0@one", activity=ToolActivity(("lab/m0",), ("one",)))
    unknown = with_values(SOUND, decision_id=DECISION.replace("0", "1"))
    reports = [report_outcome(each) for each in (SOUND, unknown, change_outcome(attempt=2))]
    sent = [*records(stream, one("b-1", *reports)), *stream.records(payloads([row]))]
    nothing = read_rows(log)
    with rejecting_writes(log, table), pytest.raises(StoreUnavailable, match="refused"):
        stream.into(sink, sent)
    assert read_rows(log) == nothing
    assert read_log_tables(log)["journal_record"] == []
    stream.into(sink, sent)
    stream.into(sink, sent)
    assert {
        name: len(rows) for name, rows in read_rows(log).items() if name != "service_counter"
    } == dict.fromkeys((table.name for table in TABLES if table is not service_counter), 1)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\xff\xfe", id="not JSON"),
        pytest.param(encode_outcomes(one()).replace(b"[1,", b"[9,", 1), id="a newer version"),
        pytest.param(encode_outcomes(one("b\0")), id="a name that cannot be stored"),
        pytest.param(encode_outcomes(one("b" * 9999)), id="a name too long for an index"),
        pytest.param(encode_outcomes(one()).replace(b",100,", b",-100,"), id="a negative count"),
    ],
)
def test_an_unreadable_batch_is_set_aside_and_does_not_block_others(
    log: Engine, payload: bytes
) -> None:
    stream = Stream()
    sent = [
        stream.unchained(RecordKind.OUTCOMES, payload),
        *records(stream, one("b-2")),
        *stream.records(payloads(make_rows(1))),
    ]
    stream.into(make_sink(log), sent)
    assert [row[2:] for row in read_log_tables(log)["unreadable_record"]] == [
        (RecordKind.OUTCOMES, payload)
    ]
    assert [row[1] for row in read_rows(log, evidence_batch)["evidence_batch"]] == ["b-2"]
    assert len(read_log_tables(log)["decision"]) == 1


def test_names_with_special_characters_are_stored_unchanged(log: Engine) -> None:
    """Catalogs may use names with characters that have a meaning in SQL."""
    odd = ['{"a"}', "a,b", r"back\slash", "quo'te", 'dou"ble', "NULL", "ü %s ?", "  "]
    groups = [
        OutcomeGroup(name, name, name, [with_values(SOUND, attempt=n + 1)])
        for n, name in enumerate(odd)
    ]
    stream = Stream()
    ship_decision(log, stream, *odd)
    ship(log, stream, OutcomeBatch("gw", "b-1", NOW_US, groups))
    for table, place in (
        (evidence_counter, 0),
        (evidence_counter, 2),
        (service_counter, 0),
        (tenant_provider, 1),
    ):
        assert {row[place] for row in read_rows(log, table)[table.name]} == set(odd)
    assert [row[3] for row in read_rows(log, outcome)["outcome"]] == odd


def test_late_outcomes_count_in_their_own_hour(log: Engine) -> None:
    late = with_values(ALONE, at_us=NOW_US - 20 * HOUR_US)
    ship(log, Stream(), one("b-1", report_outcome(ALONE), report_outcome(late)))
    hours = [row[4] for row in read_rows(log, evidence_counter)["evidence_counter"]]
    assert hours == [(NOW_US - 20 * HOUR_US) // HOUR_US, (NOW_US - 1) // HOUR_US]


def test_decisions_count_requested_models_and_ignores_of_tenants(log: Engine) -> None:
    rows = make_rows(5, tenant="tp_1")
    activities = [
        ToolActivity(("lab/m0",), ("one",)),
        ToolActivity(("lab/m0", "lab/m1"), ("one", "two/fp8")),
        None,
        ToolActivity(("lab/m0",), ()),
        ToolActivity(("lab/m1",), ("one",)),
    ]
    stream, sink = Stream(), make_sink(log)
    day = rows[0].decided_at
    decisions = [
        replace(row, decided_at=day, activity=each)
        for row, each in zip(rows, activities, strict=True)
    ]
    first, second = stream.records(payloads(decisions[:3])), stream.records(payloads(decisions[3:]))
    earlier = replace(
        stream, seq=3, link=first[-1].chain or b"", offset=sum(len(each.payload) for each in first)
    )
    earlier.into(sink, first)
    stream.into(sink, [*first[1:], *second])  # begins before the stored position
    number = day.toordinal() - 719_163
    assert read_rows(log, tenant_activity, tenant_ignore) == {
        "tenant_activity": [("tp_1", "lab/m0", number, 3), ("tp_1", "lab/m1", number, 2)],
        "tenant_ignore": [
            ("tp_1", "lab/m0", "one", number), ("tp_1", "lab/m0", "two/fp8", number),
            ("tp_1", "lab/m1", "one", number), ("tp_1", "lab/m1", "two/fp8", number),
        ],
    }  # fmt: skip
