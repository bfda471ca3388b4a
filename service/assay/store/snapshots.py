"""Snapshots: immutable, addressed by content, sharing parts; publications record the active one."""

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

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot as stored: its manifest and all its parts, by digest."""

    snapshot_id: str
    as_of: datetime
    policy_revision: int
    manifest: bytes
    parts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Publication:
    """The activation of a snapshot; sequences only grow, so a decider never goes back."""

    sequence: int
    snapshot_id: str
    published_at: datetime


def save_snapshot(
    database: Engine, stored: StoredSnapshot, *, published: bool, now: datetime
) -> None:
    """Store a snapshot and, if `published`, activate it."""
    require_digests(database, stored)
    with writing(database) as connection:
        keep_snapshot(connection, stored, now)
        if published:
            publish(connection, stored.snapshot_id, now)


def keep_snapshot(connection: Connection, stored: StoredSnapshot, now: datetime) -> int:
    """Store a snapshot in a transaction of `writing`; return how many parts were new."""
    row = {
        "snapshot_id": stored.snapshot_id,
        "manifest": stored.manifest,
        "as_of": stored.as_of,
        "policy_revision": stored.policy_revision,
        "created_at": now,
    }
    insert_missing(connection, snapshot, [row])
    known = _known_parts(connection, sorted(stored.parts))
    new = {name: content for name, content in stored.parts.items() if name not in known}
    rows = [{"digest": name, "content": content} for name, content in new.items()]
    insert_missing(connection, part, rows)
    links = [{"snapshot_id": stored.snapshot_id, "digest": name} for name in stored.parts]
    insert_missing(connection, snapshot_part, links)
    return len(new)


def _known_parts(connection: Connection, names: Sequence[str]) -> set[str]:
    known: set[str] = set()
    for start in range(0, len(names), _CHUNK):
        query = select(part.c.digest).where(part.c.digest.in_(names[start : start + _CHUNK]))
        known.update(connection.execute(query).scalars())
    return known


def publish(connection: Connection, snapshot_id: str, now: datetime) -> Publication:
    """Activate a snapshot unless it is active; return its publication."""
    query = select(publication).order_by(publication.c.sequence.desc()).limit(1)
    newest = connection.execute(query).one_or_none()
    if newest is not None and newest.snapshot_id == snapshot_id:
        return Publication(newest.sequence, snapshot_id, newest.published_at)
    sequence = 1 if newest is None else newest.sequence + 1
    row = {"sequence": sequence, "snapshot_id": snapshot_id, "published_at": now}
    connection.execute(insert(publication), row)
    return Publication(sequence, snapshot_id, now)


def load_snapshot(database: Engine, snapshot_id: str) -> StoredSnapshot | None:
    """Read a snapshot and check its digests; `None` if it does not exist."""
    own = select(snapshot).where(snapshot.c.snapshot_id == snapshot_id)
    parts = (
        select(part)
        .join(snapshot_part, snapshot_part.c.digest == part.c.digest)
        .where(snapshot_part.c.snapshot_id == snapshot_id)
        .order_by(part.c.digest)
    )
    with reading(database) as connection:
        row = connection.execute(own).one_or_none()
        if row is None:
            return None
        contents = {each.digest: bytes(each.content) for each in connection.execute(parts)}
    manifest = bytes(row.manifest)
    stored = StoredSnapshot(snapshot_id, row.as_of, row.policy_revision, manifest, contents)
    require_digests(database, stored)
    return stored


def require_digests(database: Engine, stored: StoredSnapshot) -> None:
    """Raise StoreUnavailable unless every content has the digest it is named by."""
    contents = {stored.snapshot_id: stored.manifest, **stored.parts}
    for name, content in contents.items():
        _require_digest(database, stored.snapshot_id, name, content)


def _require_digest(database: Engine, snapshot_id: str, name: str, content: bytes) -> None:
    if sha256(content).hexdigest() != name:
        place = f"database {masked(database.url)}: snapshot {snapshot_id}"
        raise StoreUnavailable(f"{place}: {name} is not the digest of its content")


def latest_published(database: Engine) -> Publication | None:
    """Return the publication of the active snapshot."""
    newest = select(func.max(publication.c.sequence))
    return _find(database, publication.c.sequence == newest.scalar_subquery())


def published_at(database: Engine, at: datetime) -> Publication | None:
    """Return the publication that was active at a time; `None` before the first that is stored."""
    newest = select(func.max(publication.c.sequence)).where(publication.c.published_at <= at)
    return _find(database, publication.c.sequence == newest.scalar_subquery())


def first_published(database: Engine) -> Publication | None:
    """Return the oldest publication that is stored."""
    oldest = select(func.min(publication.c.sequence))
    return _find(database, publication.c.sequence == oldest.scalar_subquery())


def _find(database: Engine, condition: ColumnElement[bool]) -> Publication | None:
    with reading(database) as connection:
        row = connection.execute(select(publication).where(condition)).one_or_none()
    return None if row is None else Publication(row.sequence, row.snapshot_id, row.published_at)


def load_manifest(database: Engine, snapshot_id: str) -> bytes | None:
    """Read a manifest and check its digest; `None` if it does not exist."""
    query = select(snapshot.c.manifest).where(snapshot.c.snapshot_id == snapshot_id)
    with reading(database) as connection:
        manifest = connection.scalar(query)
    if manifest is None:
        return None
    _require_digest(database, snapshot_id, snapshot_id, bytes(manifest))
    return bytes(manifest)


def load_parts(database: Engine, names: Sequence[str]) -> dict[str, bytes]:
    """Read the parts among these that exist and match their digests."""
    with reading(database) as connection:
        rows = connection.execute(select(part).where(part.c.digest.in_(names))).all()
    contents = {row.digest: bytes(row.content) for row in rows}
    return {name: each for name, each in contents.items() if sha256(each).hexdigest() == name}
