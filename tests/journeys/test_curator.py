"""Two curators and a decider as processes: takeover, following, and pools at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from sqlalchemy import Engine, select
from tests.support.catalogs import POLICY, SMALL_CATALOG
from tests.support.commands import assay, assert_rejected, copy_policy
from tests.support.curated_pool import ENDPOINTS, MODEL, CuratorBench
from tests.support.curator_processes import (
    closed_hours,
    event_times,
    holding_lease,
    import_missed_hours,
    lease_holder,
    pools_by_hour,
)
from tests.support.databases import BACKENDS, NewDatabase, execute
from tests.support.processes import AssayProcess, serving
from tests.support.server_calls import decide, health_status
from tests.support.waiting import eventually

from assay.curator.curator import end_of_hour
from assay.store.database import open_database, reading
from assay.store.tables import publication
from assay.v1 import audit_pb2, audit_pb2_grpc, catalog_pb2, catalog_pb2_grpc

HAND_OVER_S = 15.0
FOLLOWED_WITHIN = timedelta(seconds=5)
CURATE = ("--target", "curate", "--database")
DECIDE = ("--target", "decide", "--database")


@pytest.fixture
def undisturbed(new_database: NewDatabase) -> Iterator[Engine]:
    """Another database, for a curator that works alone."""
    with new_database() as url:
        database = open_database(url)
        yield database
        database.dispose()


def working(database: Engine, *processes: AssayProcess) -> tuple[AssayProcess, AssayProcess]:
    """The one of two that curates, and the other."""
    pid = eventually(lambda: lease_holder(database))
    one, other = processes
    assert pid in {one.process.pid, other.process.pid}
    return (one, other) if pid == one.process.pid else (other, one)


@pytest.mark.slow
def test_killing_the_curator_hands_over_and_no_change_is_lost_or_made_twice(
    database_url: str, store: Engine, undisturbed: Engine
) -> None:
    hours = import_missed_hours(store)
    with (
        holding_lease(store) as release,
        serving(*CURATE, database_url) as one,
        serving(*CURATE, database_url) as other,
    ):
        release()
        first, second = working(store, one, other)
        eventually(lambda: len(closed_hours(store)) > 5)
        first.kill()
        done, killed = len(closed_hours(store)), time.monotonic()
        assert done < len(hours), "it was done before it was killed"
        eventually(lambda: len(closed_hours(store)) > done)
        assert time.monotonic() - killed < HAND_OVER_S
        assert lease_holder(store) == second.process.pid
        eventually(lambda: closed_hours(store)[-1] == hours[-1])
        assert second.stop() == 0
    assert closed_hours(store) == [hours[0] - 1, *hours]
    import_missed_hours(undisturbed)
    CuratorBench(undisturbed, end_of_hour(hours[-1]) + timedelta(minutes=1)).work()
    assert pools_by_hour(store) == pools_by_hour(undisturbed)
    assert len(pools_by_hour(store)["changes"]) > len(ENDPOINTS)


@pytest.mark.slow
def test_a_stopped_curator_hands_over_at_once(database_url: str, store: Engine) -> None:
    with serving(*CURATE, database_url) as one, serving(*CURATE, database_url) as other:
        first, second = working(store, one, other)
        eventually(lambda: closed_hours(store))
        assert first.stop() == 0
        taken = eventually(lambda: event_times(second, "lease taken"))
        given = event_times(first, "lease released")
        assert len(given) == len(taken) == 1
        assert taken[0] - given[0] < timedelta(seconds=3)
        assert second.stop() == 0


def test_deciders_follow_publications_within_seconds(
    database_url: str, store: Engine, tmp_path: Path
) -> None:
    rules, catalog = copy_policy(tmp_path), tmp_path / "catalog.csv"
    catalog.write_text(SMALL_CATALOG)
    with (
        serving(*DECIDE, database_url, "--journal", tmp_path / "journal") as decider,
        decider.channel() as channel,
    ):
        # nothing published yet
        assert (health_status(channel), health_status(channel, "assay.v1.RoutingService")) == (
            "NOT_SERVING",
            "NOT_SERVING",
        )
        with pytest.raises(grpc.RpcError) as unavailable:
            decide(channel, "lab/mixed")
        assert unavailable.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "no snapshot to decide from" in str(unavailable.value.details())

        with (
            serving(*CURATE, database_url, "--policy", rules) as curator,
            curator.channel() as curating,
        ):
            eventually(lambda: health_status(channel), lambda seen: seen == "SERVING")
            assert health_status(curating, "assay.curator") == "SERVING"

            # an import
            assert assay("import", "catalog", catalog, "--database", database_url).code == 0
            eventually(lambda: known(channel, "lab/mixed"))
            assert decide(channel, "lab/mixed").policy_revision.number == 1

            # other rules, which only the curator reads
            with (rules / "default.yaml").open("a") as file:
                file.write("# edited\n")
            eventually(
                lambda: decide(channel, "lab/mixed").policy_revision.number,
                lambda number: number == 2,
            )

            # faulty ones
            with (rules / "default.yaml").open("a") as file:
                file.write("spec: twice\n")
            eventually(
                lambda: health_status(curating, "assay.policy"), lambda seen: seen == "NOT_SERVING"
            )
            assert curator.stop() == 0
        # without a curator
        assert decide(channel, "lab/mixed").policy_revision.number == 2
        assert health_status(channel, "assay.snapshot") == "SERVING"
        assert decider.stop() == 0
    assert followed(store, decider) <= FOLLOWED_WITHIN


def known(channel: grpc.Channel, model: str) -> bool:
    """Whether a decider knows a model."""
    try:
        decide(channel, model)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return False
    return True


def followed(database: Engine, decider: AssayProcess) -> timedelta:
    """Return the longest time from a publication to its activation by this decider."""
    with reading(database) as connection:
        published: dict[int, datetime] = {
            row.sequence: row.published_at for row in connection.execute(select(publication))
        }
    seen = [line for line in decider.log if line["event"] == "snapshot activated"]
    numbers = [line["publication"] for line in seen]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == max(published)
    return max(
        datetime.fromisoformat(line["timestamp"]) - published[line["publication"]] for line in seen
    )


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_curator_that_starts_on_faulty_rules_keeps_the_active_ones(
    database_url: str, tmp_path: Path
) -> None:
    rules, catalog = copy_policy(tmp_path), tmp_path / "catalog.csv"
    catalog.write_text(SMALL_CATALOG)
    assert assay("import", "catalog", catalog, "--database", database_url).code == 0
    arguments = ("--database", database_url, "--policy", rules, "--journal", tmp_path / "journal")
    (rules / "default.yaml").write_text("apiVersion: assay/v1\nkind: Nothing\n")
    refusal = assay("serve", *arguments)
    assert (refusal.code, "Nothing" in refusal.err) == (3, True)
    (rules / "default.yaml").write_text((POLICY / "default.yaml").read_text())
    with serving(*arguments) as server, server.channel() as channel:
        eventually(lambda: health_status(channel, "assay.snapshot"), lambda seen: seen == "SERVING")
        eventually(lambda: event_times(server, "closed an hour"))
        assert server.stop() == 0
    (rules / "default.yaml").write_text("apiVersion: assay/v1\nkind: Nothing\n")
    with serving(*arguments) as server, server.channel() as channel:
        assert decide(channel, "lab/mixed").policy_revision.number == 1
        assert health_status(channel, "assay.policy") == "NOT_SERVING"
        assert server.stop() == 0


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_decider_answers_while_the_database_is_away(
    database_url: str, postgresql_server: str, store: Engine, tmp_path: Path
) -> None:
    catalog, name = tmp_path / "catalog.csv", store.url.database
    catalog.write_text(SMALL_CATALOG)
    assert assay("import", "catalog", catalog, "--database", database_url).code == 0
    with (
        serving(*CURATE, database_url) as curator,
        serving(*DECIDE, database_url, "--journal", tmp_path / "journal") as decider,
        decider.channel() as channel,
    ):
        eventually(lambda: health_status(channel), lambda seen: seen == "SERVING")
        store.dispose()
        execute(
            postgresql_server,
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
            f"{BACKENDS} WHERE datname = '{name}'",
        )
        eventually(
            lambda: health_status(channel, "assay.snapshot"), lambda seen: seen == "NOT_SERVING"
        )
        assert (health_status(channel), health_status(channel, "assay.store")) == (
            "SERVING",
            "NOT_SERVING",
        )
        assert decide(channel, "lab/mixed").attempts
        execute(postgresql_server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        eventually(lambda: health_status(channel, "assay.snapshot"), lambda seen: seen == "SERVING")
        catalog.write_text(SMALL_CATALOG.replace("lab/twice", "lab/thrice"))
        assert assay("import", "catalog", catalog, "--database", database_url).code == 0
        eventually(lambda: known(channel, "lab/thrice"))
        assert (curator.stop(), decider.stop()) == (0, 0)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_query_server_follows_publications(database_url: str, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.csv"
    catalog.write_text(SMALL_CATALOG)
    with (
        serving("--target", "query", "--database", database_url) as query,
        query.channel() as channel,
    ):
        stub = catalog_pb2_grpc.CatalogServiceStub(channel)
        with pytest.raises(grpc.RpcError) as unavailable:
            stub.ListModels(catalog_pb2.ListModelsRequest(), timeout=30)
        assert unavailable.value.code() is grpc.StatusCode.UNAVAILABLE
        assert health_status(channel, "assay.v1.CatalogService") == "NOT_SERVING"
        with serving(*CURATE, database_url) as curator:
            assert assay("import", "catalog", catalog, "--database", database_url).code == 0
            eventually(lambda: health_status(channel), lambda seen: seen == "SERVING")
            eventually(lambda: stub.ListModels(catalog_pb2.ListModelsRequest(), timeout=30).models)
            assert curator.stop() == 0
        request = audit_pb2.ListDecisionsRequest()
        assert (
            not audit_pb2_grpc.AuditServiceStub(channel)
            .ListDecisions(request, timeout=30)
            .decisions
        )
        with pytest.raises(grpc.RpcError) as nothing:
            decide(channel, "lab/mixed")
        assert nothing.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert query.stop() == 0


@pytest.fixture
def curated(database_url: str, store: Engine) -> str:
    """A pool with a history."""
    hours = import_missed_hours(store)
    bench = CuratorBench(store, end_of_hour(hours[0]) + timedelta(minutes=1))
    bench.work()
    bench.now = end_of_hour(hours[5]) + timedelta(minutes=1)
    bench.work()
    bench.now = end_of_hour(hours[-1]) + timedelta(minutes=1)
    bench.work()
    return database_url


def test_pool_shows_the_current_pool_a_past_one_and_the_history(
    curated: str, store: Engine
) -> None:
    pool, name = f"{MODEL}:exacto", ("--database", curated)
    history = assay("pool", pool, "--history", *name, "--json").json
    assert (history["model"], history["variant"], history["binding"]) == (MODEL, "exacto", "exacto")
    where: dict[str, str] = {}
    for change in history["changes"]:
        tag = change["endpoint_id"].partition("@")[2]
        assert where.get(tag, "unknown") == change["before"]
        where[tag] = change["after"]
        assert change["message"]
        assert change["facts"]
    assert where["steady"] == "member"
    evicted = [change for change in history["changes"] if change["after"] == "evicted"]
    assert evicted
    assert all(change["reasons"] for change in evicted)

    now = assay("pool", pool, *name, "--json").json
    assert {each["tag"] for each in now["members"]} == {
        tag for tag, state in where.items() if state == "member"
    }
    assert all(each["since"] for each in now["members"])
    states = {each["tag"]: each["state"] for each in now["others"]}
    assert states == {tag: where.get(tag, "unknown") for tag in states}

    with reading(store) as connection:
        published = connection.execute(select(publication).order_by(publication.c.sequence)).all()
    early = published[3]
    then = assay("pool", pool, "--at", early.published_at.isoformat(), *name, "--json").json
    assert then["snapshot_id"] != now["snapshot_id"]
    assert {each["tag"] for each in then["members"]} > {each["tag"] for each in now["members"]}
    assert (
        assay("pool", pool, "--now", now["as_of"], *name, "--json").json["members"]
        != now["members"]
    )

    shown = assay("pool", pool, "--history", *name).out
    assert "probation → member" in shown
    assert len(shown.splitlines()) >= len(history["changes"]) + 2
    assert "probation since" in assay("pool", pool, *name).out
    decided = assay("decide", pool, "--tools", "2", *name, "--json").json
    assert {each["tag"] for each in decided["attempts"]} == {each["tag"] for each in now["members"]}


def test_without_a_publication_the_pool_is_judged_without_memory(small: str) -> None:
    pool = assay("pool", "lab/pair:exacto", "--database", small, "--json").json
    assert {each["state"] for each in pool["others"]} == {None}
    history = assay("pool", "lab/pair:exacto", "--history", "--database", small)
    assert (history.code, history.out) == (0, "lab/pair:exacto: no changes yet\n")
    assert_rejected(
        assay("pool", "lab/pair:exacto", "--at", "2026-01-01T00:00:00Z", "--database", small),
        2,
        "--at: '2026-01-01T00:00:00Z' is not a time for which the pool is stored",
        "nothing has been published",
    )


AT = ("--at", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param((*AT, "--now", "2026-01-01T00:00:00Z"), "--at", id="two times"),
        pytest.param((*AT, "--history"), "--history", id="one time and all"),
        pytest.param(
            ("--history", "--now", "2026-01-01T00:00:00Z"), "--history", id="all, judged again"
        ),
        pytest.param((*AT, "--policy", str(POLICY)), "--policy", id="what was, by other rules"),
        pytest.param(
            ("--history", "--policy", str(POLICY)), "--policy", id="the history, by other rules"
        ),
        pytest.param(("--at", "yesterday"), "--at: 'yesterday'", id="no time"),
        pytest.param(
            ("--at", datetime(2999, 1, 1, tzinfo=UTC).isoformat()),
            "in the past",
            id="a time to come",
        ),
    ],
)
def test_contradictory_options_are_rejected(
    small: str, options: tuple[str, ...], words: str
) -> None:
    assert_rejected(assay("pool", "lab/pair:exacto", *options, "--database", small), 2, words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(
            ("--target", "decide", "--now", "2026-01-01T00:00:00Z"), "--now", id="a pinned decider"
        ),
        pytest.param(
            ("--target", "curate", "--now", "2026-01-01T00:00:00Z"), "--now", id="a pinned curator"
        ),
        pytest.param(
            ("--target", "decide", "--policy", str(POLICY)), "--policy", id="rules for a decider"
        ),
        pytest.param(
            ("--target", "query", "--policy", str(POLICY)), "--policy", id="rules for the catalog"
        ),
        pytest.param(
            ("--target", "curate", "--journal", "journal"),
            "--journal",
            id="a journal for a curator",
        ),
        pytest.param(("--target", "everything"), "--target", id="no target"),
    ],
)
def test_options_that_a_target_does_not_use_are_rejected(
    small: str, options: tuple[str, ...], words: str
) -> None:
    assert_rejected(assay("serve", *options, "--database", small), 2, words)
