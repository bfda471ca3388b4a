"""Following what is published: soon, never back, and the last good one whatever goes wrong."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, insert, select, update
from sqlalchemy.exc import OperationalError
from tests.support.curated_pool import (
    FIRST,
    MODEL,
    START,
    CuratorBench,
    close_hour,
    edited_policy,
    import_observations,
    numbers,
    observations_by_hour,
)
from tests.support.waiting import eventually

from assay.engine.decide.plan import Moment, plan
from assay.engine.policy.policy import Policy
from assay.engine.policy.rule_set import PolicySource
from assay.engine.snapshot.snapshot import Snapshot, read_manifest
from assay.engine.world.request import Request
from assay.engine.world.world import World
from assay.rule_files.compile import compile_source
from assay.server.snapshot_follower import CatalogWorld, SnapshotFollower
from assay.store.database import open_database, reading, writing
from assay.store.imports.observations import apply_observations
from assay.store.snapshots import Publication
from assay.store.tables import part, publication


@dataclass
class Follower:
    """A decider's view of what is published, with everything it saw."""

    database: Engine
    seen: list[Snapshot] = field(default_factory=list)
    compiled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.following = SnapshotFollower(
            self.database, self.compile, World, lambda _, snapshot: self.seen.append(snapshot)
        )

    def compile(self, source: PolicySource) -> Policy:
        self.compiled.append(source.digest)
        return compile_source(source)

    @property
    def ids(self) -> list[str]:
        return [snapshot.snapshot_id for snapshot in self.seen]

    @property
    def trouble(self) -> str:
        return str(self.following.trouble or "")


@pytest.fixture
def bench(store: Engine) -> CuratorBench:
    import_observations(store)
    return CuratorBench(store)


@pytest.fixture
def follower(store: Engine) -> Follower:
    return Follower(store)


def published(bench: CuratorBench) -> list[str]:
    return [told.snapshot.snapshot_id for told in bench.heard]


def test_before_anything_is_published_there_is_nothing(follower: Follower) -> None:
    assert not follower.following.follow()
    assert (follower.following.snapshot, follower.trouble) == (None, "")


def test_the_newest_is_followed_and_plans_as_the_one_that_was_judged(
    bench: CuratorBench, follower: Follower
) -> None:
    bench.work_until(3)
    bench.work_until(6)
    assert follower.following.follow()
    assert follower.ids == published(bench)[-1:]
    assert not follower.following.follow()
    bench.work_until(7)
    assert follower.following.follow()
    judged = bench.heard[-1].snapshot
    request, moment = Request(f"{MODEL}:exacto", tools=2), Moment(START, b"\x07" * 32)
    assert (
        plan(request, follower.seen[-1], moment).canonical()
        == plan(request, judged, moment).canonical()
    )
    assert follower.seen[-1].policy.revision == judged.policy.revision == 1
    assert follower.seen[-1].pools == judged.pools
    assert len(follower.compiled) == 1


def fetched(database: Engine) -> list[str]:
    """Every part that is asked for from now on."""
    found: list[str] = []

    def note(*said: Any) -> None:
        _, _, statement, parameters, _, _ = said
        if "part.content" in statement and statement.startswith("SELECT"):
            found.extend(parameters.values() if isinstance(parameters, dict) else parameters)

    event.listen(database, "before_cursor_execute", note)
    return found


def test_only_parts_that_are_not_at_hand_are_fetched(
    bench: CuratorBench, follower: Follower, store: Engine
) -> None:
    other = observations_by_hour(START, 1)
    rows = tuple(row for row in other.rows if row.tag == "steady")
    for name in ("lab/still", "lab/quiet"):
        document = type(other)(digest=name, rows=tuple(renamed(row, name) for row in rows))
        apply_observations(store, document, create_endpoints=True, now=START)
    asked = fetched(store)
    bench.work_until(3)
    follower.following.follow()
    first = read_manifest(follower.seen[-1].manifest)
    assert sorted(asked) == sorted(first.parts)
    asked.clear()
    bench.rules.policy = edited_policy("other rules")
    bench.work()
    follower.following.follow()
    second = read_manifest(follower.seen[-1].manifest)
    assert set(asked) == second.parts - first.parts
    assert len(asked) < len(second.parts) / 2
    model = "lab/still"
    assert follower.seen[-1].models[model] is follower.seen[-2].models[model]


