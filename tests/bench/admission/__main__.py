"""`make bench-admission`: simulate admission with the engine and the shipped rule files.

Seeds are fixed, so that two runs give the same figures. Exits with 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

from tests.bench.admission import reference, report
from tests.bench.admission.degradation import degradation
from tests.bench.admission.manipulation import Attack, manipulation
from tests.bench.admission.profiles import profile
from tests.bench.admission.steady import steady

SHIPPED_ACCURACIES = (0.985, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.90)
SEED = 2025
RUNS = 24


@dataclass(frozen=True, slots=True)
class Options:
    """How much to simulate: `runs` is a multiple of eight, one for each accuracy and volume."""

    runs: int


def options(arguments: list[str]) -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.admission", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--runs", type=int, default=RUNS, help=f"runs of each table, 8 at least ({RUNS})"
    )
    return Options(max(8, parser.parse_args(arguments).runs))


def main(arguments: list[str]) -> int:
    """Simulate, print the tables, and name the missed targets."""
    runs, began, to = options(arguments).runs, time.monotonic(), report.Report()
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
    attacks = [Attack(*attack) for attack in reference.ATTACKS]
    for one in (shipped, strict):
        report.manipulated(to, one.name, manipulation(one, attacks, SEED))
    to.say(f"\n{runs} runs, {time.monotonic() - began:.0f} s")
    for line in to.missed:
        to.say(f"MISSED {line}")
    return 1 if to.missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
