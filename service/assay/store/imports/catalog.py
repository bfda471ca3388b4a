"""Import of a catalog file: it replaces all listings of its source.

Items that the file omits are marked as gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, insert, select, update

from assay.engine.errors import BadData, quoted
from assay.engine.world.catalog import Endpoint, Model, Provider
from assay.engine.world.identity import assign_ids
from assay.importers.documents import CatalogDocument, ImportCounts, ImportReport
from assay.store.database import writing
from assay.store.imports.log import (
    ImportedFile,
    count_change,
    finish_import,
    insert_missing,
    newest_import,
)
from assay.store.listings import (
    CATALOG,
    ENDPOINTS,
    MODELS,
    OBSERVED,
    PROVIDERS,
    ListingKind,
    SourceListing,
    Value,
    read_listings,
    select_listing,
)
from assay.store.rows import Cells
from assay.store.tables import endpoint_listing, model_listing


@dataclass(frozen=True, slots=True)
class Statement:
    """What a source states in one file: its kind and name, the file's time, and ours."""

    kind: str
    source: str
    stated_at: datetime
    imported_at: datetime


def apply_catalog(database: Engine, document: CatalogDocument, *, now: datetime) -> ImportReport:
    """Make the source's listings those of the document.

    Raises BadData for a file older than the newest of its source.
    """
    file = ImportedFile(CATALOG, document.source, document.digest, document.generated_at, now)
    with writing(database) as connection:
        previous = newest_import(connection, CATALOG, document.source)
        newest = previous.generated_at if previous else None
        if newest and file.generated_at and file.generated_at < newest:
            this = file.generated_at.isoformat()
            fault = f"this file is of {this}, one of {newest.isoformat()} was imported before"
            raise BadData(f"source {quoted(file.source)}: {fault}")
        is_repeated = previous is not None and previous.digest == file.digest
        stated_at = previous.stated_at if previous and is_repeated else file.stated_at
        statement = Statement(CATALOG, document.source, stated_at, now)
        counts = _update_all(connection, statement, document)
        is_newer = _confirm_all(connection, statement) and _has_rival(connection, statement)
        superseded = _supersede_observed(connection, statement)
        if is_newer or superseded or any(each.has_changes for each in counts.values()):
            count_change(connection, "catalog")
        return finish_import(connection, file, counts, document.rejected)


def _update_all(
    connection: Connection, statement: Statement, document: CatalogDocument
) -> dict[str, ImportCounts]:
    """Update providers, models and endpoints, in the order of their foreign keys."""
    known = read_listings(connection, ENDPOINTS)
    endpoints = _identify(known, statement.source, document.endpoints)
    named_providers = {each.slug: each for each in document.providers}
    providers = {each.provider: Provider(each.provider) for each in document.endpoints}
    named_models = {each.model: each for each in document.models}
    models = {each.model: Model(each.model) for each in document.endpoints}
    return {
        PROVIDERS.name: _update(connection, PROVIDERS, statement, providers | named_providers),
        MODELS.name: _update(connection, MODELS, statement, models | named_models),
        ENDPOINTS.name: _update(
            connection, ENDPOINTS, statement, {each.endpoint_id: each for each in endpoints}
        ),
    }


def _update(
    connection: Connection,
    kind: ListingKind[Value],
    statement: Statement,
    after: Mapping[str, Value],
) -> ImportCounts:
    table = kind.listing.c
    own = (table.kind == statement.kind, table.source == statement.source)
    before = {name: listing for name, (listing,) in read_listings(connection, kind, *own).items()}
    return update_listings(connection, kind, statement, before, after)


