"""Take a catalog file: what it lists, and that what it no longer lists is gone from its source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic

from sqlalchemy import ColumnElement, Connection, Engine, and_, bindparam, insert, select, update

from assay.engine.errors import BadData, quoted
from assay.engine.world.catalog import Endpoint, Model, Provider
from assay.engine.world.identity import assign_ids
from assay.importers.documents import CatalogDocument, ImportCounts, ImportReport
from assay.store.database import writing
from assay.store.imports.log import Import, bump, changed, insert_missing, newest_import, note
from assay.store.listings import (
    CATALOG,
    ENDPOINTS,
    MODELS,
    OBSERVED,
    PROVIDERS,
    ListingKind,
    SourceListing,
    Value,
    holding,
    listings,
)
from assay.store.rows import Cells
from assay.store.tables import endpoint_listing, model_listing


@dataclass(frozen=True, slots=True)
class Statement:
    """Who says something, and when."""

    kind: str
    source: str
    stated_at: datetime
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class Difference(Generic[Value]):
    """What a source says now, against what it said before."""

    added: tuple[Value, ...]
    returned: tuple[Value, ...]
    changed: tuple[Value, ...]
    gone: tuple[str, ...]
    unchanged: int


def compare(
    shelf: ListingKind[Value], before: Mapping[str, SourceListing[Value]], after: Iterable[Value]
) -> Difference[Value]:
    """Tell additions, returns, changes and departures apart; `before` holds one source's listings, gone ones too."""
    said = {shelf.key_of(value): value for value in after}
    known = {name: value for name, value in said.items() if name in before}
    listed = {name: value for name, value in known.items() if before[name].gone_at is None}
    altered = tuple(value for name, value in listed.items() if value != before[name].value)
    return Difference(
        added=tuple(value for name, value in said.items() if name not in before),
        returned=tuple(value for name, value in known.items() if name not in listed),
        changed=altered,
        gone=tuple(
            sorted(name for name, was in before.items() if was.gone_at is None and name not in said)
        ),
        unchanged=len(listed) - len(altered),
    )


def tally(shelf: ListingKind[Value], difference: Difference[Value]) -> ImportCounts:
    """Name what changed; what came back counts as added."""
    return ImportCounts(
        added=tuple(
            sorted(shelf.key_of(value) for value in (*difference.added, *difference.returned))
        ),
        changed=tuple(sorted(shelf.key_of(value) for value in difference.changed)),
        gone=difference.gone,
        unchanged=difference.unchanged,
    )


def write(
    connection: Connection,
    shelf: ListingKind[Value],
    saying: Statement,
    difference: Difference[Value],
) -> None:
    """Write a difference, table by table."""
    new = [shelf.identify(value) for value in difference.added]
    insert_missing(
        connection, shelf.identity, [{**cells, "created_at": saying.heard_at} for cells in new]
    )
    if difference.added:
        connection.execute(
            insert(shelf.listing),
            [listing_cells(shelf, saying, value) for value in difference.added],
        )
    rewrite(connection, shelf, saying, [*difference.returned, *difference.changed])
    depart(connection, shelf, saying, difference.gone)


def listing_cells(shelf: ListingKind[Value], saying: Statement, value: Value) -> Cells:
    """Spell a new listing as columns."""
    return {
        pk(shelf): shelf.key_of(value),
        "kind": saying.kind,
        "source": saying.source,
        "first_seen_at": saying.stated_at,
        "last_seen_at": saying.stated_at,
        "gone_at": None,
        **shelf.cells(value),
    }


def rewrite(
    connection: Connection, shelf: ListingKind[Value], saying: Statement, values: Iterable[Value]
) -> None:
    """Replace the facts of listings, which are there again if they were gone."""
    heard: Cells = {"gone_at": None, "last_seen_at": saying.stated_at}
    cells = [{"this": shelf.key_of(value), **heard, **shelf.cells(value)} for value in values]
    if cells:
        names = [name for name in cells[0] if name != "this"]
        query = update(shelf.listing).where(own(shelf, saying, bindparam("this")))
        connection.execute(query.values({name: bindparam(name) for name in names}), cells)


def depart(
    connection: Connection, shelf: ListingKind[Value], saying: Statement, names: Iterable[str]
) -> None:
    """Mark listings as gone."""
    cells = [{"this": name} for name in names]
    if cells:
        query = (
            update(shelf.listing)
            .where(own(shelf, saying, bindparam("this")))
            .values(gone_at=saying.stated_at)
        )
        connection.execute(query, cells)


def confirm(connection: Connection, shelf: ListingKind[Value], saying: Statement) -> int:
    """Note that the source still lists all that it lists; return how many had an older time."""
    listing = shelf.listing.c
    listed = (
        listing.kind == saying.kind,
        listing.source == saying.source,
        listing.gone_at.is_(None),
    )
    stale = listing.last_seen_at != saying.stated_at
    query = update(shelf.listing).where(*listed, stale).values(last_seen_at=saying.stated_at)
    return connection.execute(query).rowcount


def own(shelf: ListingKind[Value], saying: Statement, name: object) -> ColumnElement[bool]:
    """Find one listing of the source."""
    listing = shelf.listing.c
    return and_(
        listing[pk(shelf)] == name, listing.kind == saying.kind, listing.source == saying.source
    )


