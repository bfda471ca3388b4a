"""Honest worlds of every mix: who is in the pool that should not be, who is out, who flaps.

Three weeks of history, a day for the pool to settle, and a week by the hour. An endpoint outside
the pool gets a tenth of its traffic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from tests.bench.admission.established import established
from tests.bench.admission.hostile import wilson
from tests.bench.admission.parallel import simulate
from tests.bench.admission.population import Mix, Offered
from tests.bench.admission.report import Report
from tests.bench.admission.traffic import HOURS_A_DAY, Floats

DAYS: Final = 7
OUTSIDE: Final = 0.1
ACCURACIES: Final = (0.995, 0.99, 0.985, 0.98, 0.96, 0.95, 0.93, 0.90)
RARELY: Final = 4  # divides the number of runs of each mix

MIXES: Final[Mapping[str, Mix]] = {
    "even": Mix(20, 2000, pinning=0.0, strata=2),
    "usual": Mix(20, 2000, strata=2),
    "pinned": Mix(20, 2000, pinning=1.5, strata=2),
    "strongly pinned": Mix(20, 2000, pinning=3.0, strata=2),
    "hard tenants": Mix(20, 2000, difficulty=1.2, clustering=4.0, strata=2),
    "propensities differ": Mix(20, 2000, propensities=0.2, strata=2),
    "one broken client": Mix(20, 2000, broken=1, strata=2),
    "quiet": Mix(20, 300, rhythm=1.0, strata=2),
    "one tenant": Mix(1, 1000, strata=2),
    "five tenants": Mix(5, 1000, strata=2),
    "45 tenants": Mix(45, 4500, strata=2),
    "unnamed": Mix(20, 2000, is_named=False),
    "unnamed, clustered": Mix(20, 2000, difficulty=1.2, clustering=8.0, is_named=False),
}


@dataclass(frozen=True, slots=True)
class HonestWorld:
    """One world of a mix."""

    mix: str
    seed: int


@dataclass(frozen=True, slots=True)
class Week:
    """By endpoint, the share of hours in the pool, and how often it entered or left."""

    inside: Floats
    moves: Floats


def week(world: HonestWorld, days: int = DAYS) -> Week:
    """Simulate one world."""
    pool = established(MIXES[world.mix], tuple(map(Offered, ACCURACIES)), world.seed, hour_of_day=0)
    inside = np.zeros((days * HOURS_A_DAY, len(ACCURACIES)))
    for hour in range(-HOURS_A_DAY, days * HOURS_A_DAY):
        now = np.isin(np.arange(len(ACCURACIES)), list(pool.members))
        pool.share = np.where(now, 1.0, OUTSIDE)
        pool.close()
        if hour >= 0:
            inside[hour] = np.isin(np.arange(len(ACCURACIES)), list(pool.members))
    return Week(inside.mean(axis=0), abs(np.diff(inside, axis=0)).sum(axis=0))


def report_honest(to: Report, runs: int, seed: int) -> None:
    """Print false admits, false rejects and flaps of every mix, and of all together."""
    each = max(2, runs // RARELY)
    tasks = [HonestWorld(mix, seed + run) for mix in MIXES for run in range(each)]
    found: defaultdict[str, list[Week]] = defaultdict(list)
    lines = []
    for task, result in simulate(week, tasks):
        found[task.mix].append(result)
        if len(found[task.mix]) == each:
            lines.append(line(task.mix, found[task.mix]))
            to.say("  " + "   ".join(lines[-1]))
    header = ("", "≤ .93 in", "95 %", "ever", "≥ .98 out", "95 %", "flaps a week", "worst")
    to.table(f"honest worlds: {each} of each mix, {DAYS} days", header, *lines)
    everything = [week for weeks in found.values() for week in weeks]
    inside = np.array([w.inside for w in everything])
    is_bad, is_good = (np.array(ACCURACIES) <= 0.93, np.array(ACCURACIES) >= 0.98)
    moves = np.array([w.moves for w in everything])
    to.table(
        f"all {len(everything)} honest worlds have to",
        ("", "found", "asked", ""),
        to.asked("false admit at ≤ .93", float(inside[:, is_bad].mean()), 0, 0.001, "%"),
        to.asked("false reject at ≥ .98", float(1 - inside[:, is_good].mean()), 0, 0.01, "%"),
        to.asked("flaps a provider-week", float(moves.mean() * 7 / DAYS), 0, 0.05),
    )
    for mix, weeks in found.items():
        missed(to, mix, weeks)


def missed(to: Report, mix: str, weeks: Sequence[Week]) -> None:
    """Name the targets that a mix alone misses."""
    false_admit, false_reject = shares(weeks)
    flaps = np.array([w.moves for w in weeks]).mean()
    for what, value, most in (
        ("false admit", false_admit.mean(), 0.001),
        ("false reject", false_reject.mean(), 0.01),
        ("flaps", flaps, 0.05),
    ):
        if value > most:
            to.missed.append(f"{mix}: {what} {value:.4f}, asked ≤ {most:g}")


def shares(weeks: Sequence[Week]) -> tuple[Floats, Floats]:
    """Return false admits and false rejects, one row per world."""
    inside, accuracies = np.array([w.inside for w in weeks]), np.array(ACCURACIES)
    return inside[:, accuracies <= 0.93], 1 - inside[:, accuracies >= 0.98]


def line(mix: str, weeks: Sequence[Week]) -> tuple[str, ...]:
    """Format the figures of one mix."""
    false_admit, false_reject = shares(weeks)
    moves = np.array([w.moves for w in weeks]) * 7 / DAYS
    return (
        mix,
        *with_interval(false_admit),
        f"{100 * (false_admit > 0).mean():.1f} %",
        *with_interval(false_reject),
        f"{moves.mean():.3f}",
        f"{moves.mean(axis=0).max():.2f} (.{1000 * ACCURACIES[moves.mean(axis=0).argmax()]:.0f})",
    )


def with_interval(found: Floats) -> tuple[str, str]:
    """Format the mean of shares, with the interval as of so many independent endpoints."""
    low, high = wilson(float(found.sum()), found.size)
    return f"{100 * found.mean():.2f} %", f"{100 * low:.1f}–{100 * high:.1f}"
