"""`make bench-admission`: simulate admission with the engine and the shipped rule files.

Seeds are fixed, so that two runs give the same figures. Exits with 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from tests.bench.admission import reference, report
from tests.bench.admission.attacks import ATTACKS
from tests.bench.admission.degradation import degradation
from tests.bench.admission.faults import report_faults, report_tiers, report_tricks
from tests.bench.admission.honest import report_honest
from tests.bench.admission.hostile import report_attacks
from tests.bench.admission.manipulation import Attack, manipulation
from tests.bench.admission.profiles import profile
from tests.bench.admission.steady import steady

SHIPPED_ACCURACIES = (0.985, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.90)
SEED = 2025
RUNS = 64


@dataclass(frozen=True, slots=True)
class Options:
    """How much to simulate: `runs` is a multiple of eight, one for each accuracy and volume."""

    runs: int
    only: tuple[str, ...]


def options(arguments: list[str]) -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.admission", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--runs", type=int, default=RUNS, help=f"runs of each table, 8 at least ({RUNS})"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[*FAMILIES, *ATTACKS],
        help="simulate this alone: a family of scenarios, or one attack (repeat for more)",
    )
    found = parser.parse_args(arguments)
    return Options(max(8, found.runs), tuple(found.only or FAMILIES))


def without_tenants(to: report.Report, runs: int) -> None:
    """Simulate pools without tenants: who comes in, who leaves and how fast."""
    runs = max(8, runs * 3 // 8)
    few, accuracies = max(8, runs // 3), reference.STEADY_ACCURACIES
    strict, shipped = profile("strict"), profile("exacto")
    report.shipped_degradation(to, degradation(shipped, (0.92, 0.90), runs, SEED))
    whole, tenth = (
        steady(shipped, SHIPPED_ACCURACIES, n, share, SEED)
        for n, share in ((2 * runs, 1.0), (few, 0.1))
    )
    report.shipped_steady(to, whole, tenth)
    report.strict_degradation(to, degradation(strict, (0.96, 0.95, 0.90), runs, SEED))
    shares = ((few, 0.1), (runs, 0.01), (runs, 1.0))
    report.strict_steady(to, *(steady(strict, accuracies, n, share, SEED) for n, share in shares))


def many_tenants(to: report.Report, _runs: int) -> None:
    """Count hostile tenants among four hundred honest ones, by number and calls."""
    attacks = [Attack(*attack) for attack in reference.ATTACKS]
    for one in (profile("exacto"), profile("strict")):
        report.manipulated(to, one.name, manipulation(one, attacks, SEED))


def all_attacks(to: report.Report, runs: int) -> None:
    """Try every attack on established pools."""
    report_attacks(to, tuple(ATTACKS), runs, SEED)


FAMILIES: Mapping[str, Callable[[report.Report, int], None]] = {
    "without-tenants": without_tenants,
    "many-tenants": many_tenants,
    "honest": partial(report_honest, seed=SEED),
    "faults": partial(report_faults, seed=SEED),
    "tricks": partial(report_tricks, seed=SEED),
    "tiers": partial(report_tiers, seed=SEED),
    "attacks": all_attacks,
}


def main(arguments: list[str]) -> int:
    """Simulate, print the tables, and name the missed targets."""
    chosen, began, to = options(arguments), time.monotonic(), report.Report()
    for name in chosen.only:
        if family := FAMILIES.get(name):
            family(to, chosen.runs)
    if some := tuple(name for name in chosen.only if name in ATTACKS):
        report_attacks(to, some, chosen.runs, SEED)
    to.say(f"\n{chosen.runs} runs, {time.monotonic() - began:.0f} s")
    for line in to.missed:
        to.say(f"MISSED {line}")
    return 1 if to.missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
