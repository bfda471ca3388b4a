"""Bring what one source lists onto its shelf: compare first, then write only what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic

from sqlalchemy import ColumnElement, Connection, and_, bindparam, insert, update

from assay.engine.document import Tally
from assay.store.imports.log import insert_missing
from assay.store.listings import Listing, Shelf, Value
from assay.store.rows import Cells


@dataclass(frozen=True, slots=True)
class Saying:
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


def compare(shelf: Shelf[Value], before: Mapping[str, Listing[Value]], after: Iterable[Value]) -> Difference[Value]:
    """Tell additions, returns, changes and departures apart; `before` holds one source's listings, gone ones too."""
    said = {shelf.key_of(value): value for value in after}
    known = {name: value for name, value in said.items() if name in before}
    listed = {name: value for name, value in known.items() if before[name].gone_at is None}
    altered = tuple(value for name, value in listed.items() if value != before[name].value)
    return Difference(
        added=tuple(value for name, value in said.items() if name not in before),
        returned=tuple(value for name, value in known.items() if name not in listed),
        changed=altered,
        gone=tuple(sorted(name for name, was in before.items() if was.gone_at is None and name not in said)),
        unchanged=len(listed) - len(altered),
    )


def tally(shelf: Shelf[Value], difference: Difference[Value]) -> Tally:
    """Name what changed; what came back counts as added."""
    return Tally(
        added=tuple(sorted(shelf.key_of(value) for value in (*difference.added, *difference.returned))),
        changed=tuple(sorted(shelf.key_of(value) for value in difference.changed)),
        gone=difference.gone,
        unchanged=difference.unchanged,
    )


def write(connection: Connection, shelf: Shelf[Value], saying: Saying, difference: Difference[Value]) -> None:
    """Write a difference, table by table."""
    new = [shelf.identify(value) for value in difference.added]
    insert_missing(connection, shelf.identity, [{**cells, "created_at": saying.heard_at} for cells in new])
    if difference.added:
        connection.execute(insert(shelf.listing), [listing_cells(shelf, saying, value) for value in difference.added])
    rewrite(connection, shelf, saying, [*difference.returned, *difference.changed])
    depart(connection, shelf, saying, difference.gone)


def listing_cells(shelf: Shelf[Value], saying: Saying, value: Value) -> Cells:
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


def rewrite(connection: Connection, shelf: Shelf[Value], saying: Saying, values: Iterable[Value]) -> None:
    """Replace the facts of listings, which are there again if they were gone."""
    heard: Cells = {"gone_at": None, "last_seen_at": saying.stated_at}
    cells = [{"this": shelf.key_of(value), **heard, **shelf.cells(value)} for value in values]
    if cells:
        names = [name for name in cells[0] if name != "this"]
        query = update(shelf.listing).where(own(shelf, saying, bindparam("this")))
        connection.execute(query.values({name: bindparam(name) for name in names}), cells)


def depart(connection: Connection, shelf: Shelf[Value], saying: Saying, names: Iterable[str]) -> None:
    """Mark listings as gone."""
    cells = [{"this": name} for name in names]
    if cells:
        query = update(shelf.listing).where(own(shelf, saying, bindparam("this"))).values(gone_at=saying.stated_at)
        connection.execute(query, cells)


def confirm(connection: Connection, shelf: Shelf[Value], saying: Saying) -> int:
    """Note that the source still lists all that it lists; return how many had an older time."""
    listing = shelf.listing.c
    listed = (listing.kind == saying.kind, listing.source == saying.source, listing.gone_at.is_(None))
    stale = listing.last_seen_at != saying.stated_at
    query = update(shelf.listing).where(*listed, stale).values(last_seen_at=saying.stated_at)
    return connection.execute(query).rowcount


def own(shelf: Shelf[Value], saying: Saying, name: object) -> ColumnElement[bool]:
    """Find one listing of the source."""
    listing = shelf.listing.c
    return and_(listing[pk(shelf)] == name, listing.kind == saying.kind, listing.source == saying.source)


def pk(shelf: Shelf[Value]) -> str:
    """Name the column that names the thing."""
    return str(shelf.identity.primary_key.columns[0].name)
