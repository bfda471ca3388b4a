"""Reported traffic in columns: a million cells take tens of megabytes and sum in milliseconds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from assay.engine.world.clock import HOUR
from assay.engine.world.measurements import Counts, HourOfTraffic, TrafficCounts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TrafficColumns:
    """The columns of `TrafficCounts`, one row per cell, in the order of their names.

    `endpoint`, `source` and `tenant` are numbers in sorted lists of names; `half_life` is in hours.
    """

    endpoint: Ints
    source: Ints
    tenant: Ints
    stratum: Ints
    requests: Floats
    tool_call_requests: Floats
    errored_requests: Floats
    auto_requests: Floats
    auto_tool_call_requests: Floats
    attempts: Floats
    observed_requests: Ints
    observed_calls: Ints
    observed_errored: Ints
    hour_calls: Ints
    hour_errored: Ints
    first_hour: Ints
    last_hour: Ints
    half_life: Floats

    @classmethod
    def of(
        cls,
        cells: Sequence[Ints],
        weighted: Sequence[Floats],
        whole: Sequence[Ints],
        half_life: Floats,
    ) -> TrafficColumns:
        """Return columns from those of the names, of discounted counts, and of whole numbers."""
        endpoint, source, tenant, stratum = cells
        requests, calls, errored, autos, auto_calls, attempts = weighted
        seen, seen_calls, seen_errored, hour_calls, hour_errored, first, last = whole
        return cls(
            endpoint,
            source,
            tenant,
            stratum,
            requests,
            calls,
            errored,
            autos,
            auto_calls,
            attempts,
            seen,
            seen_calls,
            seen_errored,
            hour_calls,
            hour_errored,
            first,
            last,
            half_life,
        )

    def slice(self, start: int, stop: int) -> TrafficColumns:
        """Return a view of some rows."""
        return TrafficColumns(*(getattr(self, each.name)[start:stop] for each in fields(self)))

    def only(self, rows: NDArray[np.bool_]) -> TrafficColumns:
        """Return a copy of some rows."""
        return TrafficColumns(*(getattr(self, each.name)[rows] for each in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class TrafficTable:
    """The traffic of many endpoints, sorted by endpoint, source, tenant and stratum.

    `late` has, by row, the earlier hours that have grown since they were closed; `stale` are the
    endpoints all of whose counts are too old to count.
    """

    endpoints: Sequence[str]
    sources: Sequence[str]
    tenants: Sequence[str]
    columns: TrafficColumns
    late: Mapping[int, tuple[HourOfTraffic, ...]] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()

    @classmethod
    def of(cls, counts: Iterable[TrafficCounts]) -> TrafficTable:
        """Return the same counts in columns; their order does not matter."""
        ordered = sorted(counts, key=lambda c: (c.endpoint_id, c.source, c.tenant, c.stratum))
        rows = [each for each in ordered if each.observed.requests or each.attempts]
        names = [
            sorted({getattr(each, name) for each in rows})
            for name in ("endpoint_id", "source", "tenant")
        ]
        numbers = [{name: number for number, name in enumerate(known)} for known in names]
        cells = [
            (numbers[0][c.endpoint_id], numbers[1][c.source], numbers[2][c.tenant], c.stratum)
            for c in rows
        ]
        weighted = [
            (
                c.requests,
                c.tool_call_requests,
                c.errored_requests,
                c.auto_requests,
                c.auto_tool_call_requests,
                c.requests if c.attempts is None else c.attempts,
            )
            for c in rows
        ]
        whole = [
            (
                c.observed.requests,
                c.observed.tool_call_requests,
                c.observed.errored_requests,
                c.hour_calls,
                c.hour_errored,
                c.first_hour,
                c.last_hour,
            )
            for c in rows
        ]
        columns = TrafficColumns.of(
            list(np.array(cells, np.int64).reshape(-1, 4).T),
            list(np.array(weighted, np.float64).reshape(-1, 6).T),
            list(np.array(whole, np.float64).reshape(-1, 7).T.astype(np.int64)),
            np.array([c.half_life / HOUR for c in rows]),
        )
        answered = {each.endpoint_id for each in rows if each.observed.requests}
        return cls(
            names[0],
            names[1],
            names[2],
            columns,
            {number: each.late for number, each in enumerate(rows) if each.late},
            frozenset(
                each.endpoint_id
                for each in ordered
                if not each.observed.requests and not each.attempts
            )
            - answered,
        )

    def rows(self) -> list[TrafficCounts]:
        """Return the counts one by one."""
        return [self._row(number) for number in range(len(self.columns.endpoint))]

    def _row(self, number: int) -> TrafficCounts:
        columns = self.columns
        row = {each.name: getattr(columns, each.name)[number].item() for each in fields(columns)}
        answered, attempts = row["requests"], row["attempts"]
        return TrafficCounts(
            self.endpoints[row["endpoint"]],
            self.sources[row["source"]],
            self.tenants[row["tenant"]],
            row["stratum"],
            answered,
            row["tool_call_requests"],
            row["errored_requests"],
            row["auto_requests"],
            row["auto_tool_call_requests"],
            Counts(row["observed_requests"], row["observed_calls"], row["observed_errored"]),
            row["hour_calls"],
            row["hour_errored"],
            row["first_hour"],
            row["last_hour"],
            timedelta(hours=row["half_life"]),
            self.late.get(number, ()),
            attempts if attempts > answered else None,
        )

    def of_endpoints(self, endpoints: Sequence[str]) -> TrafficTable:
        """Return the part of some endpoints, in the order of their names."""
        wanted = [place for name in endpoints if (place := self._place(name)) is not None]
        bounds = np.searchsorted(self.columns.endpoint, [(n, n + 1) for n in sorted(wanted)])
        pieces = [(int(start), int(stop)) for start, stop in bounds.reshape(-1, 2)]
        if pieces and pieces[-1][1] - pieces[0][0] == sum(stop - start for start, stop in pieces):
            pieces = [(pieces[0][0], pieces[-1][1])]
        rows = np.concatenate([np.arange(*piece) for piece in pieces] or [np.arange(0)])
        columns = self.columns.slice(*pieces[0]) if len(pieces) == 1 else self.columns.only(rows)
        late = {}
        if self.late:
            late = {n: self.late[row] for n, row in enumerate(rows.tolist()) if row in self.late}
        own = self.stale & set(endpoints) if self.stale else self.stale
        return TrafficTable(self.endpoints, self.sources, self.tenants, columns, late, own)

    def _place(self, endpoint: str) -> int | None:
        place = bisect_left(self.endpoints, endpoint)
        found = place < len(self.endpoints) and self.endpoints[place] == endpoint
        return place if found else None


NO_TRAFFIC: Final = TrafficTable.of(())
