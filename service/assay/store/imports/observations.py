"""Import of observed counts: each row is stored as a revision of its window, or rejected."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import Connection, Engine, Table, func, or_, select, update

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
from assay.store.imports.catalog import Statement, update_listings
from assay.store.imports.log import ImportedFile, count_change, finish_import, insert_missing
from assay.store.imports.revisions import RevisedTable, plan_revisions
from assay.store.listings import CATALOG, ENDPOINTS, OBSERVED, SourceListing, read_listings
from assay.store.rows import observation_of
from assay.store.tables import endpoint, endpoint_listing, model, observation, provider

_KIND = "observations"
_Window = tuple[datetime, datetime]  # half-open
_Listings = Mapping[str, Sequence[SourceListing[Endpoint]]]


def _window_of(row: Observation) -> _Window:
    return row.observed_from, row.observed_to


def _iso(window: _Window) -> str:
    return "/".join(each.isoformat().replace("+00:00", "Z") for each in window)


_OBSERVATIONS = RevisedTable(
    observation,
    ("endpoint_id", "source", "observed_from", "observed_to"),
    observation_of,
    asdict,
    lambda row: f"{row.endpoint_id} {row.source} {_iso(_window_of(row))}",
)


def apply_observations(
    database: Engine, document: ObservationDocument, *, create_endpoints: bool, now: datetime
) -> ImportReport:
    """Store the counts; a row that is rejected does not stop the rest.

    With `create_endpoints`, unknown models, providers and endpoints are listed as observed.
    """
    sources = sorted({row.observation.source for row in document.rows})
    file = ImportedFile(_KIND, ", ".join(sources), document.digest, None, now)
    with writing(database) as connection:
        rows, unknown = _identify(connection, document.rows, create_endpoints=create_endpoints)
        plan = plan_revisions(connection, _OBSERVATIONS, sources)
        windows: defaultdict[tuple[str, str], _Windows] = defaultdict(_Windows)
        for endpoint_id, source, *window in plan.stored:
            windows[endpoint_id, source].add((window[0], window[1]))
        accepted = []
        for row in rows:
            key = _OBSERVATIONS.key_of(row.observation)
            fault = windows[key[0], key[1]].fault(row.observation)
            if key in plan.seen:
                fault = f"repeats the window of {plan.seen[key]}"
            if fault is not None:
                plan.reject(row.where, fault)
                continue
            plan.seen[key] = row.where
            windows[key[0], key[1]].add(_window_of(row.observation))
            plan.place(row.observation)
            accepted.append(row)
        created = _list_observed(connection, accepted, now) if create_endpoints else {}
        plan.store(connection, now)
        _refresh_times(connection, sources)
        counts = {**created, _KIND: plan.counts()}
        if any(each.has_changes for each in created.values()):
            count_change(connection, "catalog")
        if counts[_KIND].has_changes:
            count_change(connection, "evidence")
        rejected = (*document.rejected, *unknown, *plan.rejected)
        return finish_import(connection, file, counts, rejected)


class _Windows:
    """The windows of one endpoint and source, which never overlap, in order of time."""

    def __init__(self) -> None:
        self._sorted: list[_Window] = []

    def fault(self, row: Observation) -> str | None:
        """Return why a row is rejected: its window overlaps one with other bounds."""
        window = _window_of(row)
        place = bisect_left(self._sorted, window)
        for near in self._sorted[max(place - 1, 0) : place + 2]:
            if near != window and near[0] < window[1] and window[0] < near[1]:
                other = f"{_iso(near)} of {row.source} for {row.endpoint_id}"
                return f"window {_iso(window)} overlaps {other} and would count twice"
        return None

    def add(self, window: _Window) -> None:
        """Add a window, unless it is there."""
        place = bisect_left(self._sorted, window)
        if self._sorted[place : place + 1] != [window]:
            insort(self._sorted, window)


class _EndpointNames:
    """All endpoints, gone or not, by the names that rows use."""

    def __init__(self, endpoints: Iterable[tuple[str, str, str]]) -> None:
        self._by_tag: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._models: dict[str, str] = {}
        for each in endpoints:
            self.add(*each)

    def add(self, endpoint_id: str, model: str, tag: str) -> None:
        """Add an endpoint."""
        self._by_tag[model, tag].append(endpoint_id)
        self._models[endpoint_id] = model

    def find(self, row: ObservedRow) -> Sequence[str]:
        """Return the ids of the endpoints that a row may mean.

        If a tag repeats, the column may hold a full id (`model@tag~2`) or its part after the `@`.
        """
        shared = self._by_tag.get((row.model, row.tag), [])
        if shared:
            return shared
        full = (row.tag, f"{row.model}@{row.tag}")
        return [each for each in full if self._models.get(each) == row.model][:1]


def _identify(
    connection: Connection, rows: Iterable[ObservedRow], *, create_endpoints: bool
) -> tuple[list[ObservedRow], list[Rejection]]:
    """Set the permanent id in each row; reject rows that name no endpoint, or several."""
    columns = endpoint.c.endpoint_id, endpoint.c.model, endpoint.c.tag
    names = _EndpointNames(tuple(row) for row in connection.execute(select(*columns)))
    found, rejected = [], []
    for row in rows:
        ids = names.find(row)
        can_create = create_endpoints and not set("@~") & set(row.tag)  # ids contain those
        if not ids and can_create:
            ids = [f"{row.model}@{row.tag}"]
            names.add(ids[0], row.model, row.tag)
        if len(ids) == 1:
            found.append(replace(row, observation=replace(row.observation, endpoint_id=ids[0])))
        elif ids:
            choice = f"write one of {', '.join(sorted(ids))} as the tag"
            reason = f"tag {row.tag} of {row.model} is ambiguous, {choice}"
            rejected.append(Rejection(row.where, reason))
        else:
            reason = f"endpoint {row.model}@{row.tag} is unknown; import the catalog first or use"
            rejected.append(Rejection(row.where, f"{reason} --create-endpoints"))
    return found, rejected


def _list_observed(
    connection: Connection, rows: Iterable[ObservedRow], now: datetime
) -> dict[str, ImportCounts]:
    """List the rows' endpoints under the rows' sources, unless a catalog lists them now."""
    listings = read_listings(connection, ENDPOINTS)
    by_source: dict[str, list[ObservedRow]] = defaultdict(list)
    for row in rows:
        known = listings.get(row.observation.endpoint_id, ())
        if not any(each.kind == CATALOG and each.gone_at is None for each in known):
            by_source[row.observation.source].append(row)
    unlisted = [row for group in by_source.values() for row in group]
    counts = {
        "providers": _create(connection, provider, {row.provider for row in unlisted}, now),
        "models": _create(connection, model, {row.model for row in unlisted}, now),
    }
    endpoints = [
        _list_of_source(connection, listings, by_source[source], now)
        for source in sorted(by_source)
    ]
    return {
        **counts,
        "endpoints": ImportCounts(  # an endpoint that two sources added was added once
            added=tuple(sorted({name for each in endpoints for name in each.added})),
            changed=tuple(sorted({name for each in endpoints for name in each.changed})),
            unchanged=sum(each.unchanged for each in endpoints),
        ),
    }


def _create(connection: Connection, table: Table, names: set[str], now: datetime) -> ImportCounts:
    """Create providers or models that are known by name alone."""
    column = table.primary_key.columns[0]
    new = sorted(names - set(connection.execute(select(column)).scalars()))
    insert_missing(connection, table, [{column.name: name, "created_at": now} for name in new])
    return ImportCounts(added=tuple(new))


def _list_of_source(
    connection: Connection, listings: _Listings, rows: Sequence[ObservedRow], now: datetime
) -> ImportCounts:
    """List the endpoints that one source observed; a file of counts never unlists any."""
    source = rows[0].observation.source
    newest = max(row.observation.observed_to for row in rows)
    endpoints: dict[str, Endpoint] = {}
    before: dict[str, SourceListing[Endpoint]] = {}
    for row in rows:  # an endpoint that was seen calling tools; its price is not known
        name, parameters = row.observation.endpoint_id, ("tools", "tool_choice")
        endpoints[name] = Endpoint(
            name, row.model, row.provider, row.tag, supported_parameters=parameters
        )
        for listing in listings.get(name, ()):
            if (listing.kind, listing.source) == (OBSERVED, source):
                before[name] = listing
    statement = Statement(OBSERVED, source, newest, now)
    return update_listings(connection, ENDPOINTS, statement, before, endpoints)


def _refresh_times(connection: Connection, sources: Sequence[str]) -> None:
    """Set the times of observed listings to those of the windows behind them."""
    listing, window = endpoint_listing.c, observation.c
    behind = (window.endpoint_id == listing.endpoint_id, window.source == listing.source)
    first = select(func.min(window.observed_from)).where(*behind).scalar_subquery()
    last = select(func.max(window.observed_to)).where(*behind).scalar_subquery()
    own = (listing.kind == OBSERVED, listing.source.in_(sources))
    is_stale = or_(listing.first_seen_at != first, listing.last_seen_at != last)
    query = update(endpoint_listing).where(*own, is_stale)
    connection.execute(query.values(first_seen_at=first, last_seen_at=last))
