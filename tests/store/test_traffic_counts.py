"""Sums of counters: equal to a plain Python oracle on both databases, in any order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from math import floor, log2
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import Connection, Engine, Select, delete, inspect

from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.evidence.traffic import add_traffic
from assay.engine.world.clock import EPOCH, HOUR
from assay.engine.world.measurements import Counts, TrafficCounts
from assay.engine.world.traffic_table import TrafficTable
from assay.store.counter_cache import CounterCache, CounterCaches
from assay.store.database import reading, writing
from assay.store.evidence_tables import evidence_counter, evidence_day
from assay.store.outcome_counters import count_days
from assay.store.traffic import load_traffic
from assay.store.upserts import add_up

SPEC = EvidenceSpec(max_age=timedelta(days=9))
OTHER = EvidenceSpec(timedelta(days=3), 500.0, timedelta(hours=1), timedelta(hours=50), 1.0)
NOON = 20_000 * 24 + 12
Row = tuple[str, str, str, int, int, int, int, int, int, int, int]


@pytest.fixture
def counters(store: Engine) -> Iterator[Engine]:
    yield store
    empty(store)


def empty(database: Engine) -> None:
    with writing(database) as connection:
        for table in (evidence_counter, evidence_day):
            connection.execute(delete(table))


def count(database: Engine, rows: Iterable[Row]) -> None:
    """Add a batch to the counters of hours and of days, as the sink does."""
    cells = {row[:5]: list(row[5:]) for row in rows}
    with writing(database) as connection:
        add_up(
            connection, evidence_counter, sorted((*cell, *counts) for cell, counts in cells.items())
        )
        add_up(connection, evidence_day, count_days(cells))


def read(
    database: Engine, *specs: EvidenceSpec, end: int = NOON, cache: CounterCaches | None = None
) -> list[tuple[TrafficCounts, ...]]:
    with reading(database) as connection:
        known = {spec.key: spec for spec in specs}
        tables = load_traffic(connection, known, EPOCH + end * HOUR, cache)
    return [(*table.rows(), *map(stale_counts, sorted(table.stale))) for table in tables.values()]


def stale_counts(name: str) -> TrafficCounts:
    """Return what stands for an endpoint all of whose counts are too old."""
    nothing = (0.0, 0.0, 0.0, 0.0, 0.0, Counts(0, 0, 0), 0, 0, 0, 0, 168 * HOUR)
    return TrafficCounts(name, "", "", 0, *nothing)


def row(
    hour: int,
    *counts: int,
    name: str = "m@a",
    source: str = "gw",
    tenant: str = "t",
    stratum: int = 0,
) -> Row:
    """Return a row of requests, calls and errored calls.

    Two more requests had a forced choice, and one more was not answered.
    """
    requests, calls, errored = counts
    cell, answered = (name, source, tenant, stratum, hour), requests + 2
    return (*cell, answered, calls, errored, requests, calls, answered + 1)


# --- the oracle in plain Python ---


def expected_counts(rows: Sequence[Row], spec: EvidenceSpec, end: int) -> tuple[TrafficCounts, ...]:
    """Return the sums by the definition: hour by hour, in exact integers."""
    oldest, today = end - floor(spec.max_age / HOUR), end // 24
    cells: defaultdict[tuple[str, str, str, int], list[Row]] = defaultdict(list)
    stale = set()
    for each in rows:
        ended = each[4] + 1 if each[4] // 24 >= today - 1 else (each[4] // 24 + 1) * 24
        if each[4] < end and ended >= oldest:
            cells[each[:4]].append(each)
        elif ended < oldest and each[4] // 24 < today - 1:
            stale.add(each[0])
    found = [
        one(cell, own, half_life(cell[0], rows, spec, today), end)
        for cell, own in sorted(cells.items())
    ]
    return (*found, *map(stale_counts, sorted(stale - {cell[0] for cell in cells})))


def half_life(name: str, rows: Sequence[Row], spec: EvidenceSpec, today: int) -> float:
    """Return the half-life: the nearest step to the time in which the target count arrives."""
    shortest, longest = spec.half_life_min / HOUR, spec.half_life_max / HOUR
    days = [r[4] // 24 for r in rows if r[0] == name and r[4] // 24 < today]
    recent = [r for r in rows if r[0] == name and today - 7 <= r[4] // 24 < today]
    calls = sum(r[6] for r in recent) - excess_calls(recent, rows, spec)
    if not calls:
        return longest
    wanted = spec.half_life_target * spec.design_effect * min(today - min(days), 7) * 24 / calls
    return min(max(shortest * 2 ** (round(4 * log2(wanted / shortest)) / 4), shortest), longest)


def excess_calls(recent: Sequence[Row], rows: Sequence[Row], spec: EvidenceSpec) -> float:
    """Return the calls above a quarter of the target by tenant and day."""
    most = spec.half_life_target * spec.design_effect / 4
    naming = {r[1] for r in rows if r[2]}
    by_row: defaultdict[tuple[str, str, int, int], int] = defaultdict(int)
    for r in recent:
        by_row[r[1], r[2], r[3], r[4] // 24] += r[6]
    by_tenant: defaultdict[tuple[str, str, int], int] = defaultdict(int)
    for (source, tenant, _, day), number in by_row.items():
        if number > most / 12 and source in naming:
            by_tenant[source, tenant, day] += number
    return sum(number - most for number in by_tenant.values() if number > most)


def one(
    cell: tuple[str, str, str, int], own: Sequence[Row], hours: float, end: int
) -> TrafficCounts:
    sums = [0] * 6
    for each in own:
        day = each[4] // 24
        span = [each[4]] if day >= end // 24 - 1 else range(day * 24, day * 24 + 24)
        weight = round(2**20 * sum(2.0 ** ((h + 1 - end) / hours) for h in span) / len(span))
        sums = [total + weight * number for total, number in zip(sums, each[5:], strict=True)]
    weighted = [total / 2**20 for total in sums]
    now = [each for each in own if each[4] == end - 1]
    recent = [each[4] for each in own if each[4] // 24 >= end // 24 - 1]
    before = [each[4] // 24 for each in own if each[4] // 24 < end // 24 - 1]
    return TrafficCounts(
        *cell,
        requests=weighted[0],
        tool_call_requests=weighted[1],
        errored_requests=weighted[2],
        auto_requests=weighted[3],
        auto_tool_call_requests=weighted[4],
        attempts=weighted[5] if weighted[5] > weighted[0] else None,
        observed=Counts(
            sum(each[5] for each in own), sum(each[6] for each in own), sum(each[7] for each in own)
        ),
        hour_calls=sum(each[6] for each in now),
        hour_errored=sum(each[7] for each in now),
        first_hour=min(before) * 24 if before else min(recent),
        last_hour=max(recent) if recent else max(before) * 24 + 23,
        half_life=timedelta(hours=hours),
    )


# --- comparison ---

COUNTS = st.lists(st.integers(0, 50) | st.integers(0, 10**9), min_size=3, max_size=3).map(
    lambda n: sorted(n)[::-1]
)
ROWS = st.lists(
    st.builds(
        lambda hour, counts, name, source, tenant, stratum: row(
            hour, *counts, name=name, source=source, tenant=tenant, stratum=stratum
        ),
        st.integers(NOON - 12 * 24, NOON + 30),
        COUNTS,
        st.sampled_from(["m@a", "m@b", "n@a"]),
        st.sampled_from(["gw", "other"]),
        st.sampled_from(["", "t", "u"]),
        st.integers(0, 5),
    ),
    max_size=25,
    unique_by=lambda r: r[:5],
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.sampled_from([NOON, NOON - 12, NOON + 11, NOON - 13]))
def test_sums_from_sql_equal_those_of_the_python_oracle(
    counters: Engine, rows: list[Row], end: int
) -> None:
    empty(counters)
    count(counters, rows)
    found = read(counters, SPEC, OTHER, end=end)
    assert found == [expected_counts(rows, SPEC, end), expected_counts(rows, OTHER, end)]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.data())
def test_sums_do_not_depend_on_order_or_batches(
    counters: Engine, rows: list[Row], data: st.DataObject
) -> None:
    empty(counters)
    count(counters, rows)
    count(counters, rows)
    twice = read(counters, SPEC)
    empty(counters)
    left = data.draw(st.permutations([*rows, *rows]))
    while left:
        size = data.draw(st.integers(1, len(left)))
        batch: dict[tuple[object, ...], Row] = {}
        rest = left[size:]
        for each in left[:size]:  # a batch has each cell once
            if each[:5] in batch:
                rest.append(each)
            batch[each[:5]] = each
        count(counters, batch.values())
        left = rest
    assert read(counters, SPEC) == twice


LATER = st.lists(st.tuples(ROWS, st.integers(0, 40)), min_size=1, max_size=4)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LATER, st.sampled_from([0, 60]))
def test_a_cache_that_reads_only_changes_gives_the_same_sums(
    counters: Engine, later: list[tuple[list[Row], int]], back: int
) -> None:
    empty(counters)
    cache, end = CounterCaches(), NOON - 24
    for rows, hours in later:
        count(counters, rows)
        end += hours
        assert read(counters, SPEC, OTHER, end=end, cache=cache) == read(
            counters, SPEC, OTHER, end=end
        )
    end -= back
    assert read(counters, SPEC, OTHER, end=end, cache=cache) == read(counters, SPEC, OTHER, end=end)


def test_a_cache_stays_correct_after_counters_are_deleted(counters: Engine) -> None:
    cache = CounterCaches()
    count(counters, [row(NOON - 1, 10, 5, 1), row(NOON - 2, 10, 5, 1), row(NOON - 99, 10, 5, 1)])
    assert read(counters, SPEC, cache=cache) == read(counters, SPEC)
    empty(counters)
    assert read(counters, SPEC, cache=cache) == [()]
    count(counters, [row(NOON - 2, 10, 5, 1)])
    assert read(counters, SPEC, cache=cache) == read(counters, SPEC)


def test_a_cache_is_correct_after_an_interrupted_read(counters: Engine) -> None:
    cache, spans = CounterCache(), range(NOON - 9, NOON)
    count(
        counters,
        [row(NOON - 1, 10, 5, 1), row(NOON - 2, 10, 5, 1), row(NOON - 2, 10, 5, 1, name="m@b")],
    )
    with reading(counters) as connection:
        with pytest.raises(ConnectionResetError):
            cache.hours.refresh(cast("Connection", InterruptedConnection(connection)), spans)
        assert not len(cache.hours.rows.span)
        cache.hours.refresh(connection, spans)
    assert sorted(cache.hours.rows.counts[0]) == [12, 12, 12]


class InterruptedConnection:
    """A connection that is lost after the second row."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def execute(self, query: Select[Any]) -> Iterator[Any]:
        for number, found in enumerate(self.connection.execute(query)):
            if number == 2:
                raise ConnectionResetError
            yield found


