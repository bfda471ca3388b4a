"""Counters of traffic added up by SQL as of a closed hour: whole numbers, so order and database make no difference.

Yesterday and today are read by the hour, everything before by the day. One pass for each way of folding; nothing is
kept from one tick to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Column, Connection, Integer, MetaData, Table, TextClause, case, delete, func, select, text

from assay.engine.discount import DAY, RATE_DAYS, WHOLE, day_weight, half_lives, hour_weight, reach, step_of
from assay.engine.fold import Counts
from assay.engine.ruleset import EvidenceSpec
from assay.engine.tally import Tally
from assay.store.evidence_tables import evidence_day
from assay.store.types import NAME
from assay.store.upserts import keep_first

Cell = tuple[str, str, str, int]  # endpoint, source, tenant, stratum
Weighed = tuple[int, int, int]  # step, hour or day, weight
Weighing = Callable[[float, int, int], int]


class Sums(NamedTuple):
    """What a cell's counters come to: `counts` in the order of `SUMS`."""

    counts: Sequence[int]
    first_hour: int
    last_hour: int


temporary = MetaData()
fold_step = Table(  # on which half-life an endpoint is; on the last one where it does not stand here
    "fold_step",
    temporary,
    Column("endpoint_id", NAME, primary_key=True),
    Column("step", Integer, nullable=False),
    prefixes=["TEMPORARY"],
)
fold_weight = Table(  # what counts of an hour or a day weigh there
    "fold_weight",
    temporary,
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("span", Integer, primary_key=True, autoincrement=False),
    Column("weight", Integer, nullable=False),
    prefixes=["TEMPORARY"],
)

COUNTS: Final = ("requests", "tool_call_requests", "errored_requests", "auto_requests", "auto_tool_call_requests")
SUMS: Final = (
    *(f"{name} * weight" for name in COUNTS),
    *COUNTS[:3],
    *(f"CASE WHEN span = :closed THEN {name} ELSE 0 END" for name in COUNTS[1:3]),
)


def summing(table: str, span: str) -> TextClause:
    """Adds the counts of a table up by cell; the tables are joined in this order, the small ones by their keys."""
    sums = ", ".join(f"CAST(SUM({each}) AS BIGINT)" for each in SUMS)
    return text(
        f"SELECT c.endpoint_id, c.source, c.tenant, c.stratum, {sums}, MIN(span), MAX(span)"  # noqa: S608 - our own names
        f" FROM {table} AS c LEFT JOIN fold_step AS s ON s.endpoint_id = c.endpoint_id CROSS JOIN fold_weight AS w"
        f" WHERE w.step = COALESCE(s.step, :last) AND w.span = c.{span} AND c.{span} BETWEEN :first AND :until"
        " GROUP BY c.endpoint_id, c.source, c.tenant, c.stratum"
    )


TUNED: Final = {"enable_nestloop": "off", "enable_sort": "off", "work_mem": "'64MB'"}
HOURS: Final = summing("evidence_counter", "hour")
DAYS: Final = summing("evidence_day", "day")


def load_tallies(
    connection: Connection, specs: Mapping[str, EvidenceSpec], as_of: datetime
) -> dict[str, tuple[Tally, ...]]:
    """What each way of folding makes of the counters that had ended by then, in the order of their keys."""
    return {key: tuple(tallies(connection, spec, as_of)) for key, spec in specs.items()}


