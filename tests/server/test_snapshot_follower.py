"""Following publications: only newer ones, and the last valid snapshot survives every error."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
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
from tests.support.snapshot_followers import Follower, published
from tests.support.waiting import eventually

from assay.engine.decide.plan import Moment, plan
from assay.engine.policy.policy import Policy
from assay.engine.policy.rule_set import PolicySource
from assay.engine.snapshot.snapshot import read_manifest
from assay.engine.world.request import Request
from assay.server.snapshot_follower import STABLE_S, CatalogWorld
from assay.store.database import open_database, reading, writing
from assay.store.imports.observations import apply_observations
from assay.store.snapshots import Publication
from assay.store.tables import part, publication


@pytest.fixture
def bench(store: Engine) -> CuratorBench:
    import_observations(store)
    return CuratorBench(store)


@pytest.fixture
def follower(store: Engine) -> Follower:
    return Follower(store)


def test_without_a_publication_there_is_no_snapshot(follower: Follower) -> None:
    assert not follower.following.follow()
    assert (follower.following.snapshot, follower.trouble) == (None, "")


def test_the_newest_publication_is_activated_and_plans_as_the_judged_snapshot(
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


def record_fetched_parts(database: Engine) -> list[str]:
    """Return a list to which every part is added that is read from now on."""
    found: list[str] = []

    def note(*arguments: Any) -> None:
        _, _, statement, parameters, _, _ = arguments
        if "part.content" in statement and statement.startswith("SELECT"):
            found.extend(parameters.values() if isinstance(parameters, dict) else parameters)

    event.listen(database, "before_cursor_execute", note)
    return found


def test_only_new_parts_are_fetched(bench: CuratorBench, follower: Follower, store: Engine) -> None:
    other = observations_by_hour(START, 1)
    rows = tuple(row for row in other.rows if row.tag == "steady")
    for name in ("lab/still", "lab/quiet"):
        document = type(other)(digest=name, rows=tuple(renamed(row, name) for row in rows))
        apply_observations(store, document, create_endpoints=True, now=START)
    fetched = record_fetched_parts(store)
    bench.work_until(3)
    follower.following.follow()
    first = read_manifest(follower.seen[-1].manifest)
    assert sorted(fetched) == sorted(first.parts)
    fetched.clear()
    bench.rules.policy = edited_policy("other rules")
    bench.work()
    follower.following.follow()
    second = read_manifest(follower.seen[-1].manifest)
    assert set(fetched) == second.parts - first.parts
    assert len(fetched) < len(second.parts) / 2
    model = "lab/still"
    assert follower.seen[-1].models[model] is follower.seen[-2].models[model]


def renamed(row: Any, model: str) -> Any:
    """Return the row under the name of another model."""
    seen = row.observation
    moved = type(seen)(
        f"{model}@{row.tag}", seen.source, seen.observed_from, seen.observed_to, seen.requests,
        seen.tool_call_requests, seen.errored_requests,
    )  # fmt: skip
    return type(row)(row.where, model, row.provider, row.tag, moved)


def test_an_older_publication_is_never_activated(
    bench: CuratorBench, follower: Follower, store: Engine
) -> None:
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
    assert follower.following.follow()  # the same content under a newer number
    assert (follower.ids[-1], follower.trouble) == (older.snapshot.snapshot_id, "")


def test_a_restored_database_is_followed_once_it_has_been_seen_stable(
    bench: CuratorBench, follower: Follower, store: Engine
) -> None:
    bench.work_until(3)
    bench.work_until(5)
    follower.following.follow()
    older = bench.heard[0].snapshot.snapshot_id
    with writing(store) as connection:
        connection.execute(delete(publication).where(publication.c.sequence > 1))
    for seconds in (0.0, STABLE_S / 2):
        follower.seconds = seconds
        assert not follower.following.follow()
        assert follower.trouble == "publication 1 is older than the active one, 3"
    follower.seconds = STABLE_S
    assert follower.following.follow()
    assert (follower.ids[-1], follower.trouble) == (older, "")
    bench.work_until(6)
    assert follower.following.follow()
    assert follower.ids[-1] == published(bench)[-1]


def test_another_snapshot_under_the_number_of_the_active_one_is_noticed(
    bench: CuratorBench, follower: Follower, store: Engine
) -> None:
    bench.work_until(3)
    bench.work_until(4)
    follower.following.follow()
    older, active = published(bench)
    with writing(store) as connection:
        change = update(publication).where(publication.c.sequence == 2)
        connection.execute(change.values(snapshot_id=older))
    assert not follower.following.follow()
    assert follower.trouble == (f"publication 2 has another snapshot than the active one, {active}")
    follower.seconds = STABLE_S
    assert follower.following.follow()
    assert (follower.ids[-1], follower.trouble) == (older, "")


def test_a_database_that_went_back_only_for_a_moment_is_not_followed(
    bench: CuratorBench, follower: Follower, store: Engine
) -> None:
    bench.work_until(3)
    bench.work_until(4)
    follower.following.follow()
    _, active = published(bench)
    with writing(store) as connection:
        connection.execute(delete(publication).where(publication.c.sequence == 2))
    assert not follower.following.follow()
    with writing(store) as connection:
        row = {"sequence": 2, "snapshot_id": active, "published_at": START}
        connection.execute(insert(publication), row)
    follower.seconds = 2 * STABLE_S
    assert not follower.following.follow()
    assert (follower.ids, follower.trouble) == ([active], "")


def test_concurrent_activations_keep_the_order_of_publications(
    bench: CuratorBench, follower: Follower
) -> None:
    bench.work_until(1)
    bench.work_until(12)
    shuffled = [bench.heard[place] for place in (0, 5, 2, 9, 1, 11, 4, 3, 8, 10, 6, 7)]
    threads = [
        threading.Thread(
            target=follower.following.take, args=(each.publication, each.world, each.snapshot)
        )
        for each in shuffled
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


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_damaged_part_keeps_the_last_valid_snapshot_active(
    bench: CuratorBench, follower: Follower, store: Engine, damage: str
) -> None:
    bench.work_until(3)
    follower.following.follow()
    bench.work_until(4)
    new = read_manifest(bench.heard[-1].snapshot.manifest)
    name = min(new.needed - read_manifest(bench.heard[-2].snapshot.manifest).parts)
    content = bench.heard[-1].snapshot.parts[name]
    change(store, name, b"{}" if damage == "altered" else None)
    for _ in range(3):
        assert not follower.following.follow()
    assert (
        follower.trouble == f"publication 2 lacks 1 parts, missing or altered, the first is {name}"
    )
    assert follower.ids == published(bench)[:1]
    change(store, name, content)
    fetched = record_fetched_parts(store)
    assert follower.following.follow()
    assert fetched == [name]
    assert (follower.ids, follower.trouble) == (published(bench), "")


def change(database: Engine, name: str, content: bytes | None) -> None:
    """Replace the content of a part; None hides its row until the content is restored."""
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
    """Delete the links to a part, which a follower does not read."""
    where = f"digest = '{name}'"
    connection.exec_driver_sql(f"DELETE FROM snapshot_part WHERE {where}")  # noqa: S608 - a digest


def test_rules_that_do_not_compile_are_compiled_once(
    bench: CuratorBench, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.work_until(3)
    follower.following.follow()
    bench.rules.policy = edited_policy("of a newer engine")
    bench.work()
    good = follower.compile

    def fail(source: PolicySource) -> Policy:
        follower.compiled.append(source.digest)
        raise ValueError("an unknown word")

    monkeypatch.setattr(follower.following, "_compile", fail)
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


def interrupt(database: Engine, number: int) -> Callable[[], int]:
    """Fail every statement from the n-th on; return a function that stops it and counts them."""
    count = 0

    def fail(*_: object) -> None:
        nonlocal count
        count += 1
        if count >= number:
            raise OperationalError("SELECT", {}, Exception("gone away"))

    event.listen(database, "before_cursor_execute", fail)

    def restore() -> int:
        event.remove(database, "before_cursor_execute", fail)
        return count

    return restore


def test_the_follower_recovers_from_an_outage_at_any_statement(
    bench: CuratorBench, store: Engine
) -> None:
    bench.work_until(3)
    for number in numbers():
        follower = Follower(store)
        assert follower.following.follow()
        bench.work_until(3 + number)
        restore = interrupt(store, number)
        if follower.following.follow():
            assert restore() < number
            break
        restore()
        assert "gone away" in follower.trouble
        assert len(follower.ids) == 1
        assert follower.following.follow()
        assert (follower.ids[-1], follower.trouble) == (published(bench)[-1], "")
    assert number > 3


def test_an_unpublished_snapshot_is_active_until_the_first_publication(
    bench: CuratorBench, follower: Follower
) -> None:
    bench.work_until(3)
    judged = bench.heard[-1]
    assert follower.following.take_unpublished(judged.world, judged.snapshot)
    assert follower.following.snapshot is None
    bench.work_until(4)
    assert follower.following.follow()
    assert not follower.following.take_unpublished(judged.world, judged.snapshot)
    assert follower.ids == published(bench)


def test_the_world_is_read_again_only_after_the_catalog_changed(
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


def test_the_garbage_collector_is_enabled_after_success_and_failure(
    bench: CuratorBench, follower: Follower, store: Engine
) -> None:
    bench.work_until(3)
    assert follower.following.follow()
    assert gc.isenabled()
    bench.work_until(4)
    restore = interrupt(store, 3)
    assert not follower.following.follow()
    restore()
    assert gc.isenabled()


@pytest.fixture
def other_connection(store: Engine) -> Iterator[Engine]:
    """Open the same database a second time, as another process does."""
    database = open_database(store.url.render_as_string(hide_password=False))
    yield database
    database.dispose()


def test_a_polling_follower_activates_publications_in_order_and_the_last_one(
    bench: CuratorBench, other_connection: Engine
) -> None:
    follower, ended = Follower(other_connection), threading.Event()
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
    with reading(other_connection) as connection:
        newest = connection.execute(
            select(publication).order_by(publication.c.sequence.desc()).limit(1)
        ).one()
    assert bench.heard[-1].publication == Publication(
        newest.sequence, newest.snapshot_id, newest.published_at
    )
