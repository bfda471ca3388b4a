"""Evidence from traffic as of a closed hour: counts, served speed, votes by tenants, and refusals.

How it works. Counters are kept by hour and, with the same counts, by day. Judging reads yesterday
and today by the hour and everything before by the day. A count is weighted by its age; weights are
whole numbers, so sums are exact and neither their order nor the database matters.

Sums are made in Python, from the columns of a `CounterCache`. Counters only ever grow, so the
number of rows of an hour or day and the sum of their requests show whether it has changed since it
was read: a curator that keeps its cache reads only what has grown. If either is less than before,
counters were deleted, and everything is read again.

INVARIANT: a cell's columns hold each hour or day at most once.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import compress
from operator import mul
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Select,
    Table,
    case,
    cast,
    func,
    select,
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
from assay.engine.evidence.ignores import Voter, ignore_votes
from assay.engine.evidence.refusals import WINDOW_DAYS, RefusalCounts, learn_refusals
from assay.engine.evidence.speed import NO_PERCENTILES, HistogramBin, latencies, throughputs, uptime
from assay.engine.world.catalog import Endpoint
from assay.engine.world.clock import EPOCH, HOUR, HOURS_PER_DAY
from assay.engine.world.measurements import Counts, IgnoreVote, ServedSpeed, TrafficCounts
from assay.engine.world.world import Preference
from assay.outcomes.counting import bounds
from assay.store.evidence_tables import (
    capability_counter,
    evidence_counter,
    evidence_day,
    service_counter,
    tenant_activity,
    tenant_affiliation,
    tenant_ignore,
    tenant_provider,
)
from assay.store.tables import tenant_pseudonym
from assay.store.types import NAME
from assay.store.upserts import keep_first

_CELL: Final = ("endpoint_id", "source", "tenant", "stratum")
_COUNTS: Final = (
    "requests", "tool_call_requests", "errored_requests",
    "auto_requests", "auto_tool_call_requests",
)  # fmt: skip
_Cell = tuple[str, str, str, int]
_Size = tuple[int, int]  # rows, and the requests in them
_Columns = Sequence["array[int]"]  # hours or days, then each of their counts
_Weights = Sequence[Mapping[int, int]]  # by half-life step, then by hour or day


class _Sums(NamedTuple):
    """The sums of one cell, and its first and last hour or day.

    `counts` are the five weighted counts, the first three unweighted, and tool-call requests and
    errored requests of the closed hour.
    """

    counts: Sequence[int]
    first: int
    last: int


class TableCache:
    """The counters of one table by cell, over a range of hours or days."""

    def __init__(self, table: Table, span: str) -> None:
        self._table = table
        self._span = table.c[span]
        self._sizes: dict[int, _Size] = {}
        self._cells: dict[_Cell, _Columns] = {}

    def refresh(self, connection: Connection, spans: range) -> None:
        """Read what has grown in these hours or days, and drop all others."""
        sizes = self._read_sizes(connection, spans)
        if any(
            sizes.get(each, (0, 0)) < self._sizes[each] for each in self._sizes if each in spans
        ):
            self._clear()
        if any(span not in spans for span in self._sizes):
            self._drop_others(spans)
        grown = [span for span, size in sizes.items() if self._sizes.get(span) != size]
        try:
            self._read_cells(connection, grown)
        except BaseException:
            self._clear()
            raise
        self._sizes |= {span: sizes[span] for span in grown}

    def sums(
        self, weights: _Weights, steps: Mapping[str, int], closed: int = -1
    ) -> dict[_Cell, _Sums]:
        """Sum each cell; `steps` are half-life steps by endpoint, by default the last."""
        last = len(weights) - 1
        return {
            cell: _sum_cell(columns, weights[steps.get(cell[0], last)], closed)
            for cell, columns in self._cells.items()
        }

    def _clear(self) -> None:
        self._sizes, self._cells = {}, {}

    def _read_sizes(self, connection: Connection, spans: range) -> dict[int, _Size]:
        query = select(self._span, func.count(), func.sum(self._table.c.requests))
        query = query.where(self._span.between(spans.start, spans.stop - 1)).group_by(self._span)
        return {span: (rows, int(sum_)) for span, rows, sum_ in connection.execute(query)}

    def _read_cells(self, connection: Connection, spans: Sequence[int]) -> None:
        """Read the rows of these hours or days, in place of what is cached of them."""
        if not spans:
            return
        columns = (self._table.c[name] for name in (*_CELL, self._span.name, *_COUNTS))
        query = select(*columns).where(self._span.in_(spans))
        for endpoint_id, source, tenant, stratum, *row in connection.execute(query):
            cell = (endpoint_id, source, tenant, stratum)
            cached = self._cells.get(cell)
            if cached is None:
                cached = self._cells[cell] = tuple(array("q") for _ in row)
            if row[0] in self._sizes and row[0] in cached[0]:
                place = cached[0].index(row[0])
                for column, value in zip(cached, row, strict=True):
                    column[place] = value
            else:
                for column, value in zip(cached, row, strict=True):
                    column.append(value)

    def _drop_others(self, spans: range) -> None:
        self._sizes = {span: size for span, size in self._sizes.items() if span in spans}
        cells: dict[_Cell, _Columns] = {}
        for cell, columns in self._cells.items():
            wanted = [span in spans for span in columns[0]]
            if any(wanted):
                cells[cell] = tuple(array("q", compress(column, wanted)) for column in columns)
        self._cells = cells


def _sum_cell(columns: _Columns, weights: Mapping[int, int], closed: int) -> _Sums:
    spans, *counts = columns
    weighted = [weights[span] for span in spans]
    requests, calls, errored, *_ = counts
    place = spans.index(closed) if closed in spans else None
    sums = [
        *(sum(map(mul, weighted, column)) for column in counts),
        sum(requests),
        sum(calls),
        sum(errored),
        *((0, 0) if place is None else (calls[place], errored[place])),
    ]
    return _Sums(sums, min(spans), max(spans))


class CounterCache:
    """The counters that one process has read, for each way of weighting them."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[TableCache, TableCache]] = {}

    def tables(self, key: str) -> tuple[TableCache, TableCache]:
        """Return the caches of days and of hours for one evidence spec."""
        new = TableCache(evidence_day, "day"), TableCache(evidence_counter, "hour")
        return self._tables.setdefault(key, new)


