"""Counts of one model by endpoint, tenant, stratum and hour, discounted like those of the store.

Whole days before yesterday are one column each, so that weeks of history are cheap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from tests.bench.admission.pools import FIRST, HOUR, SOURCE
from tests.bench.admission.population import CHANNELS
from tests.bench.admission.traffic import HOURS_A_DAY, Floats, Ints

from assay.engine.evidence.decay import (
    RATE_DAYS,
    WEIGHT_SCALE,
    EvidenceSpec,
    day_weight,
    half_life_step,
    half_lives,
    hour_weight,
)
from assay.engine.world.measurements import Counts, TrafficCounts

Cell = tuple[int, str, int]  # endpoint's place, tenant, stratum
Sent = Mapping[Cell, Sequence[int]]
"""By cell, one number for each of `CHANNELS`."""


@lru_cache(1024)
def weights(spec: EvidenceSpec, hours: int) -> tuple[Floats, Floats]:
    """Return weights by half-life, of the days before yesterday and of the hours since."""
    fine = max(hours // HOURS_A_DAY - 1, 0)
    ladder = half_lives(spec)
    days = [[day_weight(h, day, hours) for day in range(fine)] for h in ladder]
    fresh = [[hour_weight(h, t, hours) for t in range(fine * HOURS_A_DAY, hours)] for h in ladder]
    return np.array(days, np.float64), np.array(fresh, np.float64)


@dataclass
class Ledger:
    """Cells in order of arrival; a column holds the cells known by then.

    `days` has whole days before yesterday, `recent` the hours since.
    """

    cells: list[Cell]
    days: Floats
    recent: list[Floats] = field(default_factory=list)
    places: dict[Cell, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places = {cell: n for n, cell in enumerate(self.cells)}

    @property
    def hours(self) -> int:
        """The number of hours so far."""
        return len(self.days) * HOURS_A_DAY + len(self.recent)

    def fork(self) -> Ledger:
        """Return a ledger with the same past."""
        return Ledger(list(self.cells), self.days, list(self.recent))

    def add_hour(self, honest: Floats, sent: Sent) -> None:
        """Add an hour; the first cells are those of the honest tenants."""
        self.recent.append(self.column(honest, sent))
        if len(self.recent) == 2 * HOURS_A_DAY + 1:
            whole = [self._padded(hour) for hour in self.recent[:HOURS_A_DAY]]
            self.recent = self.recent[HOURS_A_DAY:]
            self.days = np.concatenate([self._padded(self.days), np.sum(whole, axis=0)[None]])

    def column(self, honest: Floats, sent: Sent) -> Floats:
        """Return one column of counts, with a place for each new cell."""
        for cell in sent:
            if cell not in self.places:
                self.places[cell] = len(self.cells)
                self.cells.append(cell)
        column = self._padded(honest)
        for cell, amounts in sent.items():
            column[:, self.places[cell]] += amounts
        return column

    def backdate(self, sent: Sent, days: int) -> None:
        """Add the same counts to each of the last whole days before yesterday."""
        column = self.column(np.zeros((len(CHANNELS), 0)), sent)
        earlier = self._padded(self.days)
        earlier[-days:] += column
        self.days = earlier

    def _padded(self, columns: Floats) -> Floats:
        missing = len(self.cells) - columns.shape[-1]
        return np.concatenate([columns, np.zeros((*columns.shape[:-1], missing))], axis=-1)

    def tallies(self, names: Mapping[int, str], spec: EvidenceSpec) -> tuple[TrafficCounts, ...]:
        """Return the counts so far of the named endpoints; names are by place."""
        days, fresh = self._padded(self.days), np.stack([self._padded(h) for h in self.recent])
        if len(fresh) == 2 * HOURS_A_DAY:  # today has no hour yet
            days = np.concatenate([days, fresh[:HOURS_A_DAY].sum(axis=0)[None]])
            fresh = fresh[HOURS_A_DAY:]
        day_weights, hour_weights = weights(spec, self.hours)
        steps = self.steps(days, fresh, max(names) + 1, spec)
        at = steps[np.minimum([cell[0] for cell in self.cells], max(names))]
        discounted = np.zeros((len(CHANNELS), len(self.cells)))
        for step in sorted(set(steps.tolist())):
            found = np.tensordot(day_weights[step], days, 1)
            found += np.tensordot(hour_weights[step], fresh, 1)
            discounted = np.where(at == step, found, discounted)
        return self._rows(names, spec, steps, (discounted / WEIGHT_SCALE, days, fresh))

    def steps(self, days: Floats, fresh: Floats, places: int, spec: EvidenceSpec) -> Ints:
        """Return the step of each endpoint's half-life, by its whole days so far."""
        calls, at = CHANNELS.index("calls"), np.array([cell[0] for cell in self.cells])
        yesterday = fresh[:HOURS_A_DAY, calls].sum(axis=0)[None]
        whole = np.concatenate([days[:, calls], yesterday])
        found = []
        for place in range(places):
            own = whole[:, at == place].sum(axis=1)
            since = len(own) - int(np.argmax(own > 0)) if own.any() else 0
            found.append(half_life_step(int(own[-RATE_DAYS:].sum()), min(since, RATE_DAYS), spec))
        return np.array(found)

    def _rows(
        self,
        names: Mapping[int, str],
        spec: EvidenceSpec,
        steps: Ints,
        sums: tuple[Floats, Floats, Floats],
    ) -> tuple[TrafficCounts, ...]:
        discounted, days, fresh = sums
        total = (days.sum(axis=0) + fresh.sum(axis=0)).astype(np.int64).T.tolist()
        first, last = (each.tolist() for each in self._span(days, fresh))
        closed = fresh[-1].astype(np.int64).T.tolist()
        lives = [half_lives(spec)[step] * HOUR for step in steps]
        rows = []
        for place, (cell, found) in enumerate(zip(self.cells, discounted.T.tolist(), strict=True)):
            requests, calls, errored, autos, auto_calls, attempts = found
            whole = total[place]
            if cell[0] not in names or not whole[5]:
                continue
            rows.append(
                TrafficCounts(
                    names[cell[0]], SOURCE, cell[1], cell[2],
                    requests, calls, errored, autos, auto_calls,
                    Counts(*whole[:3]), closed[place][1], closed[place][2],
                    FIRST + first[place], FIRST + last[place], lives[cell[0]],
                    attempts=attempts if attempts > requests else None,
                )
            )  # fmt: skip
        return tuple(rows)

    def _span(self, days: Floats, fresh: Floats) -> tuple[Ints, Ints]:
        """Return the first and the last hour of each cell."""
        seen = np.concatenate([days[:, 5] > 0, fresh[:, 5] > 0])
        starts = np.arange(len(days)) * HOURS_A_DAY
        hours = len(days) * HOURS_A_DAY + np.arange(len(fresh))
        begin = np.concatenate([starts, hours])
        end = np.concatenate([starts + HOURS_A_DAY - 1, hours])
        return begin[np.argmax(seen, axis=0)], end[len(seen) - 1 - np.argmax(seen[::-1], axis=0)]
