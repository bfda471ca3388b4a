"""The printed tables: each figure next to the published one, each target next to its result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from tests.bench.admission import reference
from tests.bench.admission.degradation import Degradation, Degraded
from tests.bench.admission.manipulation import Moved
from tests.bench.admission.steady import VOLUMES, Steady
from tests.bench.admission.traffic import Floats

LARGE = 50_000
SIZES = {
    "1k": (0.0, 1.5e3),
    "2.7k": (1.5e3, 4e3),
    "7k": (4e3, 1.2e4),
    "19k": (1.2e4, 3e4),
    "≥ 52k": (LARGE, np.inf),
}
FEW_HOSTILE = 20


def say(line: object) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass
class Report:
    """Tables, printed as they are added, and the missed targets."""

    say: Callable[[str], object] = say
    missed: list[str] = field(default_factory=list)

    def table(self, title: str, *lines: Sequence[str]) -> None:
        """Return a table with aligned columns, the header first."""
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        self.say(f"\n{title}")
        for first, *rest in lines:
            cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
            self.say("   ".join(["  " + first.ljust(widths[0]), *cells]))

    def asked(
        self, what: str, found: float, low: float, high: float, unit: str = ""
    ) -> tuple[str, str, str, str]:
        """Return a figure with its bounds, as a row."""
        met = low <= found <= high
        bounds = (
            f"≤ {shown(high, unit)}" if low <= 0 else f"{shown(low, unit)} to {shown(high, unit)}"
        )
        if not met:
            self.missed.append(f"{what}: {shown(found, unit)}, asked {bounds}")
        return (what, shown(found, unit), bounds, "" if met else "MISSED")


def shown(value: float, unit: str = "") -> str:
    """Format a figure; hours are whole numbers if possible."""
    if unit == "%":
        return f"{100 * value:.2f} %"
    return "none" if np.isinf(value) else f"{value:g} {unit}".strip() if unit else f"{value:.3f}"


def spread(runs: Floats) -> str:
    """Format a share over all runs, with its range."""
    return f"{100 * runs.mean():.2f} % ({100 * runs.min():.1f}–{100 * runs.max():.1f})"


def strict_steady(to: Report, tenth: Steady, hundredth: Steady, everything: Steady) -> None:
    """Print the steady state of `strict`, by the share of traffic outside the pool."""
    ours = {"1 % of traffic outside": hundredth, "10 %": tenth, "100 %": everything}
    to.table(
        "strict, steady state: 28 days after 3 of warm-up (mean, and range over runs)",
        (
            "",
            "false admit (≤ .96)",
            "false reject (≥ .98)",
            ".97 in pool",
            "flaps a week, all",
            "worst",
        ),
        ("reference, 1 %", "0.00 %", "5.80 %", "3.50 %", "0.010", "0.070"),
        ("reference, 10 %", "", "1.30 %", "", "", ""),
        ("reference, 100 %", "", "", "1 to 7 %", "", ""),
        *(
            (
                name,
                spread(s.false_admit(0.96)),
                spread(s.false_reject(0.98)),
                spread(s.inside[:, s.at(0.97)]),
                f"{s.flaps().mean():.3f}",
                f"{s.flaps_of_worst():.3f}",
            )
            for name, s in ours.items()
        ),
    )
    in_pool = everything.inside[:, everything.at(0.98)]
    daily = everything.daily[:, everything.at(0.98)]
    first = everything.first[:, everything.at(0.985)]
    first_daily = everything.daily[:, everything.at(0.985)]
    to.table(
        "strict, 100 % of traffic outside: .98 in the pool, and days until .985 comes in",
        ("requests a day", *(f"{v:,.0f}" for v in VOLUMES)),
        (".98 in pool", *(f"{100 * in_pool[np.isclose(daily, v)].mean():.1f} %" for v in VOLUMES)),
        ("reference", "91 %", "", "99 %", "", "", "100 %", "100 %", "100 %"),
        (
            ".985 comes in after",
            *(f"{np.median(first[np.isclose(first_daily, v)]) / 24:.2f}" for v in VOLUMES),
        ),
        ("reference", "0.9", "", "0.2", "", *("< 0.04",) * 4),
    )
    to.table(
        "strict reproduces",
        ("", "found", "asked", ""),
        to.asked("false admit", float(hundredth.false_admit(0.96).mean()), 0, 0.0005, "%"),
        to.asked(
            "false reject",
            float(hundredth.false_reject(0.98).mean()),
            0,
            2 * reference.FALSE_REJECT,
            "%",
        ),
        to.asked(
            "false reject, 10 % outside",
            float(tenth.false_reject(0.98).mean()),
            0,
            reference.FALSE_REJECT,
            "%",
        ),
        to.asked(
            ".97 in pool", float(hundredth.inside[:, hundredth.at(0.97)].mean()), 0, 0.07, "%"
        ),
        to.asked("flaps a provider-week", float(hundredth.flaps().mean()), 0, 0.02),
    )


def strict_degradation(to: Report, found: Degradation) -> None:
    """Print the delays of `strict`, in hours after the first closed one."""
    lines = []
    rows = []
    for change in found.changes:
        ours = [change.median(*size) - 1 for size in SIZES.values()]
        theirs = reference.DELAYS[change.to]
        lines.append(
            (
                f"to {change.to:g}",
                *(f"{h:g}" for h in ours),
                *tail(change, 1),
                f"{found.false_evictions:.3f}",
            )
        )
        lines.append(
            (
                "  reference",
                *map(str, theirs),
                f"{reference.DELAYS_90[change.to]} h",
                *missed(change.to),
                "0.00",
            )
        )
        for size, ours_there, there in zip(SIZES, ours, theirs, strict=True):
            rows.append(to.asked(f"to {change.to:g} at {size}", ours_there, 0, 2 * there + 1, "h"))
    to.table(
        "strict, silent degradation from .985: "
        "median hours after the first closed one, by requests a day",
        ("", *SIZES, "90th percentile", "not in 7 days", "false evictions a week"),
        *lines,
    )
    to.table("strict reproduces", ("", "found", "asked", ""), *rows)


def missed(level: float) -> tuple[str]:
    """Return the published share that was not evicted in a week."""
    return ("0.3 %" if level == max(reference.DELAYS) else "0.0 %",)


def tail(change: Degraded, less: int) -> tuple[str, str]:
    """Return the 90th percentile of a delay, and the share that was not evicted."""
    return (f"{change.quantile(0.9) - less:g} h", f"{100 * change.missed():.1f} %")


def shipped_steady(to: Report, everything: Steady, tenth: Steady) -> None:
    """Print the steady state of the shipped rules."""
    for name, s in {"100 %": everything, "10 %": tenth}.items():
        to.table(
            f"exacto, steady state: 28 days after 3 of warm-up, {name} of traffic outside",
            ("true accuracy", *(f"{a:g}" for a in s.accuracies)),
            ("in the pool", *(f"{100 * share:.2f} %" for share in s.inside.mean(axis=0))),
            ("most in any run", *(f"{100 * share:.2f} %" for share in s.inside.max(axis=0))),
            ("flaps a week", *(f"{f:.3f}" for f in s.moves.mean(axis=0) / 4)),
        )
        to.table(
            f"exacto has to, {name} of traffic outside",
            ("", "found", "asked", ""),
            to.asked("false admit at ≤ .93", float(s.false_admit(0.93).mean()), 0, 0.001, "%"),
            to.asked("flaps a provider-week", float(s.flaps().mean()), 0, 0.05),
        )


def shipped_degradation(to: Report, found: Degradation) -> None:
    """Print the delays of the shipped rules, in hours since the change."""
    to.table(
        "exacto, silent degradation from .985: median hours since the change, by requests a day",
        ("", *SIZES, "90th percentile", "not in 7 days"),
        *(
            (f"to {c.to:g}", *(f"{c.median(*size):g}" for size in SIZES.values()), *tail(c, 0))
            for c in found.changes
        ),
    )
    large = {c.to: c.delays[:, VOLUMES >= LARGE] for c in found.changes}
    limits = {0.90: 2.0, 0.92: 3.0}
    to.table(
        "exacto has to, at 50,000 requests a day and more",
        ("", "found", "asked", ""),
        *(
            to.asked(f"median to {level:g}", float(np.median(large[level])), 0, h, "h")
            for level, h in limits.items()
        ),
        to.asked("false evictions a provider-week", found.false_evictions, 0, 0.0),
    )
    within = ", ".join(
        f"{100 * (large[level] <= h).mean():.0f} % to {level:g} within {h:g} h"
        for level, h in limits.items()
    )
    to.say(f"  of {large[0.90].size}: {within}")


def manipulated(to: Report, name: str, found: Iterable[Moved]) -> None:
    """Print how far hostile tenants get; a few of them must not get anywhere."""
    lines = []
    for m in found:
        a = m.attack
        of = reference.ATTACKS[a.tenants, a.calls]
        lines.append(
            (
                f"{a.tenants:,} × {a.calls:,}" if a.tenants else "none",
                f"{m.pooled:.3f}",
                f"{m.read:.3f}",
                *(f"{value:.3f}" for value in of),
                "yes" if m.admitted else "no",
                "yes" if m.evicted else "no",
            )
        )
        if a.tenants <= FEW_HOSTILE and (m.admitted or m.evicted):
            to.missed.append(f"{name}: {a.tenants} hostile tenants × {a.calls} move a pool")
    to.table(
        f"{name}, manipulation: 400 honest tenants; "
        "hostile ones praise an endpoint of .93, or damn a member of .985",
        (
            "hostile tenants × calls",
            "pooled",
            "as read",
            "reference: pooled",
            "1 % cap",
            "trimmed",
            "comes in",
            "goes",
        ),
        *lines,
    )
