"""Members that change: hours until they leave, and providers that hide their errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from tests.bench.admission.attacks import usual_mix
from tests.bench.admission.established import MEMBERS, EstablishedPool, established
from tests.bench.admission.hostile import wilson
from tests.bench.admission.parallel import simulate
from tests.bench.admission.population import Mix, Offered
from tests.bench.admission.report import Report
from tests.bench.admission.traffic import HOURS_A_DAY, Floats

PLACE: Final = 1  # the member of .985 that changes
MINORITY: Final = 0.15
BAD: Final = 0.86
TENANTS: Final = (1, 5, 20, 45, 100)


@dataclass(frozen=True, slots=True)
class Fault:
    """What changes: an accuracy, or everything for a minority; what is asked of the delay."""

    changed: Offered
    of_tenants: float = 0.0
    days: int = 7
    asked: float | None = None  # hours, of the 90th percentile
    least_tenants: int = 1


FAULTS: Final[Mapping[str, Fault]] = {
    ".985 to .90": Fault(Offered(0.90)),
    "all errors for 15 % of tenants": Fault(
        Offered(0.985), MINORITY, days=2, asked=24, least_tenants=20
    ),
    "bait and switch: .985 to .94": Fault(Offered(0.94)),
    ".86 with text instead of bad calls": Fault(Offered(BAD, texts=1.0), days=3),
    ".86 with no answer instead": Fault(Offered(BAD, fails=1.0), days=3),
    ".86 padded with good calls": Fault(Offered(BAD, pads=0.9), days=3),
    ".86 on easy requests only": Fault(Offered(BAD, serves=(0, 1)), days=3),
}

TRICKS: Final[Mapping[str, Offered]] = {
    ".86 without a trick": Offered(BAD),
    "text instead of bad calls": Offered(BAD, texts=1.0),
    "no answer instead": Offered(BAD, fails=1.0),
    "padded with good calls": Offered(BAD, pads=0.9),
    "hard requests refused": Offered(BAD, serves=(0,)),
    "hard requests refused, of .90": Offered(0.90, serves=(0,)),
}


@dataclass(frozen=True, slots=True)
class FaultWorld:
    """One world with a fault."""

    fault: str
    tenants: int
    seed: int


def delay(world: FaultWorld) -> float:
    """Return the hours until the member is out; infinite if it stays, NaN if it never was in."""
    fault = FAULTS[world.fault]
    pool = established(usual_mix(world.tenants), MEMBERS, world.seed, hour_of_day=world.seed % 24)
    if PLACE not in pool.members:
        return np.nan
    hit = minority(pool, fault.of_tenants, world.seed) if fault.of_tenants else ()
    pool.honest.change(PLACE, fault.changed, hit)
    for hour in range(1, fault.days * HOURS_A_DAY + 1):
        pool.close()
        if PLACE not in pool.members:
            return float(hour)
    return np.inf


def minority(pool: EstablishedPool, share: float, seed: int) -> tuple[int, ...]:
    """Choose this share of the tenants, with about the same share of the endpoint's requests."""
    draw, honest = np.random.default_rng(seed), pool.honest
    own = honest.endpoint == PLACE
    daily = np.bincount(honest.tenant[own], honest.daily[own], honest.mix.tenants)
    number = max(1, round(share * honest.mix.tenants))
    tries = [draw.choice(honest.mix.tenants, number, replace=False) for _ in range(50)]
    best = min(tries, key=lambda chosen: abs(daily[chosen].sum() / daily.sum() - share))
    return tuple(best.tolist())


