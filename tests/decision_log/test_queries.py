"""Queries of decisions: pages have no gaps or repeats, agree with a full scan, and time out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import attrgetter

import pytest
from sqlalchemy import ColumnElement, Engine, and_, func, literal, not_, or_, select, update
from tests.support.decision_rows import BEGIN, SPAN
from tests.support.decision_streams import (
    OTHER,
    STREAM,
    Stream,
    empty_log,
    encode_row,
    make_rows,
    make_sink,
    payloads,
    ship,
    spread_out,
)

from assay.decision_log import queries as audit_queries, streams as audit_log
from assay.decision_log.decision_row import DerivedDecision, ListKey, StoredDecision
from assay.decision_log.queries import QueryTooSlow, get_decision, list_decisions
from assay.decision_log.streams import (
    heads,
    records,
    records_between,
    records_of,
    snapshot_ids_in_use,
    strays,
    streams,
    words_of,
)
from assay.decision_log.tables import decision, finding_set_word, journal_record
from assay.engine.errors import StoreUnavailable
from assay.store.database import writing
from assay.store.tables import tenant_pseudonym

END = BEGIN + SPAN
MINUTE = timedelta(minutes=1)
Where = ColumnElement[bool] | None


@pytest.fixture
def log(store: Engine) -> Iterator[Engine]:
    yield store
    empty_log(store)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make windows so small that a page needs several of them."""
    monkeypatch.setattr(audit_queries, "FIRST_WINDOW", 7)
    monkeypatch.setattr(audit_log, "_WINDOW", 7)
    monkeypatch.setattr(audit_log, "_PIECE", 5)


def has(kind: str, word: str) -> ColumnElement[bool]:
    words = finding_set_word.alias()
    sets = select(words.c.finding_set).where(words.c.kind == kind, words.c.word == word)
    return decision.c.finding_set.in_(sets.correlate_except(words))


def pages(
    database: Engine, where: Where, limit: int, since: datetime = BEGIN, until: datetime = END
) -> list[str]:
    found: list[str] = []
    after: ListKey | None = None
    while page := list_decisions(
        database, where, since=since, until=until, after=after, limit=limit
    ):
        assert len(page) <= limit
        found += [each.decision_id for each in page]
        after = page[-1].key
    return found


def newest_first(rows: Sequence[DerivedDecision]) -> list[str]:
    return [
        row.decision_id
        for row in sorted(rows, key=attrgetter("decided_at", "decision_id"), reverse=True)
    ]


QUESTIONS: dict[str, tuple[Where, Callable[[DerivedDecision], bool]]] = {
    "all": (None, lambda _: True),
    "one tenant": (decision.c.tenant == f"tp_{0:020x}", lambda row: row.tenant == f"tp_{0:020x}"),
    "none": (decision.c.tenant == "unknown", lambda _: False),
    "an excluded provider": (
        has("excluded_provider", "provider-03"),
        lambda row: "provider-03" in row.words["excluded_provider"],
    ),
    "not an excluded provider": (
        not_(has("excluded_provider", "provider-03")),
        lambda row: "provider-03" not in row.words["excluded_provider"],
    ),
    "an unknown word": (has("reason", "BAD_LUCK"), lambda _: False),
    "not an unknown word": (not_(has("reason", "BAD_LUCK")), lambda _: True),
    "one provider and not another, or few attempts": (
        or_(
            and_(has("excluded_provider", "provider-03"), ~has("reason", "PRICE")),
            decision.c.attempts < 10,
        ),
        lambda row: (
            ("provider-03" in row.words["excluded_provider"] and "PRICE" not in row.words["reason"])
            or row.attempts < 10
        ),
    ),
    "a policy revision": (decision.c.policy_revision == 3, lambda row: row.policy_revision == 3),
    "demoted": (decision.c.demoted > 0, lambda row: row.demoted > 0),
}


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("limit", [3, 50, 1000])
def test_pages_contain_the_same_decisions_as_a_full_scan(
    log: Engine, name: str, limit: int
) -> None:
    rows = make_rows(400)
    ship(log, Stream(), rows)
    where, holds = QUESTIONS[name]
    assert pages(log, where, limit) == newest_first([row for row in rows if holds(row)])


@pytest.mark.usefixtures("small_windows")
def test_decisions_of_one_instant_are_paged_by_id(log: Engine) -> None:
    rows = make_rows(60, decided_at=BEGIN)
    ship(log, Stream(), rows)
    assert pages(log, None, 7) == newest_first(rows)


