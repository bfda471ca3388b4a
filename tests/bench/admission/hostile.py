"""The table of attacks by tenants: how often each moves a pool, and at what cost in requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import median
from typing import Final

from tests.bench.admission.attacks import ATTACKS, Attack, Ground, cheapest, ground, usual_mix
from tests.bench.admission.parallel import simulate
from tests.bench.admission.report import Report


@dataclass(frozen=True, slots=True)
class Column:
    """A pool's honest tenants, and the hostile ones; `rarely` divides the number of runs."""

    tenants: int
    hostile: int
    rarely: int = 1

    @property
    def name(self) -> str:
        """Its header."""
        return f"{self.tenants} + {self.hostile}"

    def must_withstand(self, attack: Attack) -> bool:
        """Return whether so few hostile tenants must not move such a pool."""
        hostile = max(self.hostile, attack.accounts)
        least = next(tenants for most, tenants in WITHSTOOD.items() if hostile <= most)
        return self.tenants >= least


WITHSTOOD: Final = {1: 5, 20: 45, 100: 400}
"""By the most hostile tenants, from how many honest tenants on a pool must withstand them."""
COLUMNS: Final = (
    Column(1, 1),
    Column(5, 1),
    Column(20, 1),
    Column(45, 1, 2),
    Column(45, 20, 2),
    Column(100, 1, 4),
    Column(100, 20, 4),
    Column(400, 1, 16),
    Column(400, 20, 16),
    Column(400, 100, 16),
)


@dataclass(frozen=True, slots=True)
class Task:
    """One world and the hostile tenants in it; its attacks are tried one after the other."""

    column: Column
    seed: int
    attacks: tuple[str, ...]


Costs = dict[str, int | None]


@lru_cache(1)
def world(tenants: int, seed: int) -> Ground:
    """Draw one world, and keep the last one."""
    return ground(usual_mix(tenants), seed)


def costs(task: Task) -> Costs:
    """Return what each attack costs in one world, `None` if it moves nothing."""
    drawn = world(task.column.tenants, task.seed)
    return {name: cheapest(drawn, ATTACKS[name], task.column.hostile) for name in task.attacks}


def attacked(
    attacks: Sequence[str], columns: Sequence[Column], runs: int, seed: int
) -> Iterator[tuple[Column, list[Costs]]]:
    """Yield the costs of every attack in all worlds of a column, as soon as they are known."""
    tasks = [
        Task(column, seed + run, tuple(attacks))
        for column in columns
        for run in range(max(1, runs // column.rarely))
    ]
    left = {column: sum(task.column == column for task in tasks) for column in columns}
    found: dict[Column, list[Costs]] = {column: [] for column in columns}
    for task, paid in simulate(costs, tasks):
        found[task.column].append(paid)
        if len(found[task.column]) == left[task.column]:
            yield task.column, found[task.column]


def report_attacks(to: Report, attacks: Sequence[str], runs: int, seed: int) -> None:
    """Print the table by column, each with its share of worlds and the median cost."""
    lines: dict[str, list[str]] = {name: [] for name in attacks}
    columns: list[Column] = []
    for column, found in attacked(attacks, COLUMNS, runs, seed):
        columns.append(column)
        for name in attacks:
            paid = [each[name] for each in found]
            moved = [cost for cost in paid if cost is not None]
            lines[name].append(cell(moved, len(paid)))
            if moved and column.must_withstand(ATTACKS[name]):
                what = f"{column.hostile} hostile tenants among {column.tenants}"
                to.missed.append(f"{name}: {what} move the pool: {cell(moved, len(paid))}")
        to.table(
            f"{column.name} tenants, {len(found)} worlds: attacks that move the pool",
            ("", "moves", "95 %", "requests (least)"),
            *((name, *lines[name][-1].split("|")) for name in attacks),
        )
    to.table(
        "attacks by honest + hostile tenants: worlds moved, and their median cost in requests",
        ("", *(column.name for column in columns)),
        *((name, *(shortened(each) for each in lines[name])) for name in attacks),
    )


def cell(moved: Sequence[int], runs: int) -> str:
    """Format how many worlds were moved, the interval of their share, and the costs."""
    low, high = wilson(len(moved), runs)
    spent = f"{median(moved):,.0f} ({min(moved):,})" if moved else "–"
    return f"{len(moved)}/{runs}|{100 * low:.0f}–{100 * high:.0f} %|{spent}"


def shortened(each: str) -> str:
    """Format a cell of the large table."""
    share, _, spent = each.split("|")
    return f"{share}: {spent.split(' ')[0]}" if spent != "–" else "–"


def wilson(hits: float, runs: int, z: float = 1.96) -> tuple[float, float]:
    """Return the two-sided Wilson interval of a share."""
    share, weight = hits / runs, z * z / runs
    middle = (share + weight / 2) / (1 + weight)
    half = z * sqrt(share * (1 - share) / runs + weight / (4 * runs)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)
