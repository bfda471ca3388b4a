"""Take benchmark scores: each kept as a revision of its run, or refused with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, and_, bindparam, insert, select, update

from assay.engine.benchmark import BenchmarkRun
from assay.engine.document import BenchmarkDocument, ImportReport, Refusal, ReportedRun, Tally
from assay.store.benchmark_rows import run_cells, run_of
from assay.store.benchmark_tables import IDENTITY, benchmark_run, current
from assay.store.engine import writing
from assay.store.imports.log import Import, bump, changed, note
from assay.store.imports.measured import Measured, known_endpoints

KIND = "benchmarks"
AHEAD = timedelta(days=1)  # a day that has begun somewhere on Earth
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A run as it stands in the table now."""

    run: BenchmarkRun
    revision: int


@dataclass(slots=True)
class Sorting:
    """Runs sorted into added, superseding, unchanged and refused, while the file is read."""

    kept: dict[Key, Kept]
    added: dict[Key, BenchmarkRun] = field(default_factory=dict)
    superseding: dict[Key, BenchmarkRun] = field(default_factory=dict)
    unchanged: int = 0
    refused: list[Refusal] = field(default_factory=list)
    seen: dict[Key, str] = field(default_factory=dict)

    def take(self, where: str, run: BenchmarkRun, now: datetime) -> None:
        """Sort one run in, under the endpoint it measured."""
        key = key_of(run)
        kept = self.kept.get(key)
        if key in self.seen:
            self.refused.append(Refusal(where, f"repeats the run of {self.seen[key]}"))
            return
        self.seen[key] = where
        if run.run_at > now + AHEAD:
            self.refused.append(Refusal(where, f"the run is dated {day(run)}, which is yet to come"))
        elif kept is None:
            self.added[key] = run
        elif kept.run == run:
            self.unchanged += 1
        elif run.run_at < kept.run.run_at:
            why = f"dated {day(run)}, {run.source} has said something newer on {day(kept.run)}"
            self.refused.append(Refusal(where, why))
        else:
            self.superseding[key] = run

    def tally(self) -> Tally:
        """Name what came in."""
        return Tally(
            added=tuple(sorted(map(named, self.added.values()))),
            changed=tuple(sorted(map(named, self.superseding.values()))),
            unchanged=self.unchanged,
        )


def apply_benchmarks(
    engine: Engine, document: BenchmarkDocument, *, endpoint: str | None, now: datetime
) -> ImportReport:
    """Keep the scores; those that cannot be are refused one by one and do not stop the rest.

    `endpoint` is the operator's word for whom the file speaks of; raises InvalidField where there is none of that id.
    """
    with writing(engine) as connection:
        rows, refused = identified(known_endpoints(connection, endpoint), document.rows)
        sources = sorted({row.run.source for row in document.rows})
        sorting = Sorting(kept_of(connection, sources))
        for row in rows:
            sorting.take(row.where, row.run, now)
        store(connection, sorting, now)
        tally = sorting.tally()
        if changed(tally):
            bump(connection, "evidence")
        everything = (*document.refused, *refused, *sorting.refused)
        taken = Import(KIND, ", ".join(sources), document.digest, None, now)
        note(connection, taken, {KIND: tally}, everything)
    return ImportReport(taken.source, {KIND: tally}, everything)


def identified(measured: Measured, rows: Iterable[ReportedRun]) -> tuple[list[ReportedRun], list[Refusal]]:
    """Put the endpoint's id into each row; rows of one subject are refused together."""
    found: list[ReportedRun] = []
    refused: dict[Refusal, None] = {}
    for row in rows:
        meant = measured.meant_by(row.subject)
        if isinstance(meant, str):
            found.append(replace(row, run=replace(row.run, endpoint_id=meant)))
        else:
            refused[meant] = None
    return found, list(refused)


def kept_of(connection: Connection, sources: list[str]) -> dict[Key, Kept]:
    """Read what these sources have said so far."""
    rows = connection.execute(select(benchmark_run).where(current, benchmark_run.c.source.in_(sources)))
    kept = (Kept(run_of(row), row.revision) for row in rows)
    return {key_of(each.run): each for each in kept}


def store(connection: Connection, sorting: Sorting, now: datetime) -> None:
    """Write new runs, and new revisions of known ones; what they supersede stays, marked."""
    if sorting.superseding:
        this = and_(current, *(benchmark_run.c[name] == bindparam(f"this_{name}") for name in IDENTITY))
        keys = [dict(zip((f"this_{name}" for name in IDENTITY), key, strict=True)) for key in sorting.superseding]
        connection.execute(update(benchmark_run).where(this).values(superseded_at=now), keys)
    first = [{**run_cells(run), "revision": 1, "imported_at": now} for run in sorting.added.values()]
    again = [
        {**run_cells(run), "revision": sorting.kept[key].revision + 1, "imported_at": now}
        for key, run in sorting.superseding.items()
    ]
    if first or again:
        connection.execute(insert(benchmark_run), [*first, *again])


def key_of(run: BenchmarkRun) -> Key:
    """Return what makes a run the same one in another file, in the order of the table's identity."""
    cells = run_cells(run)
    return tuple(str(cells[name]) for name in IDENTITY)


def named(run: BenchmarkRun) -> str:
    """Name a run in a report."""
    return f"{run.endpoint_id} {run.series.name}" + (f" {run.run}" if run.run else "")


def day(run: BenchmarkRun) -> str:
    """Date a run in a message."""
    return run.run_at.date().isoformat()