@pytest.mark.usefixtures("small_windows")
def test_a_time_range_includes_its_start_and_excludes_its_end(log: Engine) -> None:
    rows = spread_out(make_rows(60), BEGIN, MINUTE)
    ship(log, Stream(), rows)
    assert pages(log, None, 4, BEGIN + 10 * MINUTE, BEGIN + 40 * MINUTE) == newest_first(
        rows[10:40]
    )
    assert pages(log, None, 4, BEGIN + 10 * MINUTE, BEGIN + 10 * MINUTE) == []
    assert pages(log, None, 4, END, BEGIN) == []


@pytest.mark.usefixtures("small_windows")
def test_a_page_token_outside_the_time_range_is_accepted(log: Engine) -> None:
    rows = spread_out(make_rows(30), BEGIN, MINUTE)
    ship(log, Stream(), rows)
    late = list_decisions(log, None, since=BEGIN, until=END, after=(END + MINUTE, "x"), limit=100)
    assert [each.decision_id for each in late] == newest_first(rows)
    assert (
        list_decisions(log, None, since=BEGIN, until=END, after=(BEGIN - MINUTE, "x"), limit=100)
        == ()
    )


@pytest.mark.usefixtures("small_windows")
def test_paging_returns_each_decision_once_while_others_are_added(log: Engine) -> None:
    rows = spread_out(make_rows(300), BEGIN, MINUTE)
    ship(log, Stream(), rows)
    later = spread_out(make_rows(3000, seed=5), BEGIN + 300 * MINUTE, MINUTE)
    stop = threading.Event()

    def go_on() -> None:
        stream = Stream(OTHER)
        for start in range(0, len(later), 20):
            if stop.is_set():
                return
            ship(log, stream, later[start : start + 20])

    thread = threading.Thread(target=go_on)
    thread.start()
    time.sleep(0.05)
    first = list_decisions(log, None, since=BEGIN, until=END, limit=1)[0]
    found, after = [first.decision_id], first.key
    while page := list_decisions(log, None, since=BEGIN, until=END, after=after, limit=11):
        found += [each.decision_id for each in page]
        after = page[-1].key
    stop.set()
    thread.join()
    older = [row for row in (*rows, *later) if (row.decided_at, row.decision_id) <= first.key]
    assert found == newest_first(older)


def test_a_query_that_takes_too_long_is_canceled(log: Engine) -> None:
    ship(log, Stream(), make_rows(200))
    first = select(literal(1).label("n")).cte("numbers", recursive=True)
    numbers = first.union_all(select(first.c.n + 1).where(first.c.n < 10**9))
    endless = select(func.count()).select_from(numbers)
    begin = time.monotonic()
    with pytest.raises(QueryTooSlow, match=r"no result within 0\.3 s") as caught:
        list_decisions(
            log,
            decision.c.seq < endless.scalar_subquery(),
            since=BEGIN,
            until=END,
            limit=10,
            seconds=0.3,
        )
    assert time.monotonic() - begin < 3
    assert isinstance(caught.value, StoreUnavailable)
    assert len(list_decisions(log, None, since=BEGIN, until=END, limit=10)) == 10


def test_a_connection_has_no_time_limit_after_a_timeout(log: Engine) -> None:
    ship(log, Stream(), make_rows(600))
    with pytest.raises(QueryTooSlow):
        list_decisions(log, None, since=BEGIN, until=END, limit=10, seconds=0)
    assert len(list(records(log, STREAM))) == 600


def test_a_decision_is_found_by_its_id(log: Engine) -> None:
    rows = make_rows(3)
    ship(log, Stream(), rows)
    found = get_decision(log, rows[1].decision_id)
    assert found is not None
    assert (found.stream, found.seq, found.decided_at) == (STREAM, 2, rows[1].decided_at)
    assert get_decision(log, "nope") is None


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 23])
def test_records_of_a_stream_are_ordered_by_number(log: Engine, count: int) -> None:
    rows = make_rows(count)
    ship(log, Stream(), rows, batch=4)
    ship(log, Stream(OTHER), make_rows(3, seed=9))
    found = list(records(log, STREAM))
    assert [record.payload for record in found] == payloads(rows)
    assert [record.seq for record in records(log, STREAM, after=3, until=5)] == [
        s for s in (4, 5) if s <= count
    ]


