"""Listings: what one source says of a provider, model or endpoint, and which of several sayings holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Table, select

from assay.engine.world.catalog import Endpoint, Model, Provider
from assay.store import rows, tables

Value = TypeVar("Value")

CATALOG = "catalog"
OBSERVED = "observed"


@dataclass(frozen=True, slots=True)
class SourceListing(Generic[Value]):
    """What one source says of one thing, and since when."""

    value: Value
    kind: str
    source: str
    first_seen_at: datetime
    last_seen_at: datetime
    gone_at: datetime | None

    @property
    def stated_by(self) -> tuple[str, str]:
        """Who says it."""
        return self.kind, self.source


@dataclass(frozen=True, slots=True)
class ListingKind(Generic[Value]):
    """One kind of thing and where it is kept: an identity row, and a listing row for each source."""

    name: str
    identity: Table
    listing: Table
    key: str
    identify: Callable[[Value], rows.Cells]
    cells: Callable[[Value], rows.Cells]
    value: Callable[[Row[Any]], Value]

    def key_of(self, value: Value) -> str:
        """Name the thing."""
        return str(getattr(value, self.key))


PROVIDERS: ListingKind[Provider] = ListingKind(
    name="providers",
    identity=tables.provider,
    listing=tables.provider_listing,
    key="slug",
    identify=lambda provider: {"provider": provider.slug},
    cells=rows.provider_cells,
    value=rows.provider_of,
)
MODELS: ListingKind[Model] = ListingKind(
    name="models",
    identity=tables.model,
    listing=tables.model_listing,
    key="model",
    identify=lambda model: {"model": model.model},
    cells=rows.model_cells,
    value=rows.model_of,
)
ENDPOINTS: ListingKind[Endpoint] = ListingKind(
    name="endpoints",
    identity=tables.endpoint,
    listing=tables.endpoint_listing,
    key="endpoint_id",
    identify=lambda endpoint: {
        "endpoint_id": endpoint.endpoint_id,
        "model": endpoint.model,
        "tag": endpoint.tag,
    },
    cells=rows.endpoint_cells,
    value=rows.endpoint_of,
)


def listings(
    connection: Connection, shelf: ListingKind[Value], *conditions: ColumnElement[bool]
) -> dict[str, list[SourceListing[Value]]]:
    """Read what every source says, gone listings too, by the name of the thing."""
    identity = [
        column
        for column in shelf.identity.c
        if column.name not in {"created_at", *shelf.listing.c.keys()}
    ]
    query = (
        select(shelf.listing, *identity).join_from(shelf.listing, shelf.identity).where(*conditions)
    )
    found: dict[str, list[SourceListing[Value]]] = defaultdict(list)
    for row in connection.execute(query):
        value = shelf.value(row)
        said = SourceListing(
            value, row.kind, row.source, row.first_seen_at, row.last_seen_at, row.gone_at
        )
        found[shelf.key_of(value)].append(said)
    return dict(found)


def holding(said: Iterable[SourceListing[Value]]) -> SourceListing[Value]:
    """Choose the listing that holds: one not gone, from a catalog, the newest; the first source's name at a tie."""
    by_name = sorted(said, key=lambda listing: listing.source)
    return max(
        by_name,
        key=lambda listing: (
            listing.gone_at is None,
            listing.kind == CATALOG,
            listing.last_seen_at,
        ),
    )


def is_gone(said: Iterable[SourceListing[Value]]) -> bool:
    """Whether nobody lists it any more."""
    return all(listing.gone_at is not None for listing in said)
