"""Storage of snapshots and policy revisions: unchanged, with shared parts, activated in order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from sqlalchemy import Engine, func, select, update
from tests.support.databases import record_policy

from assay.engine.errors import StoreUnavailable
from assay.store.database import reading, writing
from assay.store.policies import latest_policy, load_policy
from assay.store.snapshots import (
    Publication,
    StoredSnapshot,
    latest_published,
    load_snapshot,
    save_snapshot,
)
from assay.store.tables import part

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def snapshot(*contents: bytes) -> StoredSnapshot:
    parts: Mapping[str, bytes] = {
        sha256(content).hexdigest(): content for content in sorted(contents)
    }
    manifest = repr(sorted(parts)).encode()
    return StoredSnapshot(
        sha256(manifest).hexdigest(), NOON, 1, manifest, dict(sorted(parts.items()))
    )


@pytest.fixture
def ruled(store: Engine) -> Engine:
    record_policy(store, "d1", {"exacto.yaml": "kind: RuleSet"}, now=NOON)
    return store


def parts_kept(store: Engine) -> int:
    with reading(store) as connection:
        return connection.execute(select(func.count()).select_from(part)).scalar_one()


def test_a_snapshot_is_read_back_byte_for_byte(ruled: Engine) -> None:
    whole = snapshot(b"\x00\xff", b"{}", b"")
    save_snapshot(ruled, whole, published=False, now=NOON)
    assert load_snapshot(ruled, whole.snapshot_id) == whole
    assert load_snapshot(ruled, "0" * 64) is None
    assert latest_published(ruled) is None


def test_equal_parts_are_stored_once(ruled: Engine) -> None:
    one, other = snapshot(b"a", b"b"), snapshot(b"b", b"c")
    for each in (one, other, one):
        save_snapshot(ruled, each, published=False, now=NOON)
    assert parts_kept(ruled) == 3
    assert load_snapshot(ruled, one.snapshot_id) == one
    assert load_snapshot(ruled, other.snapshot_id) == other


def test_a_snapshot_may_have_more_parts_than_a_statement_has_parameters(ruled: Engine) -> None:
    many = snapshot(*(str(number).encode() for number in range(1200)))
    save_snapshot(ruled, many, published=True, now=NOON)
    assert load_snapshot(ruled, many.snapshot_id) == many


def test_publication_sequences_only_grow(ruled: Engine) -> None:
    one, other = snapshot(b"a"), snapshot(b"b")
    for hour, each in enumerate((one, one, other, one)):
        save_snapshot(ruled, each, published=True, now=NOON + hour * HOUR)
    assert latest_published(ruled) == Publication(3, one.snapshot_id, NOON + 3 * HOUR)


def test_content_with_a_wrong_digest_is_neither_stored_nor_read(ruled: Engine) -> None:
    good = snapshot(b"a")
    wrong = StoredSnapshot(good.snapshot_id, NOON, 1, good.manifest, {"0" * 64: b"a"})
    with pytest.raises(StoreUnavailable, match="is not the digest of its content"):
        save_snapshot(ruled, wrong, published=True, now=NOON)
    save_snapshot(ruled, good, published=True, now=NOON)
    with writing(ruled) as connection:
        connection.execute(update(part).values(content=b"tampered"))
    with pytest.raises(StoreUnavailable, match="is not the digest of its content"):
        load_snapshot(ruled, good.snapshot_id)


def test_a_snapshot_of_an_unknown_policy_is_not_stored(store: Engine) -> None:
    with pytest.raises(StoreUnavailable, match=r"(?i)foreign key"):
        save_snapshot(store, snapshot(b"a"), published=True, now=NOON)
    assert parts_kept(store) == 0


def test_policy_revisions_are_numbered_in_order_of_activation(store: Engine) -> None:
    assert latest_policy(store) is None
    first, second = {"a.yaml": "ä: 1\n"}, {"a.yaml": "ä: 2\n", "b.yaml": ""}
    numbers = [
        record_policy(store, digest, files, now=NOON)
        for digest, files in (("d1", first), ("d1", first), ("d2", second))
    ]
    assert numbers == [1, 1, 2]
    assert record_policy(store, "d1", first, now=NOON + HOUR, note="rollback") == 3
    found = latest_policy(store)
    assert found is not None
    assert (found.number, found.digest, found.files, found.created_at, found.note) == (
        3,
        "d1",
        first,
        NOON + HOUR,
        "rollback",
    )
    middle = load_policy(store, 2)
    assert middle is not None
    assert middle.files == second
    assert load_policy(store, 4) is None