@pytest.mark.usefixtures("small_windows")
def test_records_of_decisions_have_the_order_of_the_ids(log: Engine) -> None:
    rows = make_rows(23)
    ship(log, Stream(), rows)
    asked = [row.decision_id for row in reversed(rows)]
    assert [
        r.decision and r.decision.decision_id for r in records_of(log, [*asked, "nope"])
    ] == asked


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("name", QUESTIONS)
def test_records_of_a_time_range_are_ordered_oldest_first(log: Engine, name: str) -> None:
    rows = make_rows(100)
    ship(log, Stream(), rows)
    where, holds = QUESTIONS[name]
    since, until = rows[10].decided_at, rows[90].decided_at
    found = [record.payload for record in records_between(log, where, since=since, until=until)]
    wanted = sorted(
        (row for row in rows[10:90] if holds(row)), key=attrgetter("decided_at", "decision_id")
    )
    assert found == payloads(wanted)


def test_a_stream_is_listed_if_any_of_its_tables_has_a_row(log: Engine) -> None:
    for number, name in enumerate((OTHER, STREAM)):
        ship(log, Stream(name), make_rows(4, seed=number))
    first, second = streams(log)
    assert (first.stream, second.stream) == (STREAM, OTHER)
    assert first.shipped is not None
    assert (first.shipped.seq, first.pruned, first.pruned_at) == (4, None, None)
    assert heads(log, STREAM) == (first.head,)
    with writing(log) as connection:
        for table in ("journal_position", "chain_head", "decision"):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - three names
    assert [each.stream for each in streams(log)] == [STREAM, OTHER]
    assert heads(log, "nope") == ()


def test_a_row_without_a_record_is_a_stray(log: Engine) -> None:
    rows = make_rows(5)
    ship(log, Stream(), rows)
    assert strays(log) == ()
    with writing(log) as connection:
        connection.execute(update(journal_record).where(journal_record.c.seq == 3).values(seq=99))
    assert [each.decision_id for each in strays(log)] == [rows[2].decision_id]


def test_snapshots_of_logged_decisions_are_in_use(log: Engine) -> None:
    assert snapshot_ids_in_use(log) == ()
    rows = [
        replace(row, snapshot_id=f"snapshot-{number % 3}")
        for number, row in enumerate(make_rows(30))
    ]
    ship(log, Stream(), rows)
    assert snapshot_ids_in_use(log) == ("snapshot-0", "snapshot-1", "snapshot-2")


def test_an_unknown_finding_set_has_no_words(log: Engine) -> None:
    assert words_of(log, []) == {}
    assert words_of(log, ["nope"]) == {"nope": {}}


def test_lookups_are_resolved_before_the_database_plans_the_query(log: Engine) -> None:
    names = tenant_pseudonym.alias()
    tenant = decision.c.tenant.in_(
        select(names.c.pseudonym).where(names.c.tenant == "acme").correlate_except(names)
    )
    of_decision = decision.c.tenant.in_(
        select(names.c.pseudonym).where(names.c.tenant == decision.c.model)
    )
    assert audit_queries._is_lookup(tenant)
    assert audit_queries._is_lookup(~tenant)
    assert not audit_queries._is_lookup(of_decision)
    assert not audit_queries._is_lookup(decision.c.tenant.in_(["a"]))
    stream, rows = Stream(), make_rows(3)
    sent = [
        stream.tenant("acme", rows[1].tenant),
        *stream.records([encode_row(row) for row in rows]),
    ]
    stream.into(make_sink(log), sent)
    wanted = newest_first([row for row in rows if row.tenant == rows[1].tenant])
    assert pages(log, tenant, 10) == wanted
    assert pages(log, ~tenant, 10) == newest_first(
        [row for row in rows if row.decision_id not in wanted]
    )


@pytest.mark.usefixtures("small_windows")
def test_a_lookup_with_many_results_remains_a_subquery(
    log: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_queries, "_MAX_RESOLVED", 2)
    rows = make_rows(200)
    ship(log, Stream(), rows)
    where, holds = QUESTIONS["an excluded provider"]
    assert pages(log, where, 50) == newest_first([row for row in rows if holds(row)])


def test_rows_that_are_read_are_values(log: Engine) -> None:
    ship(log, Stream(), make_rows(1))
    (found,) = list_decisions(log, None, since=BEGIN, until=END, limit=5)
    assert isinstance(found, StoredDecision)
    assert found == get_decision(log, found.decision_id)
