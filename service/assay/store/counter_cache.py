"""Counters kept from tick to tick, so that only what has grown is read again: the same sums, to the last digit.

Counters only ever grow. So the number of rows of an hour or day, and the sum of their requests, tell whether it still
is as it was read; where either is less than it was, all is read anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import compress
from operator import mul
from typing import Final, NamedTuple

from sqlalchemy import Connection, Table, func, select

COUNTS: Final = (
    "requests",
    "tool_call_requests",
    "errored_requests",
    "auto_requests",
    "auto_tool_call_requests",
)
Cell = tuple[str, str, str, int]  # endpoint, source, tenant, stratum
Size = tuple[int, int]  # rows, and the requests in them
Columns = Sequence["array[int]"]  # hours or days, then each of their counts


class Sums(NamedTuple):
    """What a cell's counters come to: counts weighted, then the first three as they are and those of a closed hour."""

    counts: Sequence[int]
    first: int
    last: int


class TableCache:
    """The counters of one table, by cell, over a range of hours or days."""

    def __init__(self, table: Table, span: str) -> None:
        self._table = table
        self._span = table.c[span]
        self._known: dict[int, Size] = {}
        self._cells: dict[Cell, Columns] = {}

    def renew(self, connection: Connection, spans: range) -> None:
        """Make it hold what the table does over these hours or days."""
        sizes = self._sizes(connection, spans)
        if any(
            sizes.get(span, (0, 0)) < size for span, size in self._known.items() if span in spans
        ):
            self.clear()
        if any(span not in spans for span in self._known):
            self._keep(spans)
        grown = [span for span, size in sizes.items() if self._known.get(span) != size]
        try:
            self._read(connection, grown)
        except BaseException:
            self.clear()
            raise
        self._known |= {span: sizes[span] for span in grown}

    def clear(self) -> None:
        """Forget all."""
        self._known, self._cells = {}, {}

    def sums(
        self, weights: Sequence[Mapping[int, int]], steps: Mapping[str, int], closed: int
    ) -> dict[Cell, Sums]:
        """Add each cell up: `weights` by step and hour or day, `steps` by endpoint, the last where there is none."""
        last = len(weights) - 1
        return {
            cell: added_up(columns, weights[steps.get(cell[0], last)], closed)
            for cell, columns in self._cells.items()
        }

    def _sizes(self, connection: Connection, spans: range) -> dict[int, Size]:
        requests = func.sum(self._table.c.requests)
        query = select(self._span, func.count(), requests).where(
            self._span.between(spans.start, spans.stop - 1)
        )
        return {
            span: (rows, int(size))
            for span, rows, size in connection.execute(query.group_by(self._span))
        }

    def _read(self, connection: Connection, spans: Sequence[int]) -> None:
        """Take the rows of these hours or days, in place of those there are."""
        cell = [self._table.c[name] for name in ("endpoint_id", "source", "tenant", "stratum")]
        query = select(*cell, self._span, *(self._table.c[name] for name in COUNTS)).where(
            self._span.in_(spans)
        )
        for endpoint_id, source, tenant, stratum, *row in (
            connection.execute(query) if spans else ()
        ):
            columns = self._cells.setdefault(
                (endpoint_id, source, tenant, stratum), tuple(array("q") for _ in row)
            )
            there = columns[0]
            if row[0] in self._known and row[0] in there:
                place = there.index(row[0])
                for column, value in zip(columns, row, strict=True):
                    column[place] = value
            else:
                for column, value in zip(columns, row, strict=True):
                    column.append(value)

    def _keep(self, spans: range) -> None:
        """Let go of all others."""
        self._known = {span: size for span, size in self._known.items() if span in spans}
        kept = {
            cell: [span in spans for span in columns[0]] for cell, columns in self._cells.items()
        }
        self._cells = {
            cell: tuple(array("q", compress(column, kept[cell])) for column in columns)
            for cell, columns in self._cells.items()
            if any(kept[cell])
        }


def added_up(columns: Columns, weights: Mapping[int, int], closed: int) -> Sums:
    """Add one cell up."""
    spans, requests, calls, errored, *autos = columns
    weighed = [weights[span] for span in spans]
    at = spans.index(closed) if closed in spans else None
    return Sums(
        [
            *(sum(map(mul, weighed, counts)) for counts in (requests, calls, errored, *autos)),
            sum(requests),
            sum(calls),
            sum(errored),
            *((0, 0) if at is None else (calls[at], errored[at])),
        ],
        min(spans),
        max(spans),
    )
