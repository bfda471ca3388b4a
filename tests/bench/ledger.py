"""Figures and their targets: a table of all at the end, and a missed target fails its bench."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.bench.measure import Compared, Spread

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
HEAD = ("measurement", "ours", "compared with", "ratio or figure", "quartiles", "target", "")


@dataclass(frozen=True, slots=True)
class Line:
    """One measurement; `met` is `None` without a target."""

    cells: tuple[str, str, str, str, str, str]
    met: bool | None


class Ledger:
    """The figures of one run."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def slower(self, name: str, found: Compared, *, at_most: float | None = None) -> None:
        """Add how many times as long as the other side ours takes."""
        ratio = found.ratio
        target = None if at_most is None else (f"≤ {at_most:g}×", ratio.median <= at_most)
        self._add_ratio(name, found, ratio, target)

    def faster(self, name: str, found: Compared, *, at_least: float | None = None) -> None:
        """Add how many times faster than the other side ours is."""
        one = found.ratio
        ratio = Spread(1 / one.median, 1 / one.high, 1 / one.low)
        target = None if at_least is None else (f"≥ {at_least:,.0f}×", ratio.median >= at_least)
        self._add_ratio(name, found, ratio, target)

    def took(self, name: str, found: Spread, *, below: float | None = None) -> None:
        """Add the seconds that something took."""
        quartiles = f"{shown(found.low)} – {shown(found.high)}"
        target = f"< {shown(below)}" if below else "–"
        met = None if below is None else found.median < below
        self.add(Line((name, shown(found.median), "", shown(found.median), quartiles, target), met))

    def counted(self, name: str, count: int, *, at_least: int) -> None:
        """Add a number that has a lower limit."""
        self.add(
            Line((name, f"{count:,}", "", f"{count:,}", "", f"≥ {at_least:,}"), count >= at_least)
        )

    def held(self, name: str, mib: float, *, below: float) -> None:
        """Add an amount of memory."""
        self.add(
            Line(
                (name, f"{mib:,.0f} MB", "", f"{mib:,.0f} MB", "", f"< {below:,.0f} MB"),
                mib < below,
            )
        )

    def _add_ratio(
        self, name: str, found: Compared, ratio: Spread, required: tuple[str, bool] | None
    ) -> None:
        target, met = required or ("–", None)
        ours, theirs = shown(found.ours.median), shown(found.theirs.median)
        quartiles = f"{times(ratio.low)} – {times(ratio.high)}"
        self.add(Line((name, ours, theirs, times(ratio.median), quartiles, target), met))

    def add(self, line: Line) -> None:
        self.lines.append(line)
        assert line.met is not False, (
            f"{line.cells[0]}: {line.cells[3]} ({line.cells[4]}), target {line.cells[5]}"
        )

    def table(self) -> Iterable[str]:
        if not self.lines:
            return
        results = {None: "", True: "met", False: "MISSED"}
        rows = [HEAD, *((*line.cells, results[line.met]) for line in self.lines)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
        yield ""
        for row in rows:
            yield "  ".join(
                cell.ljust(width) for cell, width in zip(row, widths, strict=True)
            ).rstrip()


def shown(seconds: float) -> str:
    size, unit = next(((s, u) for s, u in UNITS if seconds >= s), UNITS[-1])
    return f"{seconds / size:.3g} {unit}"


def times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 100 else f"{ratio:.2f}×"
