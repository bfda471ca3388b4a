"""The counters of outcomes as one process has read them, so that it reads only what has grown.

Counters only ever grow, so the number of rows of an hour or day and the sum of their attempts show
whether it has changed since it was read. If either is less than before, counters were deleted, and
everything is read again.

INVARIANT: a cell's columns hold each hour or day at most once.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import compress
from operator import mul
from typing import Final, NamedTuple

from sqlalchemy import Connection, Table, func, select

from assay.engine.snapshot.pool_memory import NOTHING_COUNTED, CountedHours
from assay.engine.world.measurements import HourOfTraffic
from assay.outcomes.counting import ToolCounts
from assay.store.evidence_tables import evidence_counter, evidence_day

NOT_COUNTED: CountedHours = {}
_CELL: Final = ("endpoint_id", "source", "tenant", "stratum")
_COUNTS: Final = ToolCounts._fields
Cell = tuple[str, str, str, int]
"""Endpoint, source, tenant and stratum."""
_Size = tuple[int, int]  # rows, and the answered requests and attempts in them
_Amounts = tuple[int, int]  # tool-call requests and errored requests
_Columns = Sequence["array[int]"]  # hours or days, then each of their counts
_CALLS: Final = 1 + _COUNTS.index("tool_call_requests")
_ERRORED: Final = 1 + _COUNTS.index("errored_requests")
Weights = Sequence[Mapping[int, int]]
"""By half-life step, then by hour or day."""


class CellSums(NamedTuple):
    """The sums of one cell, and its first and last hour or day.

    `weighted` and `counts` are those of all its hours or days, `closed` are the tool-call requests
    and errored requests of the closed hour.
    """

    weighted: ToolCounts
    counts: ToolCounts
    closed: _Amounts
    first: int
    last: int


class TableCache:
    """The counters of one table by cell, over a range of hours or days."""

    def __init__(self, table: Table, span: str) -> None:
        self._table = table
        self._span = table.c[span]
        self._sizes: dict[int, _Size] = {}
        self._cells: dict[Cell, _Columns] = {}
        self._totals: dict[int, dict[str, _Amounts]] = {}

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
        self, weights: Weights, steps: Mapping[str, int], closed: int = -1
    ) -> dict[Cell, CellSums]:
        """Sum each cell; `steps` are half-life steps by endpoint, by default the last."""
        last = len(weights) - 1
        return {
            cell: _sum_cell(columns, weights[steps.get(cell[0], last)], closed)
            for cell, columns in self._cells.items()
        }

    def changed_since(self, counted: CountedHours) -> Mapping[str, Collection[int]]:
        """Return the hours in which endpoints have other sums than have counted."""
        changed: defaultdict[str, set[int]] = defaultdict(set)
        for hour in counted.keys() & self._totals.keys():
            before = counted[hour]
            for endpoint_id, amounts in self._totals[hour].items():
                if amounts != before.get(endpoint_id, NOTHING_COUNTED)[:2]:
                    changed[endpoint_id].add(hour)
        return changed

    def hours_of(self, cell: Cell, hours: Collection[int]) -> tuple[HourOfTraffic, ...]:
        """Return the counts of a cell in some of its hours."""
        columns = self._cells.get(cell)
        if columns is None or not hours:
            return ()
        found = sorted(zip(columns[0], columns[_CALLS], columns[_ERRORED], strict=True))
        return tuple(HourOfTraffic(*each) for each in found if each[0] in hours)

    def _clear(self) -> None:
        self._sizes, self._cells, self._totals = {}, {}, {}

    def _read_sizes(self, connection: Connection, spans: range) -> dict[int, _Size]:
        columns = self._table.c
        # Rows that a process of an earlier version adds have no attempts.
        sizes = func.sum(columns.requests + columns.attempts)
        query = select(self._span, func.count(), sizes)
        query = query.where(self._span.between(spans.start, spans.stop - 1)).group_by(self._span)
        return {span: (rows, int(sum_)) for span, rows, sum_ in connection.execute(query)}

    def _read_cells(self, connection: Connection, spans: Sequence[int]) -> None:
        """Read the rows of these hours or days, in place of what is cached of them."""
        if not spans:
            return
        columns = (self._table.c[name] for name in (*_CELL, self._span.name, *_COUNTS))
        query = select(*columns).where(self._span.in_(spans))
        totals: dict[int, dict[str, _Amounts]] = {span: {} for span in spans}
        for endpoint_id, source, tenant, stratum, *row in connection.execute(query):
            cell = (endpoint_id, source, tenant, stratum)
            calls, errored = totals[row[0]].get(endpoint_id, (0, 0))
            totals[row[0]][endpoint_id] = calls + row[_CALLS], errored + row[_ERRORED]
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
        if self._span.name == "hour":
            self._totals |= totals

    def _drop_others(self, spans: range) -> None:
        self._sizes = {span: size for span, size in self._sizes.items() if span in spans}
        self._totals = {span: each for span, each in self._totals.items() if span in spans}
        cells: dict[Cell, _Columns] = {}
        for cell, columns in self._cells.items():
            wanted = [span in spans for span in columns[0]]
            if any(wanted):
                cells[cell] = tuple(array("q", compress(column, wanted)) for column in columns)
        self._cells = cells


def _sum_cell(columns: _Columns, weights: Mapping[int, int], closed: int) -> CellSums:
    spans, *counts = columns
    weighted = [weights[span] for span in spans]
    place = spans.index(closed) if closed in spans else None
    return CellSums(
        ToolCounts(*[sum(map(mul, weighted, column)) for column in counts]),
        ToolCounts(*map(sum, counts)),
        (0, 0) if place is None else (columns[_CALLS][place], columns[_ERRORED][place]),
        min(spans),
        max(spans),
    )


class CounterCache:
    """The counters that one process has read, for each way of weighting them."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[TableCache, TableCache]] = {}

    def tables(self, key: str) -> tuple[TableCache, TableCache]:
        """Return the caches of days and of hours for one evidence spec."""
        new = TableCache(evidence_day, "day"), TableCache(evidence_counter, "hour")
        return self._tables.setdefault(key, new)
