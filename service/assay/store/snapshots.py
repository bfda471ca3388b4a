"""Snapshots: immutable, addressed by content, sharing parts; publications say which one was in force since when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sqlalchemy import ColumnElement, Connection, Engine, func, insert, select

from assay.engine.errors import StoreUnavailable
from assay.store.database import masked, reading, writing
from assay.store.imports.log import insert_missing
from assay.store.tables import part, publication, snapshot, snapshot_part

CHUNK = 500


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot as kept: its manifest and all its parts, by digest."""

    snapshot_id: str
    as_of: datetime
    policy_revision: int
    manifest: bytes
    parts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Publication:
    """That a snapshot came into force; sequences only grow, so a decider never goes back."""

    sequence: int
    snapshot_id: str
    published_at: datetime


def save_snapshot(
    database: Engine, stored: StoredSnapshot, *, published: bool, now: datetime
) -> None:
    """Keep a snapshot and, if `published`, put it in force; only parts that are not there yet are written."""
    verify(database, stored)
    with writing(database) as connection:
        keep_snapshot(connection, stored, now)
        if published:
            publish(connection, stored.snapshot_id, now)


def keep_snapshot(connection: Connection, stored: StoredSnapshot, now: datetime) -> int:
    """Keep a snapshot in a transaction of `writing`; says how many parts were not there yet."""
    row = {
        "snapshot_id": stored.snapshot_id,
        "manifest": stored.manifest,
        "as_of": stored.as_of,
        "policy_revision": stored.policy_revision,
        "created_at": now,
    }
    insert_missing(connection, snapshot, [row])
    return store_parts(connection, stored)


def store_parts(connection: Connection, stored: StoredSnapshot) -> int:
    """Write the parts that are not there, and which parts are this snapshot's."""
    known = known_parts(connection, sorted(stored.parts))
    missing = [
        {"digest": name, "content": stored.parts[name]}
        for name in stored.parts
        if name not in known
    ]
    insert_missing(connection, part, missing)
    links = [{"snapshot_id": stored.snapshot_id, "digest": name} for name in stored.parts]
    insert_missing(connection, snapshot_part, links)
    return len(missing)


def known_parts(connection: Connection, names: Sequence[str]) -> set[str]:
    """Tell which parts are there, asking for some hundreds at a time."""
    chunks = (names[start : start + CHUNK] for start in range(0, len(names), CHUNK))
    queries = (select(part.c.digest).where(part.c.digest.in_(chunk)) for chunk in chunks)
    return {name for query in queries for name in connection.execute(query).scalars()}


def publish(connection: Connection, snapshot_id: str, now: datetime) -> Publication:
    """Put a snapshot in force, unless it is; says since when, and under which sequence."""
    newest = connection.execute(
        select(publication).order_by(publication.c.sequence.desc()).limit(1)
    ).one_or_none()
    if newest is not None and newest.snapshot_id == snapshot_id:
        return Publication(newest.sequence, snapshot_id, newest.published_at)
    sequence = 1 if newest is None else newest.sequence + 1
    row = {"sequence": sequence, "snapshot_id": snapshot_id, "published_at": now}
    connection.execute(insert(publication), row)
    return Publication(sequence, snapshot_id, now)


def load_snapshot(database: Engine, snapshot_id: str) -> StoredSnapshot | None:
    """Read a snapshot back, checked against its digests; `None` if there is none of that name."""
    link = select(part).join(snapshot_part, snapshot_part.c.digest == part.c.digest)
    with reading(database) as connection:
        row = connection.execute(
            select(snapshot).where(snapshot.c.snapshot_id == snapshot_id)
        ).one_or_none()
        if row is None:
            return None
        parts = connection.execute(
            link.where(snapshot_part.c.snapshot_id == snapshot_id).order_by(part.c.digest)
        )
        contents = {each.digest: bytes(each.content) for each in parts}
    stored = StoredSnapshot(
        snapshot_id, row.as_of, row.policy_revision, bytes(row.manifest), contents
    )
    verify(database, stored)
    return stored


def verify(database: Engine, stored: StoredSnapshot) -> None:
    """Compare every content with the digest it goes by."""
    contents = {stored.snapshot_id: stored.manifest, **stored.parts}
    for name, content in contents.items():
        require_digest(database, stored.snapshot_id, name, content)


def require_digest(database: Engine, snapshot_id: str, name: str, content: bytes) -> None:
    """Compare one content with its digest."""
    if sha256(content).hexdigest() != name:
        message = f"database {masked(database.url)}: snapshot {snapshot_id}: {name} is not its content's digest"
        raise StoreUnavailable(message)


def latest_published(database: Engine) -> Publication | None:
    """Tell which snapshot is in force."""
    return found(
        database,
        publication.c.sequence == select(func.max(publication.c.sequence)).scalar_subquery(),
    )


def published_at(database: Engine, at: datetime) -> Publication | None:
    """Tell which snapshot was in force at a time; `None` before the first that is still kept."""
    earlier = select(func.max(publication.c.sequence)).where(publication.c.published_at <= at)
    return found(database, publication.c.sequence == earlier.scalar_subquery())


def first_published(database: Engine) -> Publication | None:
    """Tell which publication is the first that is still kept."""
    return found(
        database,
        publication.c.sequence == select(func.min(publication.c.sequence)).scalar_subquery(),
    )


def found(database: Engine, condition: ColumnElement[bool]) -> Publication | None:
    """Read the one publication that meets a condition."""
    with reading(database) as connection:
        row = connection.execute(select(publication).where(condition)).one_or_none()
    return None if row is None else Publication(row.sequence, row.snapshot_id, row.published_at)


def load_manifest(database: Engine, snapshot_id: str) -> bytes | None:
    """Read a manifest back, checked against its digest; `None` if there is none of that name."""
    with reading(database) as connection:
        manifest = connection.scalar(
            select(snapshot.c.manifest).where(snapshot.c.snapshot_id == snapshot_id)
        )
    if manifest is None:
        return None
    require_digest(database, snapshot_id, snapshot_id, bytes(manifest))
    return bytes(manifest)


def load_parts(database: Engine, names: Sequence[str]) -> dict[str, bytes]:
    """Read these parts back, as far as they are there and what their names say."""
    with reading(database) as connection:
        rows = connection.execute(select(part).where(part.c.digest.in_(names))).all()
    contents = {row.digest: bytes(row.content) for row in rows}
    return {
        name: content for name, content in contents.items() if sha256(content).hexdigest() == name
    }