def report_faults(to: Report, runs: int, seed: int) -> None:
    """Print the hours until a changed member is out, by fault and number of tenants."""
    tasks = [
        FaultWorld(name, tenants, seed + run)
        for name, fault in FAULTS.items()
        for tenants in TENANTS
        if tenants >= fault.least_tenants
        for run in range(runs if tenants < 45 else max(4, runs // 4))
    ]
    expected: defaultdict[tuple[str, int], int] = defaultdict(int)
    for task in tasks:
        expected[task.fault, task.tenants] += 1
    found: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    header = ("tenants", "worlds", "median", "90 %", "longest", "still in", "95 %")
    lines: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    left = {name: sum(task.fault == name for task in tasks) for name in FAULTS}
    for task, hours in simulate(delay, tasks):
        own = found[task.fault, task.tenants]
        own.append(hours)
        if len(own) == expected[task.fault, task.tenants]:
            lines[task.fault].append(delays(to, task, np.array(own)))
        left[task.fault] -= 1
        if not left[task.fault]:
            rows = sorted(lines[task.fault], key=lambda row: int(row[0]))
            to.table(f"hours until a member is out: {task.fault}", header, *rows)


def delays(to: Report, task: FaultWorld, hours: Floats) -> tuple[str, ...]:
    """Format the delays of one fault and number of tenants."""
    known, fault = hours[~np.isnan(hours)], FAULTS[task.fault]
    if not len(known):
        return (str(task.tenants), "0", *("",) * 5)
    stayed = int(np.isinf(known).sum())
    low, high = wilson(stayed, len(known))
    middle, most = (float(np.quantile(known, q, method="higher")) for q in (0.5, 0.9))
    if fault.asked is not None and most > fault.asked:
        to.missed.append(
            f"{task.fault}, {task.tenants} tenants: 90 % within {most:g} h, asked 24 h"
        )
    tricks = fault.changed != Offered(fault.changed.accuracy)
    if tricks and stayed:
        to.missed.append(f"{task.fault}, {task.tenants} tenants: {stayed}/{len(known)} still in")
    return (
        str(task.tenants),
        str(len(known)),
        *(f"{h:g} h" for h in (middle, most, float(known.max()))),
        f"{100 * stayed / len(known):.0f} %",
        f"{100 * low:.0f}–{100 * high:.0f}",
    )


@dataclass(frozen=True, slots=True)
class TrickWorld:
    """One world with a provider that hides its errors from the beginning."""

    trick: str
    tenants: int
    seed: int


def admitted(world: TrickWorld) -> bool:
    """Return whether the provider is in the pool after two weeks of it."""
    offered = (*MEMBERS, TRICKS[world.trick])
    pool = established(usual_mix(world.tenants), offered, world.seed)
    return len(MEMBERS) in pool.members


def report_tricks(to: Report, runs: int, seed: int) -> None:
    """Print how often a provider gets in that hides its errors."""
    tasks = [
        TrickWorld(name, tenants, seed + run)
        for name in TRICKS
        for tenants in TENANTS
        for run in range(runs if tenants < 45 else max(4, runs // 4))
    ]
    found: defaultdict[tuple[str, int], list[bool]] = defaultdict(list)
    for task, is_in in simulate(admitted, tasks):
        found[task.trick, task.tenants].append(is_in)
    to.table(
        "providers of .86 and .90 that hide errors, with three weeks of history: in the pool",
        ("tenants", *map(str, TENANTS)),
        *((name, *(entered(found[name, n]) for n in TENANTS)) for name in TRICKS),
    )
    for (name, tenants), each in found.items():
        if any(each):
            to.missed.append(f"{name}: {sum(each)}/{len(each)} admitted among {tenants} tenants")


def entered(found: list[bool]) -> str:
    """Format a share with its interval."""
    low, high = wilson(sum(found), len(found))
    share = 100 * sum(found) / len(found)
    return f"{share:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


@dataclass(frozen=True, slots=True)
class TierWorld:
    """Equal endpoints with so many tool-call requests a day each."""

    daily: float
    seed: int


EQUAL: Final = tuple(Offered(0.975) for _ in range(8))
VOLUMES: Final = (30.0, 100.0, 1000.0)


def tier_3(world: TierWorld, days: int = 7) -> float:
    """Return the share of hours that equal endpoints are in tier 3."""
    mix = Mix(20, world.daily, strata=2)
    pool = established(mix, EQUAL, world.seed, days=7, rules="auto-exacto", hour_of_day=0)
    third = []
    for hour in range(days * HOURS_A_DAY):
        tiers = pool.keys("quality_tier")
        third.append(np.mean(tiers == 3))
        pool.share = np.where(tiers == 3, 0.02, 1.0)
        pool.close(ticks=hour % 4 == 3)
    return float(np.mean(third))


def report_tiers(to: Report, runs: int, seed: int) -> None:
    """Print the share of hours that equal endpoints are in tier 3 of auto-exacto."""
    tasks = [TierWorld(daily, seed + run) for daily in VOLUMES for run in range(max(4, runs // 4))]
    found: defaultdict[float, list[float]] = defaultdict(list)
    for task, share in simulate(tier_3, tasks):
        found[task.daily].append(share)
    to.table(
        "equal endpoints in tier 3 of auto-exacto, by requests a day",
        ("", "hours", "most in any world"),
        *(
            (f"{n:g}", f"{100 * np.mean(f):.2f} %", f"{100 * max(f):.1f} %")
            for n, f in found.items()
        ),
    )
    to.table(
        "auto-exacto has to",
        ("", "found", "asked", ""),
        *(
            to.asked(f"hours in tier 3 at {n:g} a day", float(np.mean(f)), 0, 0.01, "%")
            for n, f in found.items()
        ),
    )