@pytest.mark.parametrize(
    ("hour", "seen"),
    [
        pytest.param(NOON, False, id="the hour that has not ended"),
        pytest.param(NOON - 1, True, id="the one that has just closed"),
        pytest.param(NOON - 36, True, id="the first of yesterday"),
        pytest.param(NOON - 37, True, id="the last of the day before"),
        pytest.param((20_000 - 9) * 24, True, id="the day that ended within the limit"),
        pytest.param((20_000 - 10) * 24 + 23, False, id="the one that ended before it"),
    ],
)
def test_closed_hours_count_until_the_age_limit(counters: Engine, hour: int, *, seen: bool) -> None:
    count(counters, [row(hour, 10, 5, 1)])
    (found,) = read(counters, SPEC)
    assert [each.observed for each in found if each.observed.requests] == [Counts(12, 5, 1)] * seen
    assert (found == ()) is (hour == NOON)


def test_the_closed_hour_is_also_counted_alone(counters: Engine) -> None:
    count(counters, [row(NOON - 1, 10, 5, 1), row(NOON - 2, 10, 7, 2), row(NOON - 25, 9, 9, 9)])
    ((found,),) = read(counters, SPEC)
    assert (found.hour_calls, found.hour_errored) == (5, 1)
    ((before,),) = read(counters, SPEC, end=NOON - 1)
    assert (before.hour_calls, before.hour_errored) == (7, 2)