def tallies(connection: Connection, spec: EvidenceSpec, as_of: datetime) -> Iterator[Tally]:
    """What one way of folding makes of them; endpoints whose counters are all stale have a tally with nothing in it."""
    within, ladder = reach(spec, as_of), half_lives(spec)
    steps = steps_of(connection, spec, within.end // DAY)
    tune(connection, TUNED)
    temporary.create_all(connection, checkfirst=False)
    keep_first(connection, fold_step, sorted(steps.items()))
    spans = range(within.first_day, within.last_day + 1)
    days = summed(connection, DAYS, spans, weights(spans, ladder, day_weight, within.end), DAY)
    spans = range(within.first_hour, within.end)
    hours = summed(connection, HOURS, spans, weights(spans, ladder, hour_weight, within.end), 1)
    temporary.drop_all(connection, checkfirst=False)
    tune(connection, dict.fromkeys(TUNED, "DEFAULT"))
    for cell in sorted(days.keys() | hours.keys()):
        half_life = timedelta(hours=ladder[steps.get(cell[0], len(ladder) - 1)])
        yield tally(cell, [part[cell] for part in (days, hours) if cell in part], half_life)
    for endpoint_id in sorted(stale(connection, within.first_day) - {cell[0] for cell in (*days, *hours)}):
        yield Tally(endpoint_id, "", "", 0, *(0.0,) * 5, Counts(0, 0, 0), 0, 0, 0, 0, spec.half_life_max)


def tune(connection: Connection, settings: Mapping[str, str]) -> None:
    """Tell PostgreSQL how to join and add up: of the newest hours it has no statistics, and would guess at few rows."""
    if connection.dialect.name == "postgresql":
        for name, value in settings.items():
            connection.execute(text(f"SET LOCAL {name} = {value}"))


def steps_of(connection: Connection, spec: EvidenceSpec, today: int) -> dict[str, int]:
    """The step on the ladder of every endpoint that is not on the last, by its calls of the last whole days."""
    endpoint_id, day, calls = evidence_day.c.endpoint_id, evidence_day.c.day, evidence_day.c.tool_call_requests
    lately = func.sum(case((day >= today - RATE_DAYS, calls), else_=0))
    query = select(endpoint_id, func.min(day), lately).where(day < today).group_by(endpoint_id)
    last = len(half_lives(spec)) - 1
    found = (
        (name, step_of(int(count), min(today - first, RATE_DAYS), spec))
        for name, first, count in connection.execute(query)
    )
    return {name: step for name, step in found if step != last}


def weights(spans: range, ladder: Sequence[float], weigh: Weighing, end: int) -> list[Weighed]:
    """What each hour or day weighs on each step."""
    return [(step, span, weigh(half_life, span, end)) for step, half_life in enumerate(ladder) for span in spans]


def stale(connection: Connection, first_day: int) -> set[str]:
    """The endpoints of which there is something older than what counts."""
    query = select(evidence_day.c.endpoint_id).where(evidence_day.c.day < first_day).distinct()
    return set(connection.execute(query).scalars())


def summed(
    connection: Connection, statement: TextClause, spans: range, weighed: Sequence[Weighed], hours: int
) -> dict[Cell, Sums]:
    """The sums of each cell over spans of so many hours."""
    if not spans:
        return {}
    connection.execute(delete(fold_weight))
    keep_first(connection, fold_weight, weighed)
    closed = spans[-1] if hours == 1 else -1
    bounds = {"first": spans[0], "until": spans[-1], "closed": closed, "last": weighed[-1][0]}
    return {
        (row[0], row[1], row[2], row[3]): Sums(row[4:14], row[14] * hours, (row[15] + 1) * hours - 1)
        for row in connection.execute(statement, bounds)
    }


def tally(cell: Cell, parts: Sequence[Sums], half_life: timedelta) -> Tally:
    """One cell's sums, by the day and by the hour, as one."""
    sums = [sum(counts) for counts in zip(*(part.counts for part in parts), strict=True)]
    weighted, (requests, calls, errored, hour_calls, hour_errored) = [each / WHOLE for each in sums[:5]], sums[5:]
    return Tally(
        *cell,
        requests=weighted[0],
        tool_call_requests=weighted[1],
        errored_requests=weighted[2],
        auto_requests=weighted[3],
        auto_tool_call_requests=weighted[4],
        observed=Counts(requests, calls, errored),
        hour_calls=hour_calls,
        hour_errored=hour_errored,
        first_hour=min(part.first_hour for part in parts),
        last_hour=max(part.last_hour for part in parts),
        half_life=half_life,
    )