def renamed(row: Any, model: str) -> Any:
    """A row of another model."""
    seen = row.observation
    moved = type(seen)(
        f"{model}@{row.tag}", seen.source, seen.observed_from, seen.observed_to, seen.requests,
        seen.tool_call_requests, seen.errored_requests,
    )  # fmt: skip
    return type(row)(row.where, model, row.provider, row.tag, moved)


def test_it_never_goes_back(bench: CuratorBench, follower: Follower, store: Engine) -> None:
    bench.work_until(3)
    older = bench.heard[-1]
    bench.work_until(4)
    follower.following.follow()
    assert older.publication is not None
    assert not follower.following.take(older.publication, older.world, older.snapshot)
    with writing(store) as connection:
        connection.execute(delete(publication).where(publication.c.sequence == 2))
    assert not follower.following.follow()
    assert follower.trouble == "publication 1 is older than the active one, 2"
    with writing(store) as connection:
        connection.execute(delete(publication))
    assert not follower.following.follow()
    assert follower.ids == published(bench)[-1:]
    with writing(store) as connection:
        row = {"sequence": 3, "snapshot_id": older.snapshot.snapshot_id, "published_at": START}
        connection.execute(insert(publication), row)
    assert follower.following.follow()  # the same content again, but newer
    assert (follower.ids[-1], follower.trouble) == (older.snapshot.snapshot_id, "")


def test_however_they_race_numbers_only_grow(bench: CuratorBench, follower: Follower) -> None:
    bench.work_until(1)
    bench.work_until(12)
    shuffled = [bench.heard[place] for place in (0, 5, 2, 9, 1, 11, 4, 3, 8, 10, 6, 7)]
    threads = [
        threading.Thread(
            target=follower.following.take, args=(told.publication, told.world, told.snapshot)
        )
        for told in shuffled
    ]
    for thread in threads:
        thread.start()
    follower.following.follow()
    for thread in threads:
        thread.join()
    order = {name: place for place, name in enumerate(published(bench))}
    places = [order[name] for name in follower.ids]
    assert places == sorted(set(places))
    assert places[-1] == 11


@pytest.mark.parametrize("harm", ["missing", "altered"])
def test_a_part_that_is_not_as_it_should_be_keeps_the_last_good_one(
    bench: CuratorBench, follower: Follower, store: Engine, harm: str
) -> None:
    bench.work_until(3)
    follower.following.follow()
    bench.work_until(4)
    new = read_manifest(bench.heard[-1].snapshot.manifest)
    name = min(new.needed - read_manifest(bench.heard[-2].snapshot.manifest).parts)
    content = bench.heard[-1].snapshot.parts[name]
    change(store, name, b"{}" if harm == "altered" else None)
    for _ in range(3):
        assert not follower.following.follow()
    assert (
        follower.trouble == f"publication 2 lacks 1 parts, missing or altered, the first is {name}"
    )
    assert follower.ids == published(bench)[:1]
    change(store, name, content)
    asked = fetched(store)
    assert follower.following.follow()
    assert asked == [name]
    assert (follower.ids, follower.trouble) == (published(bench), "")


def change(database: Engine, name: str, content: bytes | None) -> None:
    """Give a part another content, or have its row be elsewhere for the time being."""
    with database.connect() as connection:
        away = f"away {name}"
        known = connection.execute(select(part.c.digest).where(part.c.digest == name)).first()
        if content is None:
            free(connection, name)
            connection.execute(update(part).where(part.c.digest == name).values(digest=away))
        elif known is None:
            connection.execute(
                update(part).where(part.c.digest == away).values(digest=name, content=content)
            )
        else:
            connection.execute(update(part).where(part.c.digest == name).values(content=content))
        connection.commit()


def free(connection: Any, name: str) -> None:
    """Let go of the links to a part, which following does not read."""
    connection.exec_driver_sql(f"DELETE FROM snapshot_part WHERE digest = '{name}'")  # noqa: S608 - a digest