def load_traffic(
    connection: Connection,
    specs: Mapping[str, EvidenceSpec],
    as_of: datetime,
    cache: CounterCache | None = None,
) -> dict[str, tuple[TrafficCounts, ...]]:
    """Sum the counters of ended hours for each spec, in the order of their cells."""
    cache = cache or CounterCache()
    return {key: tuple(_counts(connection, spec, as_of, cache)) for key, spec in specs.items()}


def _counts(
    connection: Connection, spec: EvidenceSpec, as_of: datetime, cache: CounterCache
) -> Iterator[TrafficCounts]:
    """Yield the counts of each cell; an endpoint whose counters are all stale has empty counts."""
    window, ladder = counting_window(spec, as_of), half_lives(spec)
    steps = _half_life_steps(connection, spec, window.end // HOURS_PER_DAY)
    day_cache, hour_cache = cache.tables(spec.key)
    day_range = range(window.first_day, window.last_day + 1)
    hour_range = range(window.first_hour, window.end)
    day_cache.refresh(connection, day_range)
    hour_cache.refresh(connection, hour_range)
    days = day_cache.sums(_weights(day_range, ladder, day_weight, window.end), steps)
    weights = _weights(hour_range, ladder, hour_weight, window.end)
    hours = hour_cache.sums(weights, steps, closed=window.end - 1)
    cells = sorted(days.keys() | hours.keys())
    for cell in cells:
        half_life = timedelta(hours=ladder[steps.get(cell[0], len(ladder) - 1)])
        yield _traffic_counts(cell, days.get(cell), hours.get(cell), half_life)
    for endpoint_id in sorted(_old_endpoints(connection, window.first_day) - {c[0] for c in cells}):
        nothing = (*(0.0,) * 5, Counts(0, 0, 0), 0, 0, 0, 0)
        yield TrafficCounts(endpoint_id, "", "", 0, *nothing, half_life=spec.half_life_max)


def _weights(
    spans: range, ladder: Sequence[float], weigh: Callable[[float, int, int], int], end: int
) -> _Weights:
    return [{span: weigh(half_life, span, end) for span in spans} for half_life in ladder]


def _half_life_steps(connection: Connection, spec: EvidenceSpec, today: int) -> dict[str, int]:
    """Return the half-life steps of endpoints that are not on the last, by their recent calls."""
    endpoint_id, day = evidence_day.c.endpoint_id, evidence_day.c.day
    recent = case((day >= today - RATE_DAYS, evidence_day.c.tool_call_requests), else_=0)
    query = select(endpoint_id, func.min(day), func.sum(recent)).where(day < today)
    last, steps = len(half_lives(spec)) - 1, {}
    for name, first, calls in connection.execute(query.group_by(endpoint_id)):
        step = half_life_step(int(calls), min(today - first, RATE_DAYS), spec)
        if step != last:
            steps[name] = step
    return steps


def _old_endpoints(connection: Connection, first_day: int) -> set[str]:
    """Return the endpoints with counters older than those that count."""
    query = select(evidence_day.c.endpoint_id).where(evidence_day.c.day < first_day).distinct()
    return set(connection.execute(query).scalars())


def _traffic_counts(
    cell: _Cell, days: _Sums | None, hours: _Sums | None, half_life: timedelta
) -> TrafficCounts:
    """Add the sums of one cell's days and hours."""
    parts = [part for part in (days, hours) if part is not None]
    sums = [sum(counts) for counts in zip(*(part.counts for part in parts), strict=True)]
    last_day_ends = (parts[0].last + 1) * HOURS_PER_DAY - 1
    return TrafficCounts(
        *cell,
        requests=sums[0] / WEIGHT_SCALE,
        tool_call_requests=sums[1] / WEIGHT_SCALE,
        errored_requests=sums[2] / WEIGHT_SCALE,
        auto_requests=sums[3] / WEIGHT_SCALE,
        auto_tool_call_requests=sums[4] / WEIGHT_SCALE,
        observed=Counts(*sums[5:8]),
        hour_calls=sums[8],
        hour_errored=sums[9],
        first_hour=days.first * HOURS_PER_DAY if days else parts[0].first,
        last_hour=hours.last if hours else last_day_ends,
        half_life=half_life,
    )


_THOUSANDTHS: Final = 1000.0
_temporary = MetaData()
_wanted_endpoint = Table(
    "wanted_endpoint",
    _temporary,
    Column("endpoint_id", NAME, primary_key=True),
    prefixes=["TEMPORARY"],
)


def endpoints_without_speed(endpoints: Iterable[Endpoint]) -> list[str]:
    """Return the endpoints whose speed or uptime no catalog states."""
    return [
        e.endpoint_id
        for e in endpoints
        if NO_PERCENTILES in (e.latency_s, e.throughput_tps)
        or (e.uptime_30m_percent is None and e.uptime_1d_percent is None)
    ]


def load_served(
    connection: Connection, endpoints: Collection[str], as_of: datetime
) -> dict[str, ServedSpeed]:
    """Return the speed and uptime of these endpoints in the last 24 closed hours, if observed."""
    if not endpoints:
        return {}
    _temporary.create_all(connection, checkfirst=False)
    keep_first(connection, _wanted_endpoint, [(name,) for name in sorted(endpoints)])
    c, end = service_counter.c, (as_of - EPOCH) // HOUR
    query = (
        select(c.endpoint_id, c.metric, c.bucket, cast(func.sum(c.count), Integer))
        .join(_wanted_endpoint, _wanted_endpoint.c.endpoint_id == c.endpoint_id)
        .where(c.hour >= end - HOURS_PER_DAY, c.hour < end)
        .group_by(c.endpoint_id, c.metric, c.bucket)
    )
    metrics: dict[str, defaultdict[str, list[tuple[int, int]]]] = {}
    for endpoint_id, metric, bucket, count in connection.execute(query):
        of_endpoint = metrics.setdefault(endpoint_id, defaultdict(list))
        of_endpoint[metric].append((bucket, int(count)))
    _temporary.drop_all(connection, checkfirst=False)
    return {endpoint_id: _served_speed(metrics[endpoint_id]) for endpoint_id in sorted(metrics)}


def _served_speed(metrics: Mapping[str, Sequence[tuple[int, int]]]) -> ServedSpeed:
    return ServedSpeed(
        latencies(_histogram(metrics.get("latency_ms", ()))),
        throughputs(_histogram(metrics.get("throughput_mtps", ()))),
        uptime(*(sum(n for _, n in metrics.get(name, ())) for name in ("answered", "failed"))),
    )


def _histogram(counts: Iterable[tuple[int, int]]) -> list[HistogramBin]:
    """Convert buckets of thousandths into bins of whole units."""
    bins = []
    for bucket, count in counts:
        low, high = bounds(bucket)
        bins.append(HistogramBin(low / _THOUSANDTHS, high / _THOUSANDTHS, count))
    return bins


_VOTING_DAYS: Final = 28
_tenant: Final = tenant_pseudonym.c.tenant


def load_ignore_votes(
    connection: Connection, preferences: Iterable[Preference], as_of: datetime
) -> tuple[IgnoreVote, ...]:
    """Return the votes of all eligible tenants."""
    return ignore_votes(load_voters(connection, as_of), preferences, as_of)


def load_voters(connection: Connection, as_of: datetime) -> list[Voter]:
    """Return every tenant still known by name, with what it did in the last 28 whole days.

    Tables hold pseudonyms, and a tenant may have several, one for each process that met it first.
    """
    today = (as_of - EPOCH).days
    calls: defaultdict[str, dict[str, int]] = defaultdict(dict)
    count = func.sum(tenant_provider.c.tool_call_requests)
    by_provider = _recent(tenant_provider, today, "provider").add_columns(count)
    for tenant, provider, total in connection.execute(
        by_provider.group_by(_tenant, tenant_provider.c.provider)
    ):
        calls[tenant][provider] = int(total)
    ignored: defaultdict[str, dict[str, set[str]]] = defaultdict(dict)
    for tenant, model in connection.execute(_recent(tenant_activity, today, "model").distinct()):
        ignored[tenant][model] = set()
    targets = _recent(tenant_ignore, today, "model", "target").distinct()
    for tenant, model, target in connection.execute(targets):
        ignored[tenant].setdefault(model, set()).add(target)
    affiliated: defaultdict[str, set[str]] = defaultdict(set)
    for row in connection.execute(select(tenant_affiliation)):
        affiliated[row.tenant].add(row.provider)
    first_seen = select(_tenant, func.min(tenant_pseudonym.c.created_at))
    return [
        Voter(
            tenant,
            since,
            calls[tenant],
            {model: frozenset(targets) for model, targets in ignored[tenant].items()},
            frozenset(affiliated[tenant]),
        )
        for tenant, since in connection.execute(first_seen.group_by(_tenant).order_by(_tenant))
    ]


def _recent(table: Table, today: int, *columns: str) -> Select[Any]:
    """Select tenants by name with columns of a table, of the last whole days."""
    query = select(_tenant, *(table.c[column] for column in columns))
    query = query.join(tenant_pseudonym, tenant_pseudonym.c.pseudonym == table.c.tenant)
    return query.where(table.c.day.between(today - _VOTING_DAYS, today - 1))


def load_refusals(connection: Connection, as_of: datetime) -> Mapping[str, tuple[str, ...]]:
    """Return the capabilities that endpoints are known to lack, by endpoint id."""
    today = (as_of - EPOCH).days
    table = capability_counter.c
    tenant = func.coalesce(tenant_pseudonym.c.tenant, table.tenant).label("name")
    query = (
        select(table.endpoint_id, table.capability, tenant, table.day)
        .add_columns(func.sum(table.refused), func.sum(table.answered))
        .outerjoin_from(
            capability_counter, tenant_pseudonym, tenant_pseudonym.c.pseudonym == table.tenant
        )
        .where(table.day.between(today - WINDOW_DAYS, today))
        .group_by(table.endpoint_id, table.capability, tenant, table.day)
    )
    counts = [
        RefusalCounts(endpoint_id, capability, name, day, int(refused), int(answered))
        for endpoint_id, capability, name, day, refused, answered in connection.execute(query)
    ]
    if not any(each.refused for each in counts):
        return {}
    return learn_refusals(counts, today, has_one_tenant=_has_one_tenant(connection))


def _has_one_tenant(connection: Connection) -> bool:
    """Whether all requests come from one tenant, which may be the one without a name."""
    named = select(func.count(tenant_pseudonym.c.tenant.distinct()))
    unnamed = select(evidence_day.c.tenant).where(evidence_day.c.tenant == "").limit(1)
    without_name = connection.scalar(unnamed) is not None
    return int(connection.scalar(named) or 0) + without_name <= 1
