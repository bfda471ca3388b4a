"""Listings: each source's values of a provider, model or endpoint, and the choice among them."""

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
    """The values that one source states for one item, and since when.

    `gone_at` is the time when the source stopped listing the item.
    """

    value: Value
    kind: str
    source: str
    first_seen_at: datetime
    last_seen_at: datetime
    gone_at: datetime | None


@dataclass(frozen=True, slots=True)
class ListingKind(Generic[Value]):
    """One kind of item and its tables: an identity row, and a listing row for each source."""

    name: str
    identity: Table
    listing: Table
    key: str
    identify: Callable[[Value], rows.Cells]
    cells: Callable[[Value], rows.Cells]
    value: Callable[[Row[Any]], Value]

    def key_of(self, value: Value) -> str:
        """Return the id or slug of an item."""
        return str(getattr(value, self.key))

    @property
    def key_column(self) -> str:
        """The column that holds the id or slug."""
        return str(self.identity.primary_key.columns[0].name)


PROVIDERS: ListingKind[Provider] = ListingKind(
    name="providers",
    identity=tables.provider,
    listing=tables.provider_listing,
    key="slug",
    identify=lambda provider: {"provider": provider.slug},
    cells=lambda provider: {"name": provider.name},
    value=lambda row: Provider(row.provider, row.name),
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
    identify=lambda each: {"endpoint_id": each.endpoint_id, "model": each.model, "tag": each.tag},
    cells=rows.endpoint_cells,
    value=rows.endpoint_of,
)


def read_listings(
    connection: Connection, kind: ListingKind[Value], *conditions: ColumnElement[bool]
) -> dict[str, list[SourceListing[Value]]]:
    """Read every source's listings, gone ones too, by the item's id or slug."""
    skipped = {"created_at", *kind.listing.c.keys()}
    identity = [column for column in kind.identity.c if column.name not in skipped]
    query = select(kind.listing, *identity).join_from(kind.listing, kind.identity)
    found: dict[str, list[SourceListing[Value]]] = defaultdict(list)
    for row in connection.execute(query.where(*conditions)):
        value = kind.value(row)
        times = (row.first_seen_at, row.last_seen_at, row.gone_at)
        found[kind.key_of(value)].append(SourceListing(value, row.kind, row.source, *times))
    return dict(found)


def select_listing(listings: Iterable[SourceListing[Value]]) -> SourceListing[Value]:
    """Select the listing to use.

    A listing that is not gone comes first, then one from a catalog, then the newest; ties are
    broken by the source's name.
    """
    return max(
        sorted(listings, key=lambda listing: listing.source),
        key=lambda each: (each.gone_at is None, each.kind == CATALOG, each.last_seen_at),
    )


def is_gone(listings: Iterable[SourceListing[Value]]) -> bool:
    """Whether no source lists the item any more."""
    return all(listing.gone_at is not None for listing in listings)