def test_attempts_that_were_never_answered_are_read_but_are_no_evidence_of_calls(
    counters: Engine,
) -> None:
    cache = CounterCaches()
    cell = ("m@a", "gw", "t", 0)
    count(counters, [(*cell, NOON - 1, 0, 0, 0, 0, 0, 4)])
    ((found,),) = read(counters, SPEC, cache=cache)
    assert (found.requests, found.attempts) == (0.0, 4.0)
    count(counters, [(*cell, NOON - 1, 0, 0, 0, 0, 0, 4)])
    ((found,),) = read(counters, SPEC, cache=cache)
    assert found.attempts == 8.0
    assert add_traffic({}, TrafficTable.of([found]), SPEC) == {}
    count(counters, [(*cell, NOON - 24 * 40, 5, 5, 0, 5, 5, 5)])
    ((found, stale),) = read(counters, SPEC, cache=cache)
    assert add_traffic({}, TrafficTable.of([found, stale]), SPEC)["m@a"].stale


def test_a_busy_endpoint_has_a_shorter_half_life(counters: Engine) -> None:
    busy = [
        row(NOON - 24 * day, 3_000, 1000, 0, tenant=f"t{n}")
        for day in range(1, 8)
        for n in range(10)
    ]
    quiet = [row(NOON - 24 * day, 30, 10, 0, name="m@b") for day in range(1, 8)]
    count(counters, [*busy, *quiet])
    ((first, *_, second),) = read(counters, SPEC)
    assert (first.half_life, second.half_life) == (12 * HOUR, 168 * HOUR)
    assert first.tool_call_requests / 1000 < second.tool_call_requests / 10


