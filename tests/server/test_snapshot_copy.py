"""The copy of the last snapshot: a follower starts from it, and a damaged one is not used."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine
from tests.support.curated_pool import MODEL, START, CuratorBench, import_observations
from tests.support.snapshot_followers import Follower, published

from assay.engine.decide.plan import Moment, plan
from assay.engine.world.request import Request
from assay.server.snapshot_copy import NAME, SnapshotCopy


@pytest.fixture
def backend() -> str:
    return "sqlite"


@pytest.fixture
def bench(store: Engine) -> CuratorBench:
    import_observations(store)
    return CuratorBench(store)


def test_a_follower_starts_from_the_copy_of_the_last_snapshot(
    bench: CuratorBench, store: Engine, tmp_path: Path
) -> None:
    bench.work_until(3)
    first = Follower(store, SnapshotCopy(tmp_path))
    first.following.follow()
    bench.work_until(4)
    first.following.follow()
    second = Follower(store, SnapshotCopy(tmp_path))
    assert second.following.resume()
    assert second.ids == published(bench)[-1:]
    judged = bench.heard[-1].snapshot
    request, moment = Request(f"{MODEL}:exacto", tools=2), Moment(START, b"\x07" * 32)
    restored = plan(request, second.seen[-1], moment)
    assert restored.canonical() == plan(request, judged, moment).canonical()
    assert not second.following.follow()
    bench.work_until(5)
    assert second.following.follow()
    assert second.ids[-1] == published(bench)[-1]


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_copy_is_not_used(
    bench: CuratorBench, store: Engine, tmp_path: Path, place: float, damage: str
) -> None:
    bench.work_until(3)
    Follower(store, SnapshotCopy(tmp_path)).following.follow()
    path = tmp_path / NAME
    data = bytearray(path.read_bytes())
    at = int(place * len(data))
    if damage == "cut":
        del data[at:]
    else:
        data[at] ^= 1
    path.write_bytes(data)
    follower = Follower(store, SnapshotCopy(tmp_path))
    assert not follower.following.resume()
    assert follower.seen == []
    assert follower.following.follow()


def test_without_room_for_the_copy_the_snapshot_is_activated_and_the_copy_is_written_later(
    bench: CuratorBench, store: Engine, tmp_path: Path
) -> None:
    folder, seconds = tmp_path / "journal", 0.0
    bench.work_until(3)
    follower = Follower(store, SnapshotCopy(folder, lambda: seconds))
    assert follower.following.follow()
    folder.mkdir()
    assert not follower.following.follow()
    assert not SnapshotCopy(folder).exists
    seconds = 60.0
    follower.following.follow()
    assert Follower(store, SnapshotCopy(folder)).following.resume()


def test_a_copy_that_was_deleted_is_written_again(
    bench: CuratorBench, store: Engine, tmp_path: Path
) -> None:
    bench.work_until(3)
    follower = Follower(store, SnapshotCopy(tmp_path))
    follower.following.follow()
    (tmp_path / NAME).unlink()
    assert not follower.following.follow()
    assert Follower(store, SnapshotCopy(tmp_path)).following.resume()