def pk(shelf: ListingKind[Value]) -> str:
    """Name the column that names the thing."""
    return str(shelf.identity.primary_key.columns[0].name)


def apply_catalog(database: Engine, document: CatalogDocument, *, now: datetime) -> ImportReport:
    """Make the source's listings those of the document; a file older than its source's newest is refused whole."""
    with writing(database) as connection:
        taken = Import(CATALOG, document.source, document.digest, document.generated_at, now)
        previous = newest_import(connection, CATALOG, document.source)
        refuse_older(taken, previous)
        repeated = previous is not None and previous.digest == taken.digest
        stated_at = previous.stated_at if previous and repeated else taken.stated_at
        saying = Statement(CATALOG, document.source, stated_at, now)
        tallies = shelve(connection, saying, document)
        newer = confirm_all(connection, saying) and others_list(connection, saying)
        superseded = supersede_observed(connection, saying)
        if newer or superseded or any(changed(each) for each in tallies.values()):
            bump(connection, "catalog")
        note(connection, taken, tallies, document.rejected)
    return ImportReport(document.source, tallies, document.rejected)


def refuse_older(taken: Import, previous: Import | None) -> None:
    """Refuse to go back in a source's time."""
    if previous is None or previous.generated_at is None or taken.generated_at is None:
        return
    if taken.generated_at < previous.generated_at:
        here, there = taken.generated_at.isoformat(), previous.generated_at.isoformat()
        message = f"source {quoted(taken.source)}: this file is of {here}, one of {there} was imported before"
        raise BadData(message)


def shelve(
    connection: Connection, saying: Statement, document: CatalogDocument
) -> dict[str, ImportCounts]:
    """Bring providers, models and endpoints up to date, in the order in which they refer to each other."""
    known = listings(connection, ENDPOINTS)
    identified = identify(known, saying.source, document.endpoints)
    return {
        PROVIDERS.name: put(connection, PROVIDERS, saying, providers_of(document)),
        MODELS.name: put(connection, MODELS, saying, models_of(document)),
        ENDPOINTS.name: put(connection, ENDPOINTS, saying, identified),
    }


def put(
    connection: Connection, shelf: ListingKind[Value], saying: Statement, after: Iterable[Value]
) -> ImportCounts:
    """Bring one kind of thing up to date."""
    table = shelf.listing.c
    said = listings(connection, shelf, table.kind == saying.kind, table.source == saying.source)
    difference = compare(shelf, {name: only for name, (only,) in said.items()}, after)
    write(connection, shelf, saying, difference)
    return tally(shelf, difference)


def identify(
    known: Mapping[str, Sequence[SourceListing[Endpoint]]],
    source: str,
    incoming: Sequence[Endpoint],
) -> list[Endpoint]:
    """Give each endpoint the id its offer has, whichever source it came from, gone or not.

    An offer is compared with what its own source said of it, where it did: other sources spell facts differently.
    """
    existing: dict[str, list[Endpoint]] = defaultdict(list)
    for said in known.values():
        own = [listing for listing in said if listing.stated_by == (CATALOG, source)]
        value = holding(own or said).value
        existing[value.model].append(value)
    offers: dict[str, list[Endpoint]] = defaultdict(list)
    for offer in incoming:
        offers[offer.model].append(offer)
    return [
        endpoint
        for model, group in offers.items()
        for endpoint in assign_ids(existing.get(model, []), group)
    ]


def providers_of(document: CatalogDocument) -> list[Provider]:
    """List the document's providers, those that only its endpoints name too."""
    named = {provider.slug: provider for provider in document.providers}
    implied = {endpoint.provider: Provider(endpoint.provider) for endpoint in document.endpoints}
    return list((implied | named).values())


def models_of(document: CatalogDocument) -> list[Model]:
    """List the document's models, those that only its endpoints name too."""
    named = {model.model: model for model in document.models}
    implied = {endpoint.model: Model(endpoint.model) for endpoint in document.endpoints}
    return list((implied | named).values())


def confirm_all(connection: Connection, saying: Statement) -> int:
    """Note when the source was last heard; return how many listings are newer than they were."""
    confirmed = [confirm(connection, PROVIDERS, saying), confirm(connection, MODELS, saying)]
    return sum(confirmed, start=confirm(connection, ENDPOINTS, saying))


def others_list(connection: Connection, saying: Statement) -> bool:
    """Whether another catalog could have held until now: a newer time alone changes which one does."""
    listing = model_listing.c
    other = (listing.kind == CATALOG, listing.source != saying.source, listing.gone_at.is_(None))
    return connection.execute(select(listing.model).where(*other).limit(1)).first() is not None


def supersede_observed(connection: Connection, saying: Statement) -> int:
    """Retire listings made from observations where a catalog now speaks for the endpoint.

    So a departure from the catalog is a departure, whichever of the two was imported first.
    """
    spoken_for = select(endpoint_listing.c.endpoint_id).where(
        endpoint_listing.c.kind == CATALOG, endpoint_listing.c.gone_at.is_(None)
    )
    query = update(endpoint_listing).where(
        endpoint_listing.c.kind == OBSERVED,
        endpoint_listing.c.gone_at.is_(None),
        endpoint_listing.c.endpoint_id.in_(spoken_for.scalar_subquery()),
    )
    return connection.execute(query.values(gone_at=saying.stated_at)).rowcount