@pytest.mark.parametrize(
    ("source", "tenant", "shortest"),
    [
        pytest.param("gw", "flood", False, id="one tenant"),
        pytest.param("gw", "", False, id="requests without a name, of a source that names tenants"),
        pytest.param("lab", "", True, id="a source that names no tenants"),
    ],
)
def test_one_tenant_hardly_shortens_the_half_life(
    counters: Engine, source: str, tenant: str, *, shortest: bool
) -> None:
    usual = [
        row(NOON - 24 * day, 200, 90, 0, tenant=f"t{n}") for day in range(1, 8) for n in range(10)
    ]
    count(counters, usual)
    ((before, *_),) = read(counters, SPEC)
    flood = [
        row(NOON - 30, 60_000, 60_000, 0, source=source, tenant=tenant, stratum=stratum)
        for stratum in range(2)
    ]
    count(counters, flood)
    ((after, *_),) = read(counters, SPEC)
    assert (after.half_life < before.half_life / 2) is shortest


def test_reading_leaves_the_database_unchanged(counters: Engine) -> None:
    count(counters, [row(NOON - 1, 10, 5, 1)])
    with reading(counters) as connection:
        specs = {SPEC.key: SPEC, OTHER.key: OTHER}
        once, again = (load_traffic(connection, specs, EPOCH + NOON * HOUR) for _ in range(2))
        assert [each.rows() for each in again.values()] == [each.rows() for each in once.values()]
        assert inspect(connection).get_temp_table_names() == []


def test_large_counts_are_summed_exactly(counters: Engine) -> None:
    spec = replace(SPEC, half_life_min=168 * HOUR)
    rows = [
        row(NOON - 1, 10**12, 10**12 - 1, 1),
        row(NOON - 30, 10**12, 3, 3),
        row(NOON - 80, 7, 7, 7),
    ]
    count(counters, rows)
    assert read(counters, spec) == [expected_counts(rows, spec, NOON)]
