"""The counters of outcomes as one process has read them, so that it reads only what has grown.

Counters only ever grow, so the number of rows of an hour or day and the sum of their attempts show
whether it has changed since it was read. If either is less than before, counters were deleted, and
everything is read again.

How it works. Rows are kept in columns, with names replaced by numbers in the order in which they
were first seen. `sum_cells` sorts the rows of days and of hours by cell and adds them up there, in
whole numbers.

INVARIANT: the rows of a table hold each cell's hour or day at most once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, func, select

from assay.engine.snapshot.pool_memory import CountedHours
from assay.engine.world.clock import HOURS_PER_DAY
from assay.engine.world.measurements import HourOfTraffic
from assay.outcomes.counting import ToolCounts
from assay.store.evidence_tables import evidence_counter, evidence_day

NOT_COUNTED: CountedHours = {}
_CELL: Final = ("endpoint_id", "source", "tenant", "stratum")
_COUNTS: Final = ToolCounts._fields
_CALLS: Final = _COUNTS.index("tool_call_requests")
_ERRORED: Final = _COUNTS.index("errored_requests")
_STRATA: Final = 64  # there are fewer
_NO_ALIASES: Final[Mapping[str, str]] = {}
_BATCH: Final = 50_000  # rows read at a time
_Size = tuple[int, int]  # rows, and the answered requests and attempts in them
Ints = NDArray[np.int64]
Numbers = NDArray[np.int32]


class Names:
    """Names of one kind, numbered in the order in which they were first seen."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def numbers_of(self, names: Iterable[str]) -> list[int]:
        """Return the numbers of names, new ones included."""
        known = self.numbers
        return [known.setdefault(name, len(known)) for name in names]

    def ranks(self, aliases: Mapping[str, str]) -> tuple[Sequence[str], Ints]:
        """Return all names in order, and the place of each number among them.

        An alias has the place of the name that it stands for.
        """
        ordered = sorted({aliases.get(name, name) for name in self.numbers})
        place = {name: rank for rank, name in enumerate(ordered)}
        return ordered, np.array([place[aliases.get(n, n)] for n in self.numbers], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of a table: the numbers of each cell's names, its hour or day, and its counts."""

    endpoint: Numbers
    source: Numbers
    tenant: Numbers
    stratum: Numbers
    span: Numbers
    counts: Sequence[Ints]

    @classmethod
    def of(cls, names: Sequence[Numbers], counts: Sequence[Ints]) -> Rows:
        """Return rows from their columns."""
        endpoint, source, tenant, stratum, span = names
        return cls(endpoint, source, tenant, stratum, span, counts)

    @property
    def names(self) -> Sequence[Numbers]:
        """All columns but the counts."""
        return self.endpoint, self.source, self.tenant, self.stratum, self.span

    def only(self, wanted: NDArray[np.bool_]) -> Rows:
        """Return some of the rows."""
        return Rows.of([n[wanted] for n in self.names], [each[wanted] for each in self.counts])


def _together(parts: Sequence[Rows]) -> Rows:
    names = [np.concatenate(each) for each in zip(*(p.names for p in parts), strict=True)]
    counts = [np.concatenate(each) for each in zip(*(p.counts for p in parts), strict=True)]
    return Rows.of(names, counts)


_NO_ROWS: Final = Rows.of([np.zeros(0, np.int32)] * 5, [np.zeros(0, np.int64)] * len(_COUNTS))


class TableCache:
    """The counters of one table, over a range of hours or days."""

    def __init__(self, table: Table, span: str, names: tuple[Names, Names, Names]) -> None:
        self._table = table
        self._span = table.c[span]
        self._names = names
        self._sizes: dict[int, _Size] = {}
        self.rows = _NO_ROWS

    def refresh(self, connection: Connection, spans: range) -> None:
        """Read what has grown in these hours or days, and drop all others."""
        sizes = self._read_sizes(connection, spans)
        if any(
            sizes.get(each, (0, 0)) < self._sizes[each] for each in self._sizes if each in spans
        ):
            self._clear()
        grown = [span for span, size in sizes.items() if self._sizes.get(span) != size]
        gone = [span for span in self._sizes if span not in spans]
        try:
            if grown or gone:
                self._replace(connection, grown, gone)
        except BaseException:
            self._clear()
            raise
        self._sizes = {span: size for span, size in self._sizes.items() if span in spans}
        self._sizes |= {span: sizes[span] for span in grown}

    def changed_since(self, counted: CountedHours) -> Mapping[str, Collection[int]]:
        """Return the hours in which endpoints have other sums than have counted."""
        names, numbers = list(self._names[0].numbers), self._names[0].numbers
        changed: defaultdict[str, set[int]] = defaultdict(set)
        for hour in counted.keys() & self._sizes.keys():
            rows, before = self.rows.span == hour, counted[hour]
            totals = np.zeros((2, len(names)), np.int64)
            for total, column in zip(totals, (_CALLS, _ERRORED), strict=True):
                np.add.at(total, self.rows.endpoint[rows], self.rows.counts[column][rows])
            known = np.zeros((2, len(names)), np.int64)
            for endpoint_id, counts in before.items():
                if endpoint_id in numbers:
                    known[:, numbers[endpoint_id]] = counts[:2]
            seen = np.zeros(len(names), dtype=bool)
            seen[self.rows.endpoint[rows]] = True
            for number in np.flatnonzero(seen & (totals != known).any(axis=0)).tolist():
                changed[names[number]].add(hour)
        return changed

    def _clear(self) -> None:
        self._sizes, self.rows = {}, _NO_ROWS

    def _read_sizes(self, connection: Connection, spans: range) -> dict[int, _Size]:
        columns = self._table.c
        # Rows that a process of an earlier version adds have no attempts.
        sizes = func.sum(columns.requests + columns.attempts)
        query = select(self._span, func.count(), sizes)
        query = query.where(self._span.between(spans.start, spans.stop - 1)).group_by(self._span)
        return {span: (rows, int(sum_)) for span, rows, sum_ in connection.execute(query)}

    def _replace(self, connection: Connection, grown: Sequence[int], gone: Sequence[int]) -> None:
        """Read the rows of some hours or days, in place of what is cached of them."""
        parts = [self.rows.only(~np.isin(self.rows.span, [*grown, *gone]))]
        if grown:
            columns = (self._table.c[name] for name in (*_CELL, self._span.name, *_COUNTS))
            query = select(*columns).where(self._span.in_(grown))
            found = iter(connection.execute(query))
            while batch := list(islice(found, _BATCH)):
                parts.append(self._numbered(batch))
        self.rows = _together(parts)

    def _numbered(self, batch: Sequence[Sequence[Any]]) -> Rows:
        """Return rows as they are read, with their names numbered."""
        columns = list(zip(*batch, strict=True))
        numbers = [
            np.array(known.numbers_of(names), np.int32)
            for known, names in zip(self._names, columns[:3], strict=True)
        ]
        others = [np.array(each, np.int32) for each in columns[3:5]]
        return Rows.of([*numbers, *others], [np.array(each, np.int64) for each in columns[5:]])


@dataclass(frozen=True, slots=True, eq=False)
class CellSums:
    """The sums of each cell, in the order of their names.

    `endpoint`, `source` and `tenant` are places in `names`, all in order. `weighted` and `counts`
    are by field of `ToolCounts`, `closed` the tool-call requests and errored ones of the closed
    hour. `first` and `last` are hours. `late` has the earlier hours that were asked for, by cell.
    """

    names: tuple[Sequence[str], Sequence[str], Sequence[str]]
    endpoint: Ints
    source: Ints
    tenant: Ints
    stratum: Ints
    weighted: Sequence[Ints]
    counts: Sequence[Ints]
    closed: Sequence[Ints]
    first: Ints
    last: Ints
    late: Mapping[int, tuple[HourOfTraffic, ...]]


@dataclass(frozen=True, slots=True)
class Weighing:
    """How rows are weighed: by half-life step, and by day or hour from the first on.

    `steps` are the half-life steps of endpoints that are not on the last; `closed` is the closed
    hour.
    """

    by_day: Ints
    by_hour: Ints
    first_day: int
    first_hour: int
    steps: Mapping[str, int]
    closed: int


class CounterCache:
    """The counters that one process has read, for one evidence spec."""

    def __init__(self) -> None:
        self._names = Names(), Names(), Names()
        self.days = TableCache(evidence_day, "day", self._names)
        self.hours = TableCache(evidence_counter, "hour", self._names)

    def sum_cells(
        self,
        weighing: Weighing,
        late: Mapping[str, Collection[int]],
        aliases: Mapping[str, str],
    ) -> CellSums:
        """Sum the rows of days and hours by cell.

        `late` are hours of endpoints to be listed one by one. `aliases` are names of tenants that
        stand for others.
        """
        days, hours = self.days.rows, self.hours.rows
        places = CellPlaces(self._names, aliases)
        keys = np.concatenate([places.keys(days), places.keys(hours)])
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
        cells = keys[order][starts]

        def total(of_days: Ints, of_hours: Ints, by: np.ufunc = np.add) -> Ints:
            values = np.concatenate([of_days, of_hours])[order]
            found: Ints = by.reduceat(values, starts) if len(starts) else values
            return found

        day_weights, hour_weights = self._weights(weighing)
        begin = days.span.astype(np.int64) * HOURS_PER_DAY
        at, never = hours.span == weighing.closed, np.zeros(len(days.span), np.int64)
        both = list(zip(days.counts, hours.counts, strict=True))
        return CellSums(
            places.names,
            *places.split(cells),
            weighted=[total(day_weights * d, hour_weights * h) for d, h in both],
            counts=[total(d, h) for d, h in both],
            closed=[
                total(never, np.where(at, hours.counts[column], 0)) for column in (_CALLS, _ERRORED)
            ],
            first=total(begin, hours.span.astype(np.int64), np.minimum),
            last=total(begin + HOURS_PER_DAY - 1, hours.span.astype(np.int64), np.maximum),
            late=self._late(late, places, cells),
        )

    def _weights(self, weighing: Weighing) -> tuple[Ints, Ints]:
        """Return the weights of the rows of days and of hours."""
        endpoints = self._names[0].numbers
        step = np.full(len(endpoints), len(weighing.by_hour) - 1, np.int64)
        for name, number in weighing.steps.items():
            if name in endpoints:
                step[endpoints[name]] = number
        days, hours = self.days.rows, self.hours.rows
        return (
            weighing.by_day[step[days.endpoint], days.span - weighing.first_day],
            weighing.by_hour[step[hours.endpoint], hours.span - weighing.first_hour],
        )

    def _late(
        self, late: Mapping[str, Collection[int]], places: CellPlaces, cells: Ints
    ) -> Mapping[int, tuple[HourOfTraffic, ...]]:
        """Return the counts of some endpoints' cells in some of their hours."""
        if not late:
            return {}
        names, numbers, rows = list(self._names[0].numbers), self._names[0].numbers, self.hours.rows
        own = rows.only(np.isin(rows.endpoint, [numbers[name] for name in late]))
        at = np.searchsorted(cells, places.keys(own))
        columns = (at, own.endpoint, own.span, own.counts[_CALLS], own.counts[_ERRORED])
        found: defaultdict[int, list[HourOfTraffic]] = defaultdict(list)
        for place, endpoint, *hour in zip(*(each.tolist() for each in columns), strict=True):
            if hour[0] in late[names[endpoint]]:
                found[place].append(HourOfTraffic(*hour))
        return {place: _by_hour(hours) for place, hours in found.items()}


class CounterCaches:
    """The counters that one process has read, for each evidence spec."""

    def __init__(self) -> None:
        self._caches: dict[str, CounterCache] = {}

    def of(self, key: str) -> CounterCache:
        """Return the cache for one evidence spec."""
        return self._caches.setdefault(key, CounterCache())


class CellPlaces:
    """Numbers of cells that order them by the names of endpoint, source and tenant."""

    def __init__(self, known: tuple[Names, Names, Names], aliases: Mapping[str, str]) -> None:
        endpoints, sources, tenants = known
        ranked = endpoints.ranks(_NO_ALIASES), sources.ranks(_NO_ALIASES), tenants.ranks(aliases)
        self.names = ranked[0][0], ranked[1][0], ranked[2][0]
        self._ranks = [ranks for _, ranks in ranked]
        self._sources, self._tenants = len(self.names[1]) or 1, len(self.names[2]) or 1

    def keys(self, rows: Rows) -> Ints:
        """Return the number of each row's cell."""
        numbers = rows.endpoint, rows.source, rows.tenant
        endpoint, source, tenant = (
            ranks[each] for ranks, each in zip(self._ranks, numbers, strict=True)
        )
        key: Ints = (endpoint * self._sources + source) * self._tenants + tenant
        return key * _STRATA + rows.stratum

    def split(self, cells: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Return endpoint, source, tenant and stratum of cells."""
        rest, stratum = np.divmod(cells, _STRATA)
        rest, tenant = np.divmod(rest, self._tenants)
        endpoint, source = np.divmod(rest, self._sources)
        return endpoint, source, tenant, stratum


def _by_hour(found: Iterable[HourOfTraffic]) -> tuple[HourOfTraffic, ...]:
    """Return the counts of a cell by hour; a tenant with several pseudonyms has several rows."""
    hours: dict[int, HourOfTraffic] = {}
    for hour, calls, errored in sorted(found):
        before = hours.get(hour, HourOfTraffic(hour, 0, 0))
        hours[hour] = HourOfTraffic(hour, before.calls + calls, before.errored + errored)
    return tuple(hours.values())
