"""Take an observation file: row by row, each kept as a revision of its window or refused with the reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection, Engine, and_, bindparam, insert, select, update

from assay.engine.catalog import Observation
from assay.engine.document import ImportReport, ObservationDocument, ObservedRow, Refusal, Tally
from assay.store.engine import writing
from assay.store.imports.log import Import, bump, changed, note
from assay.store.imports.naming import Names, can_be_made, unknown
from assay.store.imports.observed import create_observed, refresh_observed
from assay.store.imports.windows import Window, Windows, spelled, window_of
from assay.store.rows import observation_of
from assay.store.tables import current, endpoint, observation

Key = tuple[str, str, datetime, datetime]


@dataclass(frozen=True, slots=True)
class Kept:
    """An observation as it stands in the table now."""

    observation: Observation
    revision: int


@dataclass(slots=True)
class Sorting:
    """Rows sorted into added, superseding, unchanged and refused, while the file is read."""

    kept: dict[Key, Kept]
    windows: dict[tuple[str, str], Windows]
    added: dict[Key, Observation] = field(default_factory=dict)
    superseding: dict[Key, Observation] = field(default_factory=dict)
    unchanged: dict[Key, str] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    seen: dict[Key, str] = field(default_factory=dict)

    def take(self, where: str, seen: Observation) -> None:
        """Sort one observation in, under the endpoint id it belongs to."""
        key, window = key_of(seen), window_of(seen)
        windows = self.windows[key[:2]]
        other = windows.overlapping(window)
        if key in self.seen:
            self.refused.append(Refusal(where, f"repeats the window of {self.seen[key]}"))
        elif other is not None:
            self.refused.append(Refusal(where, overlap(seen, other)))
        else:
            self.seen[key] = where
            windows.add(window)
            self._place(key, seen)

    def _place(self, key: Key, seen: Observation) -> None:
        kept = self.kept.get(key)
        if kept is None:
            self.added[key] = seen
        elif kept.observation == seen:
            self.unchanged[key] = self.seen[key]
        else:
            self.superseding[key] = seen

    def tally(self) -> Tally:
        """Name what came in."""
        return Tally(
            added=tuple(sorted(named(each) for each in self.added.values())),
            changed=tuple(sorted(named(each) for each in self.superseding.values())),
            unchanged=len(self.unchanged),
        )


def apply_observations(
    engine: Engine, document: ObservationDocument, *, create_endpoints: bool, now: datetime
) -> ImportReport:
    """Keep what was observed; rows that cannot be are refused one by one and do not stop the rest."""
    sources = sorted({row.observation.source for row in document.rows})
    with writing(engine) as connection:
        rows, refused = identified(connection, document.rows, create_endpoints=create_endpoints)
        sorting = sort(connection, sources, rows)
        created = create_observed(connection, accepted(rows, sorting), now) if create_endpoints else {}
        store(connection, sorting, now)
        refresh_observed(connection, sources)
        tallies = {**created, "observations": sorting.tally()}
        if any(changed(tally) for tally in created.values()):
            bump(connection, "catalog")
        if changed(tallies["observations"]):
            bump(connection, "evidence")
        everything = (*document.refused, *refused, *sorting.refused)
        taken = Import("observations", ", ".join(sources), document.digest, None, now)
        note(connection, taken, tallies, everything)
    return ImportReport(taken.source, tallies, everything)


def identified(
    connection: Connection, rows: Iterable[ObservedRow], *, create_endpoints: bool
) -> tuple[list[ObservedRow], list[Refusal]]:
    """Put the lasting id into each row; refuse rows that name no endpoint, or several."""
    known = connection.execute(select(endpoint.c.endpoint_id, endpoint.c.model, endpoint.c.tag))
    names = Names((row.endpoint_id, row.model, row.tag) for row in known)
    found, refused = [], []
    for row in rows:
        meant = names.meant_by(row)
        if meant is None and create_endpoints and can_be_made(row):
            meant = f"{row.model}@{row.tag}"
            names.add(meant, row.model, row.tag)
        if isinstance(meant, str):
            found.append(replace(row, observation=replace(row.observation, endpoint_id=meant)))
        else:
            refused.append(meant or unknown(row))
    return found, refused


def sort(connection: Connection, sources: list[str], rows: Iterable[ObservedRow]) -> Sorting:
    """Compare the rows with what is kept of their sources."""
    kept: dict[Key, Kept] = {}
    bounds: dict[tuple[str, str], list[Window]] = defaultdict(list)
    for row in connection.execute(select(observation).where(current, observation.c.source.in_(sources))):
        seen = observation_of(row)
        kept[key_of(seen)] = Kept(seen, row.revision)
        bounds[seen.endpoint_id, seen.source].append(window_of(seen))
    windows = defaultdict(Windows, {key: Windows(each) for key, each in bounds.items()})
    sorting = Sorting(kept, windows)
    for observed in rows:
        sorting.take(observed.where, observed.observation)
    return sorting


def accepted(rows: Iterable[ObservedRow], sorting: Sorting) -> list[ObservedRow]:
    """Return the rows that were not refused."""
    return [row for row in rows if sorting.seen.get(key_of(row.observation)) == row.where]


def store(connection: Connection, sorting: Sorting, now: datetime) -> None:
    """Write new windows, and new revisions of old ones; what they supersede stays, marked."""
    columns = observation.c
    same = ("endpoint_id", "source", "observed_from", "observed_to")
    if sorting.superseding:
        this = and_(current, *(columns[name] == bindparam(f"this_{name}") for name in same))
        keys = [dict(zip((f"this_{name}" for name in same), key, strict=True)) for key in sorting.superseding]
        connection.execute(update(observation).where(this).values(superseded_at=now), keys)
    first = [{**asdict(seen), "revision": 1, "imported_at": now} for seen in sorting.added.values()]
    again = [
        {**asdict(seen), "revision": sorting.kept[key].revision + 1, "imported_at": now}
        for key, seen in sorting.superseding.items()
    ]
    if first or again:
        connection.execute(insert(observation), [*first, *again])


def key_of(seen: Observation) -> Key:
    """Return what makes an observation the same one in another file."""
    return seen.endpoint_id, seen.source, seen.observed_from, seen.observed_to


def named(seen: Observation) -> str:
    """Name an observation in a report."""
    return f"{seen.endpoint_id} {seen.source} {spelled(window_of(seen))}"


def overlap(seen: Observation, other: Window) -> str:
    """Say why an overlapping window is refused."""
    here = spelled(window_of(seen))
    return f"window {here} overlaps {spelled(other)} of {seen.source} for {seen.endpoint_id} and would count twice"
