"""Take an observation file: row by row, each kept as a revision of its window or refused with the reason."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection, Engine, Table, and_, bindparam, func, insert, or_, select, update

from assay.engine.world.catalog import Endpoint
from assay.engine.world.measurements import Observation
from assay.importers.documents import (
    ImportCounts,
    ImportReport,
    ObservationDocument,
    ObservedRow,
    Rejection,
)
from assay.store.database import writing
from assay.store.imports.catalog import Statement, compare, tally, write
from assay.store.imports.log import Import, bump, changed, insert_missing, note
from assay.store.listings import CATALOG, ENDPOINTS, OBSERVED, SourceListing, listings
from assay.store.rows import observation_of
from assay.store.tables import current, endpoint, endpoint_listing, model, observation, provider

Window = tuple[datetime, datetime]


def window_of(observation: Observation) -> Window:
    """Return the half-open window an observation speaks of."""
    return observation.observed_from, observation.observed_to


def spelled(window: Window) -> str:
    """Show a window in a message."""
    return "/".join(each.isoformat().replace("+00:00", "Z") for each in window)


class Windows:
    """Windows that do not overlap, in order of time."""

    def __init__(self, windows: Iterable[Window] = ()) -> None:
        self._sorted = sorted(windows)

    def overlapping(self, window: Window) -> Window | None:
        """Find a window that shares an instant with this one but has other bounds."""
        place = bisect_left(self._sorted, window)
        for near in self._sorted[max(place - 1, 0) : place + 2]:
            if near != window and near[0] < window[1] and window[0] < near[1]:
                return near
        return None

    def add(self, window: Window) -> None:
        """Take a window in, once."""
        place = bisect_left(self._sorted, window)
        if self._sorted[place : place + 1] != [window]:
            insort(self._sorted, window)


class Names:
    """All endpoints there ever were, by the names that rows use."""

    def __init__(self, endpoints: Iterable[tuple[str, str, str]]) -> None:
        self._by_tag: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._models: dict[str, str] = {}
        for each in endpoints:
            self.add(*each)

    def add(self, endpoint_id: str, model: str, tag: str) -> None:
        """Know one endpoint more."""
        self._by_tag[model, tag].append(endpoint_id)
        self._models[endpoint_id] = model

    def meant_by(self, row: ObservedRow) -> str | Rejection | None:
        """Return the id of the endpoint meant, `None` if there is none, a refusal if there are several.

        The tag column may hold a full id (`model@tag~2`), or its part after the `@`, where a tag repeats.
        """
        shared = self._by_tag.get((row.model, row.tag), [])
        if len(shared) > 1:
            ids = ", ".join(sorted(shared))
            return Rejection(
                row.where,
                f"tag {row.tag} of {row.model} is ambiguous, write one of {ids} as the tag",
            )
        if shared:
            return shared[0]
        full = (row.tag, f"{row.model}@{row.tag}")
        return next((each for each in full if self._models.get(each) == row.model), None)


def unknown(row: ObservedRow) -> Rejection:
    """Refuse a row whose endpoint no catalog has named."""
    name = f"{row.model}@{row.tag}"
    return Rejection(
        row.where, f"endpoint {name} is unknown; import the catalog first or use --create-endpoints"
    )


def can_be_made(row: ObservedRow) -> bool:
    """Whether the tag is one that an endpoint can have: `@` and `~` are how ids are put together."""
    return not set("@~") & set(row.tag)


Said = Mapping[str, Sequence[SourceListing[Endpoint]]]


def create_observed(
    connection: Connection, rows: Iterable[ObservedRow], now: datetime
) -> dict[str, ImportCounts]:
    """List the rows' endpoints under the rows' own sources, unless a catalog lists them now."""
    said = listings(connection, ENDPOINTS)
    by_source: dict[str, list[ObservedRow]] = defaultdict(list)
    for row in rows:
        if not any(is_catalogued(listing) for listing in said.get(row.observation.endpoint_id, ())):
            by_source[row.observation.source].append(row)
    unspoken = [row for group in by_source.values() for row in group]
    named = {
        "providers": create(connection, provider, {row.provider for row in unspoken}, now),
        "models": create(connection, model, {row.model for row in unspoken}, now),
    }
    made = [list_endpoints(connection, said, group, now) for _, group in sorted(by_source.items())]
    return {**named, "endpoints": united(made)}


def create(connection: Connection, table: Table, names: set[str], now: datetime) -> ImportCounts:
    """Make providers or models known by name alone."""
    column = table.primary_key.columns[0]
    new = sorted(names - set(connection.execute(select(column)).scalars()))
    insert_missing(connection, table, [{column.name: name, "created_at": now} for name in new])
    return ImportCounts(added=tuple(new))


def list_endpoints(
    connection: Connection, said: Said, rows: Sequence[ObservedRow], now: datetime
) -> ImportCounts:
    """List what one source observed; it never unlists: a file of counts is no catalog."""
    source = rows[0].observation.source
    saying = Statement(OBSERVED, source, max(row.observation.observed_to for row in rows), now)
    seen = {endpoint.endpoint_id: endpoint for endpoint in map(observed_endpoint, rows)}
    before = {
        name: listing
        for name, group in said.items()
        for listing in group
        if name in seen and listing.stated_by == (OBSERVED, source)
    }
    difference = compare(ENDPOINTS, before, seen.values())
    write(connection, ENDPOINTS, saying, difference)
    return tally(ENDPOINTS, difference)


def united(tallies: Iterable[ImportCounts]) -> ImportCounts:
    """Put the tallies of several sources together; what two of them made was made once."""
    each = tuple(tallies)
    return ImportCounts(
        added=tuple(sorted({name for one in each for name in one.added})),
        changed=tuple(sorted({name for one in each for name in one.changed})),
        unchanged=sum(one.unchanged for one in each),
    )


def refresh_observed(connection: Connection, sources: Sequence[str]) -> None:
    """Date the listings made from observations by the windows behind them."""
    listing, window = endpoint_listing.c, observation.c
    behind = (window.endpoint_id == listing.endpoint_id, window.source == listing.source)
    first = select(func.min(window.observed_from)).where(*behind).scalar_subquery()
    last = select(func.max(window.observed_to)).where(*behind).scalar_subquery()
    mine = (listing.kind == OBSERVED, listing.source.in_(sources))
    stale = or_(listing.first_seen_at != first, listing.last_seen_at != last)
    connection.execute(
        update(endpoint_listing).where(*mine, stale).values(first_seen_at=first, last_seen_at=last)
    )


def is_catalogued(listing: SourceListing[Endpoint]) -> bool:
    """Whether a catalog lists it now."""
    return listing.kind == CATALOG and listing.gone_at is None


def observed_endpoint(row: ObservedRow) -> Endpoint:
    """Make an endpoint of what a row shows: it was seen calling tools; its price is not known."""
    parameters = ("tools", "tool_choice")
    name = row.observation.endpoint_id
    return Endpoint(name, row.model, row.provider, row.tag, supported_parameters=parameters)


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
    rejected: list[Rejection] = field(default_factory=list)
    seen: dict[Key, str] = field(default_factory=dict)

    def take(self, where: str, seen: Observation) -> None:
        """Sort one observation in, under the endpoint id it belongs to."""
        key, window = key_of(seen), window_of(seen)
        windows = self.windows[key[:2]]
        other = windows.overlapping(window)
        if key in self.seen:
            self.rejected.append(Rejection(where, f"repeats the window of {self.seen[key]}"))
        elif other is not None:
            self.rejected.append(Rejection(where, overlap(seen, other)))
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

    def tally(self) -> ImportCounts:
        """Name what came in."""
        return ImportCounts(
            added=tuple(sorted(named(each) for each in self.added.values())),
            changed=tuple(sorted(named(each) for each in self.superseding.values())),
            unchanged=len(self.unchanged),
        )


def apply_observations(
    database: Engine, document: ObservationDocument, *, create_endpoints: bool, now: datetime
) -> ImportReport:
    """Keep what was observed; rows that cannot be are refused one by one and do not stop the rest."""
    sources = sorted({row.observation.source for row in document.rows})
    with writing(database) as connection:
        rows, refused = identified(connection, document.rows, create_endpoints=create_endpoints)
        sorting = sort(connection, sources, rows)
        created = (
            create_observed(connection, accepted(rows, sorting), now) if create_endpoints else {}
        )
        store(connection, sorting, now)
        refresh_observed(connection, sources)
        tallies = {**created, "observations": sorting.tally()}
        if any(changed(tally) for tally in created.values()):
            bump(connection, "catalog")
        if changed(tallies["observations"]):
            bump(connection, "evidence")
        everything = (*document.rejected, *refused, *sorting.rejected)
        taken = Import("observations", ", ".join(sources), document.digest, None, now)
        note(connection, taken, tallies, everything)
    return ImportReport(taken.source, tallies, everything)


def identified(
    connection: Connection, rows: Iterable[ObservedRow], *, create_endpoints: bool
) -> tuple[list[ObservedRow], list[Rejection]]:
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
    for row in connection.execute(
        select(observation).where(current, observation.c.source.in_(sources))
    ):
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
        keys = [
            dict(zip((f"this_{name}" for name in same), key, strict=True))
            for key in sorting.superseding
        ]
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
