"""Counters of traffic added up as of a closed hour: whole numbers, so that order and database make no difference.

Yesterday and today are read by the hour, everything before by the day. SQL adds them up; who ticks hour by hour keeps
them in a book instead, and reads what has grown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    TextClause,
    case,
    delete,
    func,
    select,
    text,
)

from assay.engine.evidence.decay import (
    RATE_DAYS,
    WEIGHT_SCALE,
    EvidenceSpec,
    counting_window,
    day_weight,
    half_life_step,
    half_lives,
    hour_weight,
)
from assay.engine.world.clock import HOURS_PER_DAY
from assay.engine.world.measurements import Counts, TrafficCounts
from assay.store.counter_cache import COUNTS, Cell, Sums, TableCache
from assay.store.evidence_tables import evidence_counter, evidence_day
from assay.store.types import NAME
from assay.store.upserts import keep_first

temporary = MetaData()
fold_step = (
    Table(  # on which half-life an endpoint is; on the last one where it does not stand here
        "fold_step",
        temporary,
        Column("endpoint_id", NAME, primary_key=True),
        Column("step", Integer, nullable=False),
        prefixes=["TEMPORARY"],
    )
)
fold_weight = Table(  # what counts of an hour or a day weigh there
    "fold_weight",
    temporary,
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("span", Integer, primary_key=True, autoincrement=False),
    Column("weight", Integer, nullable=False),
    prefixes=["TEMPORARY"],
)

SUMS: Final = (
    *(f"{name} * weight" for name in COUNTS),
    *COUNTS[:3],
    *(f"CASE WHEN span = :closed THEN {name} ELSE 0 END" for name in COUNTS[1:3]),
)
TUNED: Final = {"enable_nestloop": "off", "enable_sort": "off", "work_mem": "'64MB'"}


Weighing = Callable[[float, int, int], int]


@dataclass(frozen=True, slots=True)
class Weights:
    """What each hour or day weighs, by step of the ladder; `closed` is the one that has just ended, if it is told."""

    spans: range
    steps: Sequence[Mapping[int, int]]
    closed: int = -1


def weighed(
    spans: range, ladder: Sequence[float], weigh: Weighing, end: int
) -> list[dict[int, int]]:
    """What each hour or day weighs on each step."""
    return [{span: weigh(half_life, span, end) for span in spans} for half_life in ladder]


class CounterCache:
    """What one process has read of days and hours, for each way of folding; it may be begun anew at any time."""

    def __init__(self) -> None:
        self._shelves: dict[str, tuple[TableCache, TableCache]] = {}

    def renewed(
        self,
        connection: Connection,
        key: str,
        parts: tuple[Weights, Weights],
        steps: Mapping[str, int],
    ) -> list[dict[Cell, Sums]]:
        """The sums of days and of hours, after reading what has grown."""
        shelves = self._shelves.setdefault(
            key, (TableCache(evidence_day, "day"), TableCache(evidence_counter, "hour"))
        )
        for shelf, part in zip(shelves, parts, strict=True):
            shelf.renew(connection, part.spans)
        return [
            shelf.sums(part.steps, steps, part.closed)
            for shelf, part in zip(shelves, parts, strict=True)
        ]


def load_tallies(
    connection: Connection,
    folds: Mapping[str, EvidenceSpec],
    as_of: datetime,
    cache: CounterCache | None = None,
) -> dict[str, tuple[TrafficCounts, ...]]:
    """What each way of folding makes of the counters that had ended by then, in the order of their keys."""
    return {key: tuple(tallies(connection, spec, as_of, cache)) for key, spec in folds.items()}


def tallies(
    connection: Connection, spec: EvidenceSpec, as_of: datetime, cache: CounterCache | None
) -> Iterator[TrafficCounts]:
    """What one way of folding makes of them; endpoints whose counters are all stale have a tally with nothing in it."""
    within, ladder = counting_window(spec, as_of), half_lives(spec)
    steps = steps_of(connection, spec, within.end // HOURS_PER_DAY)
    span = range(within.first_day, within.last_day + 1), range(within.first_hour, within.end)
    parts = (
        Weights(span[0], weighed(span[0], ladder, day_weight, within.end)),
        Weights(span[1], weighed(span[1], ladder, hour_weight, within.end), within.end - 1),
    )
    days, hours = (
        cache.renewed(connection, spec.key, parts, steps)
        if cache
        else scanned(connection, parts, steps)
    )
    for cell in sorted(days.keys() | hours.keys()):
        half_life = timedelta(hours=ladder[steps.get(cell[0], len(ladder) - 1)])
        yield tally(cell, days.get(cell), hours.get(cell), half_life)
    for endpoint_id in sorted(
        stale(connection, within.first_day) - {cell[0] for cell in (*days, *hours)}
    ):
        yield TrafficCounts(
            endpoint_id, "", "", 0, *(0.0,) * 5, Counts(0, 0, 0), 0, 0, 0, 0, spec.half_life_max
        )


def steps_of(connection: Connection, spec: EvidenceSpec, today: int) -> dict[str, int]:
    """The step on the ladder of every endpoint that is not on the last, by its calls of the last whole days."""
    endpoint_id, day, calls = (
        evidence_day.c.endpoint_id,
        evidence_day.c.day,
        evidence_day.c.tool_call_requests,
    )
    lately = func.sum(case((day >= today - RATE_DAYS, calls), else_=0))
    query = select(endpoint_id, func.min(day), lately).where(day < today).group_by(endpoint_id)
    last = len(half_lives(spec)) - 1
    found = (
        (name, half_life_step(int(count), min(today - first, RATE_DAYS), spec))
        for name, first, count in connection.execute(query)
    )
    return {name: step for name, step in found if step != last}


def stale(connection: Connection, first_day: int) -> set[str]:
    """The endpoints of which there is something older than what counts."""
    query = select(evidence_day.c.endpoint_id).where(evidence_day.c.day < first_day).distinct()
    return set(connection.execute(query).scalars())


def scanned(
    connection: Connection, parts: tuple[Weights, Weights], steps: Mapping[str, int]
) -> list[dict[Cell, Sums]]:
    """The sums of days and of hours, by SQL."""
    tune(connection, TUNED)
    temporary.create_all(connection, checkfirst=False)
    keep_first(connection, fold_step, sorted(steps.items()))
    found = [
        summed(connection, statement, part) for statement, part in zip(SUMMING, parts, strict=True)
    ]
    temporary.drop_all(connection, checkfirst=False)
    tune(connection, dict.fromkeys(TUNED, "DEFAULT"))
    return found


def tune(connection: Connection, settings: Mapping[str, str]) -> None:
    """Tell PostgreSQL how to join and add up: of the newest hours it has no statistics, and would guess at few rows."""
    if connection.dialect.name == "postgresql":
        for name, value in settings.items():
            connection.execute(text(f"SET LOCAL {name} = {value}"))


def summing(table: str, span: str) -> TextClause:
    """Adds the counts of a table up by cell; the tables are joined in this order, the small ones by their keys."""
    sums = ", ".join(f"CAST(SUM({each}) AS BIGINT)" for each in SUMS)
    return text(
        f"SELECT c.endpoint_id, c.source, c.tenant, c.stratum, {sums}, MIN(span), MAX(span)"  # noqa: S608 - our own names
        f" FROM {table} AS c LEFT JOIN fold_step AS s ON s.endpoint_id = c.endpoint_id CROSS JOIN fold_weight AS w"
        f" WHERE w.step = COALESCE(s.step, :last) AND w.span = c.{span} AND c.{span} BETWEEN :first AND :until"
        " GROUP BY c.endpoint_id, c.source, c.tenant, c.stratum"
    )


SUMMING: Final = summing("evidence_day", "day"), summing("evidence_counter", "hour")


def summed(connection: Connection, statement: TextClause, part: Weights) -> dict[Cell, Sums]:
    """The sums of each cell over some hours or days."""
    if not part.spans:
        return {}
    rows = [
        (step, span, weight)
        for step, spans in enumerate(part.steps)
        for span, weight in spans.items()
    ]
    connection.execute(delete(fold_weight))
    keep_first(connection, fold_weight, rows)
    bounds = {
        "first": part.spans[0],
        "until": part.spans[-1],
        "closed": part.closed,
        "last": len(part.steps) - 1,
    }
    return {
        (row[0], row[1], row[2], row[3]): Sums(row[4:14], row[14], row[15])
        for row in connection.execute(statement, bounds)
    }


def tally(cell: Cell, days: Sums | None, hours: Sums | None, half_life: timedelta) -> TrafficCounts:
    """One cell's sums as one."""
    parts = [part for part in (days, hours) if part is not None]
    sums = [sum(counts) for counts in zip(*(part.counts for part in parts), strict=True)]
    weighted, (requests, calls, errored, hour_calls, hour_errored) = (
        [each / WEIGHT_SCALE for each in sums[:5]],
        sums[5:],
    )
    return TrafficCounts(
        *cell,
        requests=weighted[0],
        tool_call_requests=weighted[1],
        errored_requests=weighted[2],
        auto_requests=weighted[3],
        auto_tool_call_requests=weighted[4],
        observed=Counts(requests, calls, errored),
        hour_calls=hour_calls,
        hour_errored=hour_errored,
        first_hour=days.first * HOURS_PER_DAY if days else parts[0].first,
        last_hour=hours.last if hours else (parts[0].last + 1) * HOURS_PER_DAY - 1,
        half_life=half_life,
    )
