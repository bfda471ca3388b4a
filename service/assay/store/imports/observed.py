"""Endpoints made from observations (`--create-endpoints`), for as long as no catalog speaks for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Table, func, or_, select, update

from assay.engine.catalog import Endpoint
from assay.engine.document import ObservedRow, Tally
from assay.store.imports.log import insert_missing
from assay.store.imports.shelving import Saying, compare, tally, write
from assay.store.listings import CATALOG, ENDPOINTS, OBSERVED, Listing, listings
from assay.store.tables import endpoint_listing, model, observation, provider

Said = Mapping[str, Sequence[Listing[Endpoint]]]


def create_observed(connection: Connection, rows: Iterable[ObservedRow], now: datetime) -> dict[str, Tally]:
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


def create(connection: Connection, table: Table, names: set[str], now: datetime) -> Tally:
    """Make providers or models known by name alone."""
    column = table.primary_key.columns[0]
    new = sorted(names - set(connection.execute(select(column)).scalars()))
    insert_missing(connection, table, [{column.name: name, "created_at": now} for name in new])
    return Tally(added=tuple(new))


def list_endpoints(connection: Connection, said: Said, rows: Sequence[ObservedRow], now: datetime) -> Tally:
    """List what one source observed; it never unlists: a file of counts is no catalog."""
    source = rows[0].observation.source
    saying = Saying(OBSERVED, source, max(row.observation.observed_to for row in rows), now)
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


def united(tallies: Iterable[Tally]) -> Tally:
    """Put the tallies of several sources together; what two of them made was made once."""
    each = tuple(tallies)
    return Tally(
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
    connection.execute(update(endpoint_listing).where(*mine, stale).values(first_seen_at=first, last_seen_at=last))


def is_catalogued(listing: Listing[Endpoint]) -> bool:
    """Whether a catalog lists it now."""
    return listing.kind == CATALOG and listing.gone_at is None


def observed_endpoint(row: ObservedRow) -> Endpoint:
    """Make an endpoint of what a row shows: it was seen calling tools; its price is not known."""
    parameters = ("tools", "tool_choice")
    name = row.observation.endpoint_id
    return Endpoint(name, row.model, row.provider, row.tag, supported_parameters=parameters)
