"""A running server follows changes, reports its health and stops on a signal."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import grpc
import psycopg
import pytest
from sqlalchemy import make_url
from tests.support.catalogs import KIMI, KIMI_CSV, MEMBERS, NOW, SMALL_CATALOG
from tests.support.commands import assay, copy_policy
from tests.support.processes import serving
from tests.support.server_calls import decide, health_status, tags
from tests.support.waiting import eventually

from assay.v1 import catalog_pb2, catalog_pb2_grpc, routing_pb2 as pb, routing_pb2_grpc as pb_grpc


def test_each_part_has_a_health_of_its_own(small_server: grpc.Channel) -> None:
    names = (
        "",
        "assay.v1.RoutingService",
        "assay.v1.CatalogService",
        "assay.policy",
        "assay.store",
    )
    assert {name: health_status(small_server, name) for name in names} == dict.fromkeys(
        names, "SERVING"
    )
    with pytest.raises(grpc.RpcError) as unknown:
        health_status(small_server, "assay.nothing")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_imports_and_edits_become_active_and_a_bad_edit_does_not(
    database_url: str, tmp_path: Path
) -> None:
    policy = copy_policy(tmp_path)
    exacto = policy / "exacto.yaml"
    good = exacto.read_text()

    def state() -> tuple[str, int]:
        listed = assay("policy", "list", policy, "--database", database_url, "--json").json
        return listed["directory"]["state"], listed["in_force"]["number"]

    def members(channel: grpc.Channel) -> set[str]:
        return set(tags(decide(channel, f"{KIMI}:exacto", tools=2)))

    with (
        serving("--database", database_url, "--policy", policy, "--now", NOW) as server,
        server.channel() as channel,
    ):
        with pytest.raises(grpc.RpcError) as unknown:
            members(channel)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND

        # an import
        assert (
            assay(
                "import", "observations", "--create-endpoints", KIMI_CSV, "--database", database_url
            ).code
            == 0
        )
        eventually(lambda: known(channel, KIMI))
        assert members(channel) == MEMBERS
        assert state() == ("active", 1)

        # an edit: a lower threshold admits more endpoints
        edit(exacto, good.replace("accuracy_enter: 0.95", "accuracy_enter: 0.6"))
        assert eventually(lambda: members(channel), lambda now: now != MEMBERS) > MEMBERS
        answer = decide(channel, KIMI)
        assert answer.policy_revision.number == 2
        assert state() == ("active", 2)

        # a bad edit
        edit(exacto, good.replace("params.accuracy_enter)", "params.accuracy_entre)"))
        eventually(
            lambda: health_status(channel, "assay.policy"), lambda seen: seen == "NOT_SERVING"
        )
        assert (health_status(channel), health_status(channel, "assay.v1.RoutingService")) == (
            "SERVING",
            "SERVING",
        )
        assert decide(channel, KIMI).policy_revision == answer.policy_revision
        assert members(channel) > MEMBERS
        assert state() == ("faulty", 2)
        shown = assay("policy", "list", policy, "--database", database_url)
        assert (shown.code, "invalid" in shown.out, "revision 2" in shown.out) == (0, True, True)

        # back again: another revision of the first content
        edit(exacto, good)
        eventually(lambda: health_status(channel, "assay.policy"), lambda seen: seen == "SERVING")
        eventually(lambda: members(channel), lambda now: now == MEMBERS)
        assert state() == ("active", 3)

        # no directory at all
        policy.rename(tmp_path / "away")
        eventually(
            lambda: health_status(channel, "assay.policy"), lambda seen: seen == "NOT_SERVING"
        )
        assert members(channel) == MEMBERS
    refusals = [line["error"] for line in server.log if line["event"] == "policy rejected"]
    assert len(refusals) == 2


def edit(path: Path, text: str) -> None:
    """Replace a file atomically, as editors do."""
    path.with_name(".new").write_text(text)
    path.with_name(".new").replace(path)


def known(channel: grpc.Channel, model: str) -> bool:
    """Whether the server has a model."""
    answer = catalog_pb2_grpc.CatalogServiceStub(channel).ListModels(
        catalog_pb2.ListModelsRequest(), timeout=30
    )
    return model in {each.model for each in answer.models}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    url = f"sqlite:///{tmp_path / 'assay.db'}"
    (tmp_path / "catalog.csv").write_text(SMALL_CATALOG)
    assert assay("import", "catalog", tmp_path / "catalog.csv", "--database", url).code == 0
    with serving("--database", url) as server, server.channel() as channel:
        assert decide(channel, "lab/mixed").attempts
        assert server.stop(number) == 0
    assert [line["event"] for line in server.log][-1] == "stopped"
    assert not any("exception" in line for line in server.log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_wait_counts(number: signal.Signals) -> None:
    program = (
        "import signal\n"
        "from assay.cli.serve import stop_signal\n"
        f"with stop_signal() as wait:\n    signal.raise_signal({number:d})\n    wait()\n"
        f"signal.raise_signal({number:d})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=60, stderr=subprocess.DEVNULL, check=False
    )

    assert done.returncode == -number  # by the second signal


def test_a_policy_revision_ahead_of_the_server_is_rejected(small_server: grpc.Channel) -> None:
    number = decide(small_server, "lab/mixed").policy_revision.number
    assert number >= 1
    assert decide(small_server, "lab/mixed", min_policy_revision=number).attempts
    with pytest.raises(grpc.RpcError) as behind:
        decide(small_server, "lab/mixed", min_policy_revision=number + 1)

    assert behind.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert behind.value.details() == (
        f"min_policy_revision: {number + 1} is newer than the active revision, {number}"
    )


def test_a_batch_of_256_is_answered_item_by_item_and_257_are_rejected(
    small_server: grpc.Channel,
) -> None:
    stub = pb_grpc.RoutingServiceStub(small_server)
    requests = [pb.DecideRequest(model="lab/mixed")] * 255
    results = stub.BatchDecide(
        pb.BatchDecideRequest(requests=[pb.DecideRequest(model="no/such"), *requests])
    ).results

    assert [result.WhichOneof("result") for result in results] == ["status", *["response"] * 255]
    assert (results[0].status.code, results[0].status.message) == (
        5,
        "model: 'no/such' is not in the catalog",
    )
    assert len({result.response.decision_id for result in results[1:]}) == 255
    with pytest.raises(grpc.RpcError) as refused:
        stub.BatchDecide(pb.BatchDecideRequest(requests=[*requests, *requests[:2]]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "257" in str(refused.value.details())


def test_an_edit_made_while_the_database_is_away_becomes_active_when_it_is_back(
    postgresql_server: str, tmp_path: Path
) -> None:
    policy = copy_policy(tmp_path)
    name = "journey_outage"
    url = make_url(postgresql_server).set(database=name).render_as_string(hide_password=False)
    (tmp_path / "catalog.csv").write_text(SMALL_CATALOG)
    with psycopg.connect(postgresql_server, autocommit=True) as server_connection:
        server_connection.execute(f"CREATE DATABASE {name}".encode())
        assert assay("migrate", "--database", url).code == 0
        assert assay("import", "catalog", tmp_path / "catalog.csv", "--database", url).code == 0
        with serving("--database", url, "--policy", policy) as server, server.channel() as channel:
            assert decide(channel, "lab/mixed").policy_revision.number == 1
            server_connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            server_connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
            eventually(
                lambda: health_status(channel, "assay.store"), lambda seen: seen == "NOT_SERVING"
            )
            edit(policy / "default.yaml", (policy / "default.yaml").read_text() + "# edited\n")
            assert decide(channel, "lab/mixed").policy_revision.number == 1
            looks = len(server.log)
            eventually(
                lambda: len(server.log), lambda lines: lines > looks + 1
            )  # a whole look at the edit, in vain

            server_connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
            eventually(
                lambda: health_status(channel, "assay.store"), lambda seen: seen == "SERVING"
            )
            eventually(
                lambda: decide(channel, "lab/mixed").policy_revision.number,
                lambda number: number == 2,
            )
        server_connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
