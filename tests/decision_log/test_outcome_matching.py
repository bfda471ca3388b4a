"""Outcomes belong to decisions: each attempt counts once, whatever the order and the process."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import Engine, delete, func, select
from tests.support.decision_streams import (
    OTHER,
    STREAM,
    Stream,
    derive,
    empty_log,
    make_sink,
    payloads,
    rejecting_writes,
)
from tests.support.outcomes import (
    ALONE,
    COUNTERS,
    DECISION,
    NOW_US,
    SOUND,
    change_outcome,
    make_batch,
    make_decision,
    report_outcome,
)

from assay.decision_log.outcome_matching import DECISIONS, WAITING, settle_waiting
from assay.decision_log.retention import erase_tenant
from assay.engine.errors import StoreUnavailable
from assay.engine.world.clock import EPOCH
from assay.journal.sink import JournalRecord, RecordKind
from assay.outcomes.outcome import (
    Outcome,
    OutcomeBatch,
    OutcomeReport,
    RejectedCount,
    encode_outcomes,
)
from assay.store.database import open_database, reading, writing, writing_concurrently
from assay.store.evidence_tables import (
    evidence_batch,
    outcome,
    service_counter,
    uncounted_outcome,
    waiting_outcome,
)

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
NOW = datetime.fromtimestamp(NOW_US / 1_000_000, UTC)
UNKNOWN = DECISION.replace("0", "1")
THREE = ("lab/m0@one", "lab/m0@two", "lab/m0@three")


@pytest.fixture
def log(store: Engine) -> Iterator[Engine]:
    yield store
    empty(store)


def empty(database: Engine) -> None:
    empty_log(database)
    with writing(database) as connection:
        for table in (*COUNTERS, evidence_batch, outcome, uncounted_outcome, waiting_outcome):
            connection.execute(delete(table))


def counters(database: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with reading(database) as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table)))) for table in COUNTERS
        }


def answered(database: Engine) -> int:
    """How many outcomes count."""
    query = select(func.coalesce(func.sum(service_counter.c["count"]), 0)).where(
        service_counter.c.metric == "answered"
    )
    with reading(database) as connection:
        return int(connection.scalar(query) or 0)


def uncounted(database: Engine) -> dict[str, int]:
    table = uncounted_outcome.c
    query = select(table.kind, func.sum(table["count"])).group_by(table.kind)
    with reading(database) as connection:
        return {kind: int(count) for kind, count in connection.execute(query)}


def waiting(database: Engine) -> int:
    with reading(database) as connection:
        return connection.scalar(select(func.count()).select_from(waiting_outcome)) or 0


def outcomes_record(stream: Stream, batch: OutcomeBatch) -> JournalRecord:
    return stream.unchained(RecordKind.OUTCOMES, encode_outcomes(batch))


def report(database: Engine, stream: Stream, *reports: OutcomeReport, batch_id: str = "b") -> None:
    """Ship a batch of outcomes by a process that remembers nothing."""
    batch = make_batch(list(reports), batch_id)
    stream.into(make_sink(database), [outcomes_record(stream, batch)])


def decide(database: Engine, stream: Stream, *decisions: Any) -> None:
    """Ship decisions by a process that remembers nothing."""
    stream.into(make_sink(database), stream.records(payloads(decisions or [make_decision()])))


@pytest.mark.parametrize("order", ["decision first", "outcome first", "in one batch"])
def test_an_outcome_counts_once_its_decision_is_there(log: Engine, order: str) -> None:
    stream, other = Stream(), Stream(OTHER)
    if order == "in one batch":
        batch = make_batch([report_outcome(SOUND)], "b")
        decisions = stream.records(payloads([make_decision()]))
        stream.into(make_sink(log), [outcomes_record(stream, batch), *decisions])
    elif order == "decision first":
        decide(log, stream)
        report(log, other, report_outcome(SOUND))
    else:
        report(log, stream, report_outcome(SOUND))
        assert (answered(log), waiting(log), uncounted(log)) == (0, 1, {})
        decide(log, other)
    assert (answered(log), waiting(log), uncounted(log)) == (1, 0, {})
    with reading(log) as connection:
        row = connection.execute(select(outcome)).one()
    assert row[:2] == (DECISION, 1)
    assert (row.endpoint_id, row.source, row.result) == ("lab/m0@one", "gw", "answered")


NO_MATCH = [
    pytest.param({"decision_id": UNKNOWN}, "lab/m0@one", "unknown-decision", id="no such decision"),
    pytest.param({}, "lab/m0@two", "wrong-endpoint", id="another attempt's endpoint"),
    pytest.param({}, "lab/m1@one", "wrong-endpoint", id="an endpoint that was excluded"),
    pytest.param({"attempt": 77}, "lab/m0@one", "no-such-attempt", id="attempt 77"),
    pytest.param({"attempt": 4}, "lab/m0@three", "no-such-attempt", id="one attempt too many"),
    pytest.param(
        {"at_us": NOW_US + 25 * HOUR_US}, "lab/m0@one", "late", id="25 hours after the decision"
    ),
    pytest.param(
        {"at_us": NOW_US - 7 * MINUTE_US}, "lab/m0@one", "early", id="6 minutes before the decision"
    ),
]


@pytest.mark.parametrize("order", ["decision first", "outcome first"])
@pytest.mark.parametrize(("changes", "endpoint_id", "kind"), NO_MATCH)
def test_an_outcome_that_belongs_to_no_attempt_moves_nothing_and_is_counted_as_such(
    log: Engine, changes: dict[str, Any], endpoint_id: str, kind: str, order: str
) -> None:
    wrong = report_outcome(change_outcome(**changes), endpoint_id)
    decision = make_decision(*THREE)
    if order == "decision first":
        decide(log, Stream(), decision)
    report(log, Stream(OTHER), wrong)
    if order == "outcome first":
        decide(log, Stream(), decision)
    settle_waiting(log, NOW + timedelta(days=3), read=derive)
    assert all(rows == [] for rows in counters(log).values())
    with reading(log) as connection:
        assert connection.execute(select(outcome)).all() == []
        rows = [tuple(row) for row in connection.execute(select(uncounted_outcome))]
    assert rows == [(NOW_US // (24 * HOUR_US), kind, "gw", endpoint_id, 1)]
    report(log, Stream("c" * 32), report_outcome(SOUND), batch_id="right")
    assert answered(log) == 1, "a wrong report must not take the place of the right one"


@pytest.mark.parametrize(
    "after_us",
    [
        pytest.param(-5 * MINUTE_US, id="a clock five minutes behind"),
        pytest.param(24 * HOUR_US, id="exactly a day"),
    ],
)
def test_the_edges_of_the_reporting_window_count(log: Engine, after_us: int) -> None:
    decide(log, Stream(), make_decision(decided_us=SOUND.at_us - after_us))
    report(log, Stream(OTHER), report_outcome(SOUND))
    assert (answered(log), uncounted(log)) == (1, {})


OTHER_VALUES = [
    pytest.param({"errored_requests": 1}, id="an error that the first did not report"),
    pytest.param({"tool_choice": "required"}, id="another tool choice"),
    pytest.param({"result": "timeout", "tools": None}, id="another result"),
    pytest.param({"at_us": SOUND.at_us - 1}, id="another time"),
]


@pytest.mark.parametrize("first", ["decision", "outcome"])
@pytest.mark.parametrize("changes", OTHER_VALUES)
def test_a_second_report_with_other_values_contradicts_the_first_one(
    log: Engine, changes: dict[str, Any], first: str
) -> None:
    stream, other = Stream(), Stream(OTHER)
    if first == "decision":
        decide(log, other)
    for number, each in enumerate((SOUND, change_outcome(**changes), SOUND)):
        batch = make_batch([report_outcome(each)], f"b-{number}")
        batch = batch._replace(received_us=NOW_US + number)
        stream.into(make_sink(log), [outcomes_record(stream, batch)])
    if first == "outcome":
        decide(log, other)
    assert answered(log) == 1
    assert uncounted(log) == {"contradicting": 1, "duplicate": 1}
    with reading(log) as connection:
        (found,) = connection.execute(select(outcome)).all()
    assert (found.result, found.errored_calls, found.at) == (
        "answered",
        0,
        EPOCH + timedelta(microseconds=SOUND.at_us),
    )


def test_a_report_of_an_attempt_from_before_the_upgrade_is_a_duplicate(log: Engine) -> None:
    stream = Stream()
    decide(log, stream)
    report(log, stream, report_outcome(SOUND))
    with writing(log) as connection:
        connection.execute(outcome.update().values(fingerprint=None))
    report(log, stream, report_outcome(change_outcome(errored_requests=1)), batch_id="b-2")
    assert (answered(log), uncounted(log)) == (1, {"duplicate": 1})


def test_the_same_report_by_another_tenant_name_or_source_is_a_duplicate(log: Engine) -> None:
    """Each process gives a tenant a pseudonym of its own."""
    stream = Stream()
    decide(log, stream)
    report(log, stream, report_outcome(SOUND, tenant="acme"), batch_id="b-1")
    again = make_batch([report_outcome(SOUND, tenant="beta")], "b-2", "other")
    stream.into(make_sink(log), [outcomes_record(stream, again)])
    assert (answered(log), uncounted(log)) == (1, {"duplicate": 1})


def test_outcomes_without_a_decision_count_once_per_batch(log: Engine) -> None:
    stream = Stream()
    for batch_id in ("b-1", "b-2", "b-1"):
        report(log, stream, report_outcome(ALONE), batch_id=batch_id)
    assert (answered(log), uncounted(log), waiting(log)) == (2, {}, 0)


def test_counts_of_outcomes_rejected_on_receipt_are_stored_once(log: Engine) -> None:
    stream = Stream()
    rejected = RejectedCount("duplicate", "lab/m0@one", 3), RejectedCount("late", "lab/m0@two", 2)
    batch = make_batch([], "b-1")._replace(rejected=rejected)
    for _ in range(3):
        stream.into(make_sink(log), [outcomes_record(stream, batch)])
    assert uncounted(log) == {"duplicate": 3, "late": 2}


def test_outcomes_wait_a_day_and_then_count_as_unknown(log: Engine) -> None:
    reports = [report_outcome(change_outcome(attempt=n + 1), THREE[n]) for n in range(3)]
    report(log, Stream(), *reports)
    assert settle_waiting(log, NOW - WAITING, read=derive) == {}
    assert waiting(log) == 3
    kinds = settle_waiting(log, NOW + timedelta(seconds=1), read=derive, batch=2)
    assert kinds == {"unknown-decision": 3} == uncounted(log)
    assert waiting(log) == 0
    decide(log, Stream(OTHER))
    report(log, Stream("c" * 32), *reports, batch_id="again")
    assert answered(log) == 3, "the decision was late, and so its reports are sent again"


def test_an_outcome_whose_decision_is_there_counts_even_if_nothing_settled_it(log: Engine) -> None:
    """A server of the version before stores decisions without a look at what waits."""
    report(log, Stream(), report_outcome(SOUND), report_outcome(change_outcome(attempt=9)))
    with writing(log) as connection:
        rows = [dict(row) for row in connection.execute(select(waiting_outcome)).mappings()]
        connection.execute(delete(waiting_outcome))
    decide(log, Stream(OTHER))
    with writing(log) as connection:
        connection.execute(waiting_outcome.insert(), rows)
    assert settle_waiting(log, NOW + timedelta(days=1), read=derive) == {"no-such-attempt": 1}
    assert (answered(log), waiting(log)) == (1, 0)


def test_a_decision_that_is_recorded_but_unreadable_keeps_its_outcomes_waiting(log: Engine) -> None:
    stream = Stream()
    stream.into(make_sink(log), stream.records([b"not a record"]))
    report(log, stream, report_outcome(SOUND))
    assert (answered(log), waiting(log)) == (0, 1)


def test_erasing_a_tenant_deletes_its_waiting_outcomes_alone(log: Engine) -> None:
    stream = Stream()
    reports = [report_outcome(SOUND), report_outcome(change_outcome(attempt=2), tenant="beta")]
    names = [stream.tenant(name, f"p-{name}") for name in ("acme", "beta")]
    batch = outcomes_record(stream, make_batch(reports, "b"))
    stream.into(make_sink(log), [*names, batch])
    erase_tenant(log, "acme")
    with reading(log) as connection:
        assert connection.scalars(select(waiting_outcome.c.tenant)).all() == ["p-beta"]


@pytest.mark.parametrize("table", ["outcome", "uncounted_outcome", "service_counter"])
def test_a_failed_transaction_keeps_what_waits(log: Engine, table: str) -> None:
    report(
        log, Stream(), report_outcome(SOUND), report_outcome(change_outcome(attempt=77)),
    )  # fmt: skip
    with rejecting_writes(log, table), pytest.raises(StoreUnavailable, match="refused"):
        decide(log, Stream(OTHER))
    assert (answered(log), waiting(log), uncounted(log)) == (0, 2, {})
    decide(log, Stream(OTHER))
    assert (answered(log), waiting(log), uncounted(log)) == (1, 0, {"no-such-attempt": 1})


def test_a_process_that_remembers_a_decision_whose_transaction_failed_does_not_count_for_it(
    log: Engine,
) -> None:
    sink, stream = make_sink(log), Stream()
    failed = Stream(OTHER)
    with rejecting_writes(log, "decision"), pytest.raises(StoreUnavailable):
        failed.into(sink, failed.records(payloads([make_decision()])))
    stream.into(sink, [outcomes_record(stream, make_batch([report_outcome(SOUND)], "b"))])
    assert (answered(log), waiting(log)) == (0, 1)


class Party:
    """One process that ships its own stream."""

    def __init__(self, database: Engine, name: str) -> None:
        self.sink = make_sink(database)
        self.stream = Stream(name)

    def ship(self, step: Any) -> None:
        records = (
            [outcomes_record(self.stream, step)]
            if isinstance(step, OutcomeBatch)
            else self.stream.records(payloads([step]))
        )
        self.stream.into(self.sink, records)


def decision_id(number: int) -> str:
    return f"0198f2a4-5b6c-7d8e-9f01-{number:012x}"


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """Decisions and right reports, as sent once; then as sent often and with wrong ones."""
    count = draw(st.integers(1, 4))
    decisions = [make_decision(*THREE, decision_id=decision_id(n)) for n in range(count)]
    right: list[OutcomeReport] = []
    for number in range(count):
        ranks = draw(st.sets(st.integers(1, 3), min_size=1))
        right += [report_outcome(own(number, rank), THREE[rank - 1]) for rank in ranks]
    wrong = [
        report_outcome(own(number, rank), endpoint)
        for number, rank, endpoint in draw(
            st.lists(
                st.tuples(
                    st.integers(0, count), st.integers(1, 9), st.sampled_from(("lab/m1@one",))
                ),
                max_size=4,
            )
        )
    ]
    sent: list[Any] = [
        make_batch([each], f"b-{number}")
        for number, each in enumerate([*right * draw(st.integers(1, 4)), *wrong])
    ]
    sent += draw(st.lists(st.sampled_from(sent), max_size=4))  # the same batches again
    return [*decisions, make_batch(right, "all")], draw(st.permutations([*decisions, *sent]))


def own(number: int, rank: int) -> Outcome:
    return change_outcome(decision_id=decision_id(number), attempt=rank, errored_requests=rank % 2)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(histories(), st.randoms(use_true_random=False))
def test_counters_do_not_depend_on_order_repetition_batches_or_process(
    log: Engine, history: tuple[list[Any], list[Any]], draw: random.Random
) -> None:
    once, often = history
    empty(log)
    party = Party(log, STREAM)
    for step in once:
        party.ship(step)
    expected = counters(log)
    empty(log)
    parties = [Party(log, STREAM), Party(log, OTHER)]
    for step in often:
        draw.choice(parties).ship(step)
    assert counters(log) == expected


def test_concurrent_replicas_neither_lose_nor_repeat_an_outcome(log: Engine) -> None:
    """One ships decisions, two ship their outcomes twice, all at the same time."""
    count = 60
    decisions = [make_decision(*THREE, decision_id=decision_id(n)) for n in range(count)]
    batches = [make_batch([report_outcome(own(n, 1), THREE[0])], f"b-{n}") for n in range(count)]
    again = [batch._replace(batch_id=f"again-{n}") for n, batch in enumerate(batches)]
    work: list[Sequence[Any]] = [decisions, batches, again[::-1]]
    start, troubles = threading.Barrier(len(work)), []

    def run(name: str, steps: Sequence[Any]) -> None:
        database = open_database(log.url.render_as_string(hide_password=False))
        party = Party(database, name)
        start.wait()
        try:
            for step in steps:
                party.ship(step)
        except Exception as error:  # noqa: BLE001 - the test reports it below
            troubles.append(error)
        finally:
            database.dispose()

    threads = [
        threading.Thread(target=run, args=(letter * 32, steps))
        for letter, steps in zip("abc", work, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert (answered(log), waiting(log), uncounted(log)) == (count, 0, {"duplicate": count})


@pytest.mark.parametrize("first", ["decision", "outcome"])
def test_transactions_that_do_not_see_each_other_settle_the_outcome(
    log: Engine, first: str
) -> None:
    """Each waits for the other's commit where it would have missed its rows."""
    if log.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer")
    decision_party, outcome_party = Party(log, STREAM), Party(log, OTHER)
    batch = make_batch([report_outcome(SOUND)], "b")
    steps = [(decision_party, make_decision()), (outcome_party, batch)]
    if first == "outcome":
        steps.reverse()
    with writing_concurrently(log) as blocker:
        # Hold what both commit behind: the first of them has written, and cannot commit yet.
        blocker.execute(select(func.pg_advisory_xact_lock(DECISIONS)))
        threads = [threading.Thread(target=party.ship, args=(step,)) for party, step in steps]
        for number, thread in enumerate(threads, 1):
            thread.start()
            wait_for_lock_waiters(log, number)
    for thread in threads:
        thread.join()
    assert (answered(log), waiting(log), uncounted(log)) == (1, 0, {})


def wait_for_lock_waiters(database: Engine, number: int) -> None:
    """Wait until so many sessions wait for an advisory lock."""
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with database.connect() as connection:
        while (connection.exec_driver_sql(query).scalar() or 0) < number:
            connection.rollback()