def update_listings(
    connection: Connection,
    kind: ListingKind[Value],
    statement: Statement,
    before: Mapping[str, SourceListing[Value]],
    after: Mapping[str, Value],
) -> ImportCounts:
    """Write what differs from one source's listings `before`, gone ones included."""
    listed = {name for name, listing in before.items() if listing.gone_at is None}
    added = {name: value for name, value in after.items() if name not in before}
    returned = {name: value for name, value in after.items() if name in before.keys() - listed}
    changed = {
        name: value
        for name, value in after.items()
        if name in listed and value != before[name].value
    }
    gone = sorted(listed - after.keys())
    own_source: Cells = {"kind": statement.kind, "source": statement.source}
    seen: Cells = {"gone_at": None, "last_seen_at": statement.stated_at}

    identities = [
        {**kind.identify(value), "created_at": statement.imported_at} for value in added.values()
    ]
    insert_missing(connection, kind.identity, identities)
    if added:
        first_seen: Cells = {**own_source, **seen, "first_seen_at": statement.stated_at}
        rows = [
            {kind.key_column: name, **first_seen, **kind.cells(value)}
            for name, value in added.items()
        ]
        connection.execute(insert(kind.listing), rows)
    listing = kind.listing.c
    own = update(kind.listing).where(
        listing[kind.key_column] == bindparam("this"),
        *(listing[column] == value for column, value in own_source.items()),
    )
    if updated := returned | changed:
        cells = [{"this": name, **seen, **kind.cells(value)} for name, value in updated.items()]
        values: dict[str, Any] = {name: bindparam(name) for name in cells[0] if name != "this"}
        connection.execute(own.values(values), cells)
    if gone:
        departed = [{"this": name} for name in gone]
        connection.execute(own.values(gone_at=statement.stated_at), departed)
    return ImportCounts(
        added=tuple(sorted(added | returned)),
        changed=tuple(sorted(changed)),
        gone=tuple(gone),
        unchanged=len(listed & after.keys()) - len(changed),
    )


def _identify(
    known: Mapping[str, Sequence[SourceListing[Endpoint]]],
    source: str,
    incoming: Sequence[Endpoint],
) -> list[Endpoint]:
    """Give each endpoint the id that it already has in any source, gone or not.

    An endpoint is compared with its own source's listing if there is one, since sources spell facts
    differently.
    """
    existing: dict[str, list[Endpoint]] = defaultdict(list)
    for listings in known.values():
        own = [each for each in listings if (each.kind, each.source) == (CATALOG, source)]
        value = select_listing(own or listings).value
        existing[value.model].append(value)
    by_model: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in incoming:
        by_model[endpoint.model].append(endpoint)
    identified: list[Endpoint] = []
    for model, endpoints in by_model.items():
        identified.extend(assign_ids(existing.get(model, []), endpoints))
    return identified


def _confirm_all(connection: Connection, statement: Statement) -> int:
    """Record when the source was last seen; return how many listings had an older time."""
    confirmed = 0
    for kind in (PROVIDERS, MODELS, ENDPOINTS):
        listing = kind.listing.c
        own = (listing.kind == statement.kind, listing.source == statement.source)
        is_stale = (listing.gone_at.is_(None), listing.last_seen_at != statement.stated_at)
        query = update(kind.listing).where(*own, *is_stale)
        confirmed += connection.execute(query.values(last_seen_at=statement.stated_at)).rowcount
    return confirmed


def _has_rival(connection: Connection, statement: Statement) -> bool:
    """Whether another catalog lists models too.

    In this case a newer time alone may change which listing is used.
    """
    listing = model_listing.c
    other = (listing.kind == CATALOG, listing.source != statement.source, listing.gone_at.is_(None))
    return connection.execute(select(listing.model).where(*other).limit(1)).first() is not None


def _supersede_observed(connection: Connection, statement: Statement) -> int:
    """Retire observed listings of endpoints that a catalog lists.

    An endpoint that the catalog no longer lists is then gone, regardless of the import order.
    """
    listing = endpoint_listing.c
    in_catalog = select(listing.endpoint_id).where(
        listing.kind == CATALOG, listing.gone_at.is_(None)
    )
    query = update(endpoint_listing).where(
        listing.kind == OBSERVED,
        listing.gone_at.is_(None),
        listing.endpoint_id.in_(in_catalog.scalar_subquery()),
    )
    return connection.execute(query.values(gone_at=statement.stated_at)).rowcount