def test_rules_that_this_engine_cannot_compile_are_tried_once(
    bench: CuratorBench, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.work_until(3)
    follower.following.follow()
    bench.rules.policy = edited_policy("of a newer engine")
    bench.work()
    good = follower.compile

    def refuse(source: PolicySource) -> Policy:
        follower.compiled.append(source.digest)
        raise ValueError("an unknown word")

    monkeypatch.setattr(follower.following, "_compile", refuse)
    for _ in range(3):
        assert not follower.following.follow()
    assert follower.trouble == "publication 2 cannot be read: an unknown word"
    assert len(follower.compiled) == 2
    assert follower.ids == published(bench)[:1]
    monkeypatch.setattr(follower.following, "_compile", good)
    bench.rules.policy = edited_policy("understood")
    bench.work()
    assert follower.following.follow()
    assert (follower.ids[-1], follower.trouble) == (published(bench)[-1], "")


def away(database: Engine, number: int) -> Callable[[], int]:
    """Have the database go away at the n-th statement; the function given brings it back, and says how many came."""
    count = 0

    def fail(*_: object) -> None:
        nonlocal count
        count += 1
        if count >= number:
            raise OperationalError("SELECT", {}, Exception("gone away"))

    event.listen(database, "before_cursor_execute", fail)

    def back() -> int:
        event.remove(database, "before_cursor_execute", fail)
        return count

    return back


def test_a_database_that_goes_away_anywhere_costs_nothing(
    bench: CuratorBench, store: Engine
) -> None:
    bench.work_until(3)
    for number in numbers():
        follower = Follower(store)
        assert follower.following.follow()
        bench.work_until(3 + number)
        back = away(store, number)
        taken = follower.following.follow()
        if taken:
            assert back() < number
            break
        back()
        assert "gone away" in follower.trouble
        assert len(follower.ids) == 1
        assert follower.following.follow()
        assert (follower.ids[-1], follower.trouble) == (published(bench)[-1], "")
    assert number > 3


def test_a_take_unpublished_is_in_force_until_something_is_published(
    bench: CuratorBench, follower: Follower
) -> None:
    bench.work_until(3)
    told = bench.heard[-1]
    assert follower.following.take_unpublished(told.world, told.snapshot)
    assert follower.following.snapshot is None
    bench.work_until(4)
    assert follower.following.follow()
    assert not follower.following.take_unpublished(told.world, told.snapshot)
    assert follower.ids == published(bench)


def test_the_world_is_read_again_only_where_a_catalog_changed(
    bench: CuratorBench, store: Engine
) -> None:
    listed = CatalogWorld(store)
    first = listed.load()
    bench.work_until(3)
    assert listed.load() is first
    other = observations_by_hour(START, 1)
    rows = tuple(renamed(row, "lab/other") for row in other.rows)
    apply_observations(
        store, type(other)(digest="other", rows=rows), create_endpoints=True, now=START
    )
    assert [model.model for model in listed.load().models] == ["lab/other", MODEL]


def test_the_collector_is_at_work_again_whatever_happened(
    bench: CuratorBench, follower: Follower, store: Engine
) -> None:
    bench.work_until(3)
    assert follower.following.follow()
    assert gc.isenabled()
    bench.work_until(4)
    back = away(store, 3)
    assert not follower.following.follow()
    back()
    assert gc.isenabled()


@pytest.fixture
def apart(store: Engine) -> Iterator[Engine]:
    """The same database as another process has it."""
    database = open_database(store.url.render_as_string(hide_password=False))
    yield database
    database.dispose()


def test_many_publications_are_followed_while_they_come(bench: CuratorBench, apart: Engine) -> None:
    """A decider that looks all the while: it sees a part of them, in their order, and the last one in the end."""
    follower, ended = Follower(apart), threading.Event()
    close_hour(bench.database, FIRST)

    def follow() -> None:
        while not ended.is_set():
            follower.following.follow()

    thread = threading.Thread(target=follow)
    thread.start()
    bench.work_until(20)
    eventually(lambda: follower.ids[-1:] == published(bench)[-1:])
    ended.set()
    thread.join()
    order = {name: place for place, name in enumerate(published(bench))}
    places = [order[name] for name in follower.ids]
    assert places == sorted(set(places))
    with reading(apart) as connection:
        newest = connection.execute(
            select(publication).order_by(publication.c.sequence.desc()).limit(1)
        ).one()
    assert bench.heard[-1].publication == Publication(
        newest.sequence, newest.snapshot_id, newest.published_at
    )
